#include "norm/norm.h"

#include <algorithm>

#include <ATen/Functions.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "norm/batch_norm.h"
#include "norm/depthwise.h"
#include "tensor.h"

namespace heterodyne::norm {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// `dy` in channels-last memory; takes over its reference.
at::Tensor dense_gradient(at::Tensor& dy) {
  at::Tensor dense = dy.contiguous(at::MemoryFormat::ChannelsLast);
  dy.reset();
  return dense;
}

bool tracked(const at::Tensor& t) { return t.defined() && t.requires_grad(); }

bool float_or_bfloat16(const at::Tensor& t) {
  return t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16;
}

// Whether `t` is a channels-last (B,C,H,W) of float or bfloat16 in the CPU's memory.
bool vectors_of_channels(const at::Tensor& t) {
  return t.device().is_cpu() && t.layout() == at::kStrided && float_or_bfloat16(t) && t.dim() == 4 && t.numel() > 0 &&
         t.is_contiguous(at::MemoryFormat::ChannelsLast) && !t.is_neg();
}

bool float_vector(const at::Tensor& t, int64_t length) {
  return t.defined() && t.device().is_cpu() && t.scalar_type() == at::kFloat && t.dim() == 1 && t.size(0) == length &&
         t.is_contiguous() && !t.is_neg();
}

bool same_kind(const at::Tensor& a, const at::Tensor& b) {
  return a.device() == b.device() && a.layout() == b.layout() && a.scalar_type() == b.scalar_type() &&
         a.sizes() == b.sizes() && !a.is_neg();
}

// Whether this is the only reference to the tensor's memory.
bool sole_owner(const at::Tensor& t) { return t.use_count() == 1 && t.storage().use_count() == 1; }

// (2,C) float64: mean and 1/sqrt(variance + eps).
at::Tensor packed(const Statistics& s) {
  const int64_t channels = static_cast<int64_t>(s.mean.size());
  at::Tensor out = at::empty({2, channels}, at::kDouble);
  double* to = out.mutable_data_ptr<double>();
  std::copy(s.mean.begin(), s.mean.end(), to);
  std::copy(s.invstd.begin(), s.invstd.end(), to + channels);
  return out;
}

Statistics unpacked(const at::Tensor& packed) {
  const double* from = packed.const_data_ptr<double>();
  const int64_t channels = packed.size(1);
  return {{from, from + channels}, {from + channels, from + 2 * channels}};
}

struct BatchNormAct : torch::autograd::Function<BatchNormAct> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const std::optional<at::Tensor>& residual, const Statistics& statistics, Activation act) {
    // Without a residual the backward pass recomputes the gate from x; with one, a bit per element is saved.
    Gate gate{act, residual && act != Activation::None ? gate_bits(x) : at::Tensor()};
    at::Tensor y = normalise(x, weight, bias, statistics, residual.value_or(at::Tensor()), gate);
    ctx->save_for_backward({x, weight, bias, packed(statistics), gate.bits});
    ctx->saved_data["act"] = static_cast<int64_t>(act);
    ctx->saved_data["residual"] = residual.has_value();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list& grad_outputs) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "batch_norm_act has no second derivative");
    const at::Tensor dy = dense_gradient(grad_outputs[0]);
    const auto saved = ctx->get_saved_variables();
    const Gate gate{static_cast<Activation>(ctx->saved_data["act"].toInt()), saved[4]};
    const bool residual = ctx->saved_data["residual"].toBool();
    const Needs needs{ctx->needs_input_grad(0), ctx->needs_input_grad(1), ctx->needs_input_grad(2),
                      residual && ctx->needs_input_grad(3)};
    Gradients d =
        batch_norm_gradients(dy, sole_owner(dy), saved[0], saved[1], saved[2], unpacked(saved[3]), gate, needs);
    return {d.x, needs.weight ? d.weight : at::Tensor(), needs.bias ? d.bias : at::Tensor(), d.residual, {}, {}};
  }
};

// The same from ATen's operators, for cases that the kernels do not cover.
at::Tensor composed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const at::Tensor& running_mean, const at::Tensor& running_var, double momentum, double eps,
                    const at::Tensor& residual, Activation act) {
  at::Tensor y = at::batch_norm(x, weight, bias, running_mean, running_var, /*training=*/true, momentum, eps,
                                /*cudnn_enabled=*/true);
  if (residual.defined()) y = at::add(y, residual);
  if (act == Activation::Relu) return at::relu(y);
  if (act == Activation::Relu6) return at::relu6(y);
  return y;
}

struct DepthwiseConv : torch::autograd::Function<DepthwiseConv> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, int64_t stride) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["bias"] = bias.has_value();
    if (bias) ctx->saved_data["bias_type"] = static_cast<int64_t>(bias->scalar_type());
    return depthwise(x, weight, bias.value_or(at::Tensor()), stride);
  }

  static variable_list backward(AutogradContext* ctx, variable_list& grad_outputs) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "depthwise_conv has no second derivative");
    const at::Tensor dy = dense_gradient(grad_outputs[0]);
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const int64_t stride = ctx->saved_data["stride"].toInt();
    at::Tensor dx, dw, db;
    if (ctx->needs_input_grad(0)) dx = depthwise_input_gradient(dy, weight, x.size(2), x.size(3), stride);
    if (ctx->needs_input_grad(1))
      dw = depthwise_weight_gradient(dy, x, weight.size(2), stride).to(weight.scalar_type());
    if (ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2)) {
      db = at::sum(dy, {0, 2, 3}, /*keepdim=*/false, at::kFloat)
               .to(static_cast<at::ScalarType>(ctx->saved_data["bias_type"].toInt()));
    }
    return {dx, dw, db, {}};
  }
};

