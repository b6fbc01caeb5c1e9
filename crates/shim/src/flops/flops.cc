#include "flops/flops.h"

#include <atomic>
#include <string_view>

#include <ATen/core/ivalue.h>
#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

namespace heterodyne::flops {
namespace {

std::atomic<uint64_t> num_products{0}, num_convolutions{0};
at::CallbackHandle handle = at::INVALID_CALLBACK_HANDLE;

// A multiplication and an addition for each element of `out` and each summand.
uint64_t multiply_add(int64_t out, int64_t summands) {
  return 2 * static_cast<uint64_t>(out) * static_cast<uint64_t>(summands);
}

// (.., M, K) x (.., K, N)
uint64_t product(const at::Tensor& a, const at::Tensor& b) { return multiply_add(a.numel(), b.size(-1)); }

// Each element of the output sums over a kernel in the input channels of its group, the size of weight[0].
uint64_t convolution(const at::Tensor& out, const at::Tensor& weight) {
  return multiply_add(out.numel(), weight.numel() / weight.size(0));
}

int64_t outputs_along(int64_t n, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  return (n + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
}

uint64_t forward_convolution(c10::ArrayRef<const c10::IValue> in) {
  const at::Tensor& x = in[0].toTensor();
  const at::Tensor& weight = in[1].toTensor();
  const auto stride = in[3].toIntVector(), padding = in[4].toIntVector(), dilation = in[5].toIntVector();
  const auto at = [](const std::vector<int64_t>& v, size_t i) { return v.size() == 1 ? v[0] : v[i]; };
  int64_t out = x.size(0) * weight.size(0);
  for (int64_t d = 2; d < x.dim(); ++d) {
    const size_t i = static_cast<size_t>(d - 2);
    out *= outputs_along(x.size(d), weight.size(d), at(stride, i), at(padding, i), at(dilation, i));
  }
  return multiply_add(out, weight.numel() / weight.size(0));
}

void count(std::string_view name, c10::ArrayRef<const c10::IValue> in) {
  const auto tensor = [&](size_t i) -> const at::Tensor& { return in[i].toTensor(); };
  if (name == "aten::mm" || name == "aten::bmm") {
    num_products += product(tensor(0), tensor(1));
  } else if (name == "aten::addmm" || name == "aten::baddbmm") {
    num_products += product(tensor(1), tensor(2));
  } else if (name == "aten::convolution") {
    num_convolutions += forward_convolution(in);
  } else if (name == "aten::convolution_backward") {
    const auto mask = in[10].toBoolList();
    num_convolutions += (uint64_t{mask[0]} + uint64_t{mask[1]}) * convolution(tensor(0), tensor(2));
  } else if (name.find("scaled_dot_product_") != std::string_view::npos && name.find("aten::_scaled") == 0) {
    // Forward: Q K^T and P V. Backward: both again for the gradient of each factor, and P once more.
    const bool backward = name.find("backward") != std::string_view::npos;
    const size_t q = backward ? 1 : 0;
    const at::Tensor& k = tensor(q + 1);
    num_products += (backward ? 5 : 2) * multiply_add(tensor(q).numel(), k.size(-2));
  }
}

std::unique_ptr<at::ObserverContext> observe(const at::RecordFunction& f) {
  // An operator with unexpected arguments is not counted, because no exception may be thrown into libtorch from here.
  try {
    count(f.name(), f.inputs());
  } catch (...) {
  }
  return nullptr;
}

}  // namespace

void start() {
  stop();
  num_products = 0;
  num_convolutions = 0;
  handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(observe).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

void stop() {
  if (handle == at::INVALID_CALLBACK_HANDLE) return;
  at::removeCallback(handle);
  handle = at::INVALID_CALLBACK_HANDLE;
}

uint64_t products() { return num_products; }
uint64_t convolutions() { return num_convolutions; }

}  // namespace heterodyne::flops
