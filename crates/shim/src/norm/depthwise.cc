#include "norm/depthwise.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include "element.h"

namespace heterodyne::norm {
namespace {

template <int N>
using Constant = std::integral_constant<int, N>;

template <class F>
void with_kernel(int64_t kernel, F f) {
  if (kernel == 3) return f(Constant<3>{});
  if (kernel == 5) return f(Constant<5>{});
  f(Constant<7>{});
}

at::Tensor unwritten(const at::Tensor& like, int64_t height, int64_t width) {
  return at::empty({like.size(0), like.size(1), height, width}, like.options(), at::MemoryFormat::ChannelsLast);
}

}  // namespace
}  // namespace heterodyne::norm

#define HETERODYNE_KERNELS "norm/depthwise_kernels.h"
#include "simd/levels.h"

namespace heterodyne::norm {

at::Tensor depthwise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t stride) {
  return HETERODYNE_DISPATCH(depthwise(x, weight, bias, stride));
}

at::Tensor depthwise_input_gradient(const at::Tensor& dy, const at::Tensor& weight, int64_t height, int64_t width,
                                    int64_t stride) {
  return HETERODYNE_DISPATCH(depthwise_input_gradient(dy, weight, height, width, stride));
}

at::Tensor depthwise_weight_gradient(const at::Tensor& dy, const at::Tensor& x, int64_t kernel, int64_t stride) {
  return HETERODYNE_DISPATCH(depthwise_weight_gradient(dy, x, kernel, stride));
}

}  // namespace heterodyne::norm
