#include "bridge.h"
#include "tensor.h"

#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Functions.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/env.h>

namespace heterodyne {
namespace {

at::DeviceType device_type(uint8_t device) { return device == 0 ? at::kCPU : at::kCUDA; }

// The tensors that have a gradient, with their positions, so their states can be picked.
struct WithGrad {
  std::vector<size_t> index;
  std::vector<at::Tensor> params, grads;

  explicit WithGrad(Tensors addresses) {
    for (size_t i = 0; i < addresses.size(); ++i) {
      const at::Tensor& p = tensor(addresses[i]);
      if (!p.grad().defined()) continue;
      index.push_back(i);
      params.push_back(p);
      grads.push_back(p.grad());
    }
  }

  std::vector<at::Tensor> pick(Tensors addresses) const {
    std::vector<at::Tensor> out;
    out.reserve(index.size());
    for (size_t i : index) out.push_back(tensor(addresses[i]));
    return out;
  }
};

std::vector<at::Tensor> list(Tensors addresses) {
  std::vector<at::Tensor> out;
  out.reserve(addresses.size());
  for (size_t a : addresses) out.push_back(tensor(a));
  return out;
}

}  // namespace

uint8_t autocast_format(uint8_t device) {
  const at::DeviceType type = device_type(device);
  if (!at::autocast::is_autocast_enabled(type)) return 0;
  return at::autocast::get_autocast_dtype(type) == at::kHalf ? 2 : 1;
}

void autocast_set(uint8_t device, uint8_t format) {
  const at::DeviceType type = device_type(device);
  if (format != 0) at::autocast::set_autocast_dtype(type, format == 2 ? at::kHalf : at::kBFloat16);
  at::autocast::set_autocast_enabled(type, format != 0);
}

void autocast_enter() { at::autocast::increment_nesting(); }

// Weights that were cast are cached until the outermost region ends; after that an optimizer step may change them.
void autocast_leave() {
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
}

uint8_t tf32() {
  const at::Context& context = at::globalContext();
  return static_cast<uint8_t>((context.allowTF32CuBLAS() ? 1 : 0) | (context.allowTF32CuDNN() ? 2 : 0));
}

void set_tf32(uint8_t parts) {
  at::globalContext().setAllowTF32CuBLAS((parts & 1) != 0);
  at::globalContext().setAllowTF32CuDNN((parts & 2) != 0);
}

bool deterministic() { return at::globalContext().deterministicAlgorithms(); }

void set_deterministic(bool required) {
  at::Context& context = at::globalContext();
  context.setDeterministicAlgorithms(required, /*warn_only=*/false);
  // It would overwrite all new memory, for programs that read it before they write it.
  context.setDeterministicFillUninitializedMemory(false);
  context.setDeterministicCuDNN(required);
  // cuDNN measures its algorithms at the first use of each shape; which one wins depends on timing.
  context.setBenchmarkCuDNN(!required);
  // cuBLAS reads it when it starts.
  if (required) c10::utils::set_env("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/false);
}

void set_variable(rust::Str name, rust::Str value) {
  c10::utils::set_env(std::string(name).c_str(), std::string(value).c_str());
}

bool grad_mode() { return at::GradMode::is_enabled(); }
void grad_mode_set(bool enabled) { at::GradMode::set_enabled(enabled); }

uint64_t peak_device_bytes() {
  const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(0);
  return static_cast<uint64_t>(
      stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak);
}

size_t channels_last(size_t x) { return give(tensor(x).contiguous(at::MemoryFormat::ChannelsLast)); }
bool is_channels_last(size_t x) { return tensor(x).is_contiguous(at::MemoryFormat::ChannelsLast); }

std::unique_ptr<Rng> rng_new(uint64_t seed) { return std::make_unique<Rng>(Rng{at::detail::createCPUGenerator(seed)}); }

std::unique_ptr<Rng> rng_global(uint8_t device) {
  return std::make_unique<Rng>(Rng{at::globalContext().defaultGenerator(at::Device(device_type(device)))});
}

void rng_seed(const Rng& rng, uint64_t seed) {
  at::Generator g = rng.generator;
  std::lock_guard<std::mutex> lock(g.mutex());
  g.set_current_seed(seed);
}

size_t rng_state(const Rng& rng) { return give(rng.generator.get_state()); }

void rng_set_state(const Rng& rng, size_t state) {
  at::Generator g = rng.generator;
  g.set_state(tensor(state));
}

void rng_normal(const Rng& rng, size_t x, double mean, double std) {
  at::NoGradGuard no_grad;
  at::Tensor t = tensor(x);
  t.normal_(mean, std, rng.generator);
}

void rng_uniform(const Rng& rng, size_t x, double low, double high) {
  at::NoGradGuard no_grad;
  at::Tensor t = tensor(x);
  t.uniform_(low, high, rng.generator);
}

// With a momentum that starts at zero, PyTorch's first step (buffer = gradient) equals every other step.
void sgd_step(Tensors params, Tensors momenta, size_t found_inf, double lr, size_t lr_scalar, double momentum,
              double weight_decay, bool nesterov) {
  at::NoGradGuard no_grad;
  WithGrad some(params);
  if (some.params.empty()) return;
  std::vector<at::Tensor> buffers;
  if (momentum != 0.0) buffers = some.pick(momenta);
  const auto update = [&](const auto& rate) {
    at::_fused_sgd_(some.params, some.grads, buffers, weight_decay, momentum, rate, /*dampening=*/0.0, nesterov,
                    /*maximize=*/false, /*is_first_step=*/false, /*grad_scale=*/std::nullopt, tensor(found_inf));
  };
  lr_scalar == 0 ? update(lr) : update(tensor(lr_scalar));
}

void adamw_step(Tensors params, Tensors exp_avgs, Tensors exp_avg_sqs, Tensors steps, size_t found_inf, double lr,
                size_t lr_scalar, double beta1, double beta2, double weight_decay, double eps) {
  at::NoGradGuard no_grad;
  WithGrad some(params);
  if (some.params.empty()) return;
  const at::Tensor& inf = tensor(found_inf);
  std::vector<at::Tensor> counts = some.pick(steps);
  // A skipped step is not counted; otherwise the bias correction would run ahead of the averages.
  at::_foreach_add_(counts, at::rsub(inf, 1.0));
  const auto update = [&](const auto& rate) {
    at::_fused_adamw_(some.params, some.grads, some.pick(exp_avgs), some.pick(exp_avg_sqs), /*max_exp_avg_sqs=*/{},
                      counts, rate, beta1, beta2, weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false,
                      /*grad_scale=*/std::nullopt, inf);
  };
  lr_scalar == 0 ? update(lr) : update(tensor(lr_scalar));
}

size_t grad_norm(Tensors params) {
  at::NoGradGuard no_grad;
  WithGrad some(params);
  TORCH_CHECK(!some.grads.empty(), "no parameter has a gradient");
  return give(at::linalg_vector_norm(at::stack(at::_foreach_norm(some.grads, 2))));
}

void grad_scale(Tensors params, size_t factor) {
  at::NoGradGuard no_grad;
  WithGrad some(params);
  if (!some.grads.empty()) at::_foreach_mul_(some.grads, tensor(factor));
}

void grad_clear(Tensors params) {
  for (size_t p : params) tensor(p).mutable_grad().reset();
}

void lerp(Tensors targets, Tensors sources, double weight) {
  at::NoGradGuard no_grad;
  if (targets.size() != 0) at::_foreach_lerp_(list(targets), list(sources), weight);
}

}  // namespace heterodyne
