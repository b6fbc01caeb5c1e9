// Dispatches on the element type of a tensor.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/util/BFloat16.h>

namespace heterodyne {

// Calls `f` with a null pointer to the element type of `x`: float, or else bfloat16.
template <class F>
auto with_type(const at::Tensor& x, F f) {
  if (x.scalar_type() == at::kFloat) return f(static_cast<float*>(nullptr));
  return f(static_cast<c10::BFloat16*>(nullptr));
}

}  // namespace heterodyne
