// Parts of libtorch's C++ interface that tch's C interface does not offer. Tensors cross as addresses of at::Tensor
// objects that Rust owns (tch's C_tensor); a returned address is a new object that the caller owns.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include <ATen/Generator.h>

#include "rust/cxx.h"

namespace heterodyne {

using Tensors = rust::Slice<const size_t>;

// device: 0 is the CPU, 1 is CUDA.
// Number formats of autocast: 0 is off, 1 bfloat16, 2 float16.
uint8_t autocast_format(uint8_t device);
void autocast_set(uint8_t device, uint8_t format);
void autocast_enter();
void autocast_leave();

// TF32 on a GPU: 1 allows it in matrix products, 2 in convolutions, 3 in both. Of the whole process.
uint8_t tf32();
void set_tf32(uint8_t parts);

// Whether kernels whose result does not depend on timing are required. Of the whole process; before CUDA starts.
bool deterministic();
void set_deterministic(bool required);

// A variable of the environment, for libraries that read it when they start.
void set_variable(rust::Str name, rust::Str value);

bool grad_mode();
void grad_mode_set(bool enabled);

uint64_t peak_device_bytes();

size_t channels_last(size_t x);
bool is_channels_last(size_t x);

struct Rng {
  at::Generator generator;
};
std::unique_ptr<Rng> rng_new(uint64_t seed);
std::unique_ptr<Rng> rng_global(uint8_t device);
void rng_seed(const Rng& rng, uint64_t seed);
size_t rng_state(const Rng& rng);
void rng_set_state(const Rng& rng, size_t state);
void rng_normal(const Rng& rng, size_t x, double mean, double std);
void rng_uniform(const Rng& rng, size_t x, double low, double high);

// The rate is `lr_scalar`, a tensor, unless its address is 0; else `lr`.
void sgd_step(Tensors params, Tensors momenta, size_t found_inf, double lr, size_t lr_scalar, double momentum,
              double weight_decay, bool nesterov);
void adamw_step(Tensors params, Tensors exp_avgs, Tensors exp_avg_sqs, Tensors steps, size_t found_inf, double lr,
                size_t lr_scalar, double beta1, double beta2, double weight_decay, double eps);
size_t grad_norm(Tensors params);
void grad_scale(Tensors params, size_t factor);
void grad_clear(Tensors params);
void lerp(Tensors targets, Tensors sources, double weight);

}  // namespace heterodyne
