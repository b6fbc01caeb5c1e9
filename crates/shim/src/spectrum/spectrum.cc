#include "spectrum/spectrum.h"

#include <cmath>
#include <numeric>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

namespace heterodyne::spectrum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A sample: `rows` bins of `channels` numbers, each bin with its weight w and its direction r.
struct Plane {
  const float *weight, *direction;
  int64_t rows, channels;
  double share, eps;

  Plane(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& direction, double share, double eps)
      : weight(weight.const_data_ptr<float>()),
        direction(direction.const_data_ptr<float>()),
        rows(x.size(1)),
        channels(x.size(2)),
        share(share),
        eps(eps) {}

  int64_t numbers() const { return rows * channels; }
  // The sum of r^2 over the sample.
  double length() const {
    double sum = 0;
    for (int64_t n = 0; n < rows; ++n) sum += double(direction[n]) * direction[n];
    return sum * double(channels);
  }
};

// What the passes over a sample find: d = w x - mean r, z = scale d.
struct Fit {
  double mean, scale;
  double squares;  // of z - t
  double along;    // the sum of (z - t) d
  double lean;     // the sum of (z - t) r
};

}  // namespace
}  // namespace heterodyne::spectrum

#define HETERODYNE_KERNELS "spectrum/kernels.h"
#include "simd/levels.h"
#include "tensor.h"

namespace heterodyne::spectrum {
namespace {

struct StandardMse : torch::autograd::Function<StandardMse> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& direction, const at::Tensor& target, double share, double eps) {
    const int64_t samples = x.size(0);
    const Plane plane(x, weight, direction, share, eps);
    TORCH_CHECK(plane.length() > 0, "the direction of a mean cannot be zero in all bins");
    const at::Tensor fits = at::empty({samples, int64_t(sizeof(Fit) / sizeof(double))}, at::kDouble);
    Fit* fit = reinterpret_cast<Fit*>(fits.mutable_data_ptr<double>());
    HETERODYNE_DISPATCH(fit_all(x, target, plane, fit));
    const double squares =
        std::accumulate(fit, fit + samples, 0.0, [](double sum, const Fit& f) { return sum + f.squares; });
    ctx->save_for_backward({x, weight, direction, target, fits});
    ctx->saved_data["share"] = share;
    ctx->saved_data["eps"] = eps;
    return at::full({}, share * squares / double(x.numel()), x.options());
  }

  static variable_list backward(AutogradContext* ctx, variable_list& grad_outputs) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "standard_mse has no second derivative");
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &target = saved[3];
    const Plane plane(x, saved[1], saved[2], ctx->saved_data["share"].toDouble(), ctx->saved_data["eps"].toDouble());
    const Fit* fit = reinterpret_cast<const Fit*>(saved[4].const_data_ptr<double>());
    const at::Tensor dx = at::empty_like(x);
    HETERODYNE_DISPATCH(gradient_of(x, target, plane, fit, grad_outputs[0].item<double>(), dx));
    return {dx, {}, {}, {}, {}, {}};
  }
};

bool is_plain(const at::Tensor& t) {
  return t.device().is_cpu() && t.layout() == at::kStrided && t.scalar_type() == at::kFloat && !t.is_neg();
}

}  // namespace

bool standard_suits(size_t address) {
  const at::Tensor& x = tensor(address);
  return is_plain(x) && x.dim() == 3 && x.numel() > 0;
}

size_t standard_mse(size_t x_address, size_t weight_address, size_t direction_address, size_t target_address,
                    double share, double eps) {
  RECORD_FUNCTION("heterodyne::standard_mse", c10::ArrayRef<const c10::IValue>{});
  const at::Tensor &x = tensor(x_address), &weight = tensor(weight_address), &direction = tensor(direction_address),
                   &target = tensor(target_address);
  TORCH_CHECK(standard_suits(x_address), "standardised spectra are float (B,N,C) on a CPU, got ", x.scalar_type(), " ",
              x.sizes());
  for (const at::Tensor* row : {&weight, &direction}) {
    TORCH_CHECK(is_plain(*row) && row->dim() == 1 && row->size(0) == x.size(1), "spectra of ", x.sizes(),
                " need a float weight and direction for each bin, got ", row->scalar_type(), " ", row->sizes());
  }
  TORCH_CHECK(is_plain(target) && target.sizes() == x.sizes(), "spectra of ", x.sizes(),
              " need a float target of their shape, got ", target.scalar_type(), " ", target.sizes());
  return give(StandardMse::apply(x.contiguous(), weight.contiguous(), direction.contiguous(),
                                 target.detach().contiguous(), share, eps));
}

}  // namespace heterodyne::spectrum
