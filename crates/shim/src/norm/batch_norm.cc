#include "norm/batch_norm.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include "element.h"

namespace heterodyne::norm {
namespace {

template <Activation Act>
using ActivationTag = std::integral_constant<Activation, Act>;

template <class F>
auto with_activation(Activation act, F f) {
  switch (act) {
    case Activation::Relu:
      return f(ActivationTag<Activation::Relu>{});
    case Activation::Relu6:
      return f(ActivationTag<Activation::Relu6>{});
    default:
      return f(ActivationTag<Activation::None>{});
  }
}

template <class F>
auto with_flag(bool flag, F f) {
  return flag ? f(std::true_type{}) : f(std::false_type{});
}

at::Tensor unwritten(const at::Tensor& x) { return at::empty(x.sizes(), x.options(), at::MemoryFormat::ChannelsLast); }

}  // namespace
}  // namespace heterodyne::norm

#define HETERODYNE_KERNELS "norm/batch_norm_kernels.h"
#include "simd/levels.h"

namespace heterodyne::norm {

Statistics batch_statistics(const at::Tensor& x, const at::Tensor& running_mean, const at::Tensor& running_var,
                            double momentum, double eps) {
  return HETERODYNE_DISPATCH(batch_statistics(x, running_mean, running_var, momentum, eps));
}

at::Tensor gate_bits(const at::Tensor& x) { return at::empty({(x.numel() + 63) / 64}, x.options().dtype(at::kLong)); }

at::Tensor normalise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     const Statistics& statistics, const at::Tensor& residual, const Gate& gate) {
  return HETERODYNE_DISPATCH(normalise(x, weight, bias, statistics, residual, gate));
}

Gradients batch_norm_gradients(const at::Tensor& dy, bool dy_is_free, const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias, const Statistics& statistics, const Gate& gate, Needs needs) {
  return HETERODYNE_DISPATCH(batch_norm_gradients(dy, dy_is_free, x, weight, bias, statistics, gate, needs));
}

}  // namespace heterodyne::norm
