// The passes of batch norm in training over channels-last memory, each of which reads and writes every element once.
#pragma once
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace heterodyne::norm {

enum class Activation : uint8_t { None = 0, Relu = 1, Relu6 = 2 };

// The statistics that normalise the batch, per channel.
struct Statistics {
  std::vector<double> mean, invstd;
};

// Computes mean and 1/sqrt(variance + eps) of `x`, and moves the running averages (C) towards the mean and the unbiased
// variance.
Statistics batch_statistics(const at::Tensor& x, const at::Tensor& running_mean, const at::Tensor& running_var,
                            double momentum, double eps);

// The elements whose gradient passes the activation.
struct Gate {
  Activation act;
  at::Tensor bits;  // one per element, int64; if undefined, recomputed from x
};

// y = act((x - mean)·invstd·weight + bias + residual); an undefined residual adds nothing; `bits` are written if
// defined.
at::Tensor normalise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     const Statistics& statistics, const at::Tensor& residual, const Gate& gate);

// One bit for each element of `x`, unset, for `normalise` to write.
at::Tensor gate_bits(const at::Tensor& x);

struct Gradients {
  at::Tensor x, weight, bias, residual;
};

struct Needs {
  bool x, weight, bias, residual;
};

// The required gradients, given `dy`. If `dy_is_free`, nothing else reads `dy`, and its memory holds one of the
// results.
Gradients batch_norm_gradients(const at::Tensor& dy, bool dy_is_free, const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias, const Statistics& statistics, const Gate& gate, Needs needs);

}  // namespace heterodyne::norm