bool depthwise_covers(const at::Tensor& x, const at::Tensor& weight) {
  return vectors_of_channels(x) && weight.device().is_cpu() && weight.layout() == at::kStrided &&
         float_or_bfloat16(weight) && weight.dim() == 4 && weight.size(0) == x.size(1) && weight.size(1) == 1 &&
         weight.size(2) == weight.size(3) && (weight.size(2) == 3 || weight.size(2) == 5 || weight.size(2) == 7);
}

// Whether the kernels can use the bias.
bool suits_as_bias(const at::Tensor& bias, const at::Tensor& x) {
  return bias.device().is_cpu() && bias.layout() == at::kStrided && float_or_bfloat16(bias) && bias.dim() == 1 &&
         bias.size(0) == x.size(1);
}

at::Tensor as_type(const at::Tensor& t, at::ScalarType type) { return t.defined() ? t.to(type) : t; }

}  // namespace

size_t batch_norm_act(size_t x_address, size_t weight_address, size_t bias_address, size_t running_mean_address,
                      size_t running_var_address, double momentum, double eps, size_t residual_address,
                      uint8_t act_code) {
  RECORD_FUNCTION("heterodyne::batch_norm_act", c10::ArrayRef<const c10::IValue>{});
  const at::Tensor &x = tensor(x_address), &weight = tensor(weight_address), &bias = tensor(bias_address);
  const at::Tensor &running_mean = tensor(running_mean_address), &running_var = tensor(running_var_address);
  at::Tensor residual = tensor_or_none(residual_address);
  const auto act = static_cast<Activation>(act_code);

  TORCH_CHECK(x.dim() >= 2, "batch norm needs (B,C,...), got ", x.sizes());
  const int64_t channels = x.size(1);
  TORCH_CHECK(x.numel() != channels, "batch norm in training needs more than one value per channel, got ", x.sizes());
  const bool covered = vectors_of_channels(x) && float_vector(weight, channels) && float_vector(bias, channels) &&
                       float_vector(running_mean, channels) && float_vector(running_var, channels) &&
                       (!residual.defined() || same_kind(residual, x));
  if (!covered) return give(composed(x, weight, bias, running_mean, running_var, momentum, eps, residual, act));

  if (residual.defined()) residual = residual.contiguous(at::MemoryFormat::ChannelsLast);
  const Statistics statistics = batch_statistics(x, running_mean, running_var, momentum, eps);
  const bool differentiate =
      at::GradMode::is_enabled() && (tracked(x) || tracked(weight) || tracked(bias) || tracked(residual));
  if (!differentiate) return give(normalise(x, weight, bias, statistics, residual, {act, {}}));
  const auto maybe_residual = residual.defined() ? std::optional(residual) : std::nullopt;
  return give(BatchNormAct::apply(x, weight, bias, maybe_residual, statistics, act));
}

size_t depthwise_conv(size_t x_address, size_t weight_address, size_t bias_address, int64_t stride) {
  RECORD_FUNCTION("heterodyne::depthwise_conv", c10::ArrayRef<const c10::IValue>{});
  at::Tensor x = tensor(x_address);
  const at::Tensor &weight = tensor(weight_address), bias = tensor_or_none(bias_address);
  TORCH_CHECK(x.dim() == 4, "a depthwise convolution needs (B,C,H,W), got ", x.sizes());
  TORCH_CHECK(weight.dim() == 4 && weight.size(0) == x.size(1) && weight.size(1) == 1 &&
                  weight.size(2) == weight.size(3) && weight.size(2) % 2 == 1,
              "a depthwise convolution of ", x.sizes(), " needs a weight (", x.size(1), ",1,k,k) with k odd, got ",
              weight.sizes());
  TORCH_CHECK(stride >= 1, "a convolution's stride must be at least 1, got ", stride);

  // What autocast does for its known convolutions.
  const bool autocast = x.device().is_cpu() && at::autocast::is_autocast_enabled(at::kCPU);
  if (autocast && x.scalar_type() == at::kFloat) x = x.to(at::autocast::get_autocast_dtype(at::kCPU));

  const bool covered =
      depthwise_covers(x, weight) && (stride == 1 || stride == 2) && (!bias.defined() || suits_as_bias(bias, x));
  if (!covered) {
    const at::ScalarType type = x.scalar_type();
    const int64_t pad = weight.size(2) / 2;
    return give(
        at::conv2d(x, as_type(weight, type), as_type(bias, type), {stride, stride}, {pad, pad}, {1, 1}, x.size(1)));
  }
  const bool differentiate = at::GradMode::is_enabled() && (tracked(x) || tracked(weight) || tracked(bias));
  if (!differentiate) return give(depthwise(x, weight, bias, stride));
  return give(DepthwiseConv::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt, stride));
}

bool depthwise_suits(size_t x, size_t weight) { return depthwise_covers(tensor(x), tensor(weight)); }

}  // namespace heterodyne::norm
