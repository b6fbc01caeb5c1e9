// Linear maps and convolutions of a frozen network: weights are laid out for the machine once, and no graph is
// recorded. Tensors cross as in bridge.h; the address 0 means no tensor.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "packed/layers.h"
#include "rust/cxx.h"

namespace heterodyne::packed {

class Linear {
 public:
  // weight (outputs, inputs) and bias (outputs) or none, of one kind, in which `forward` computes.
  Linear(at::Tensor weight, at::Tensor bias);

  // post(x weight^T + bias) on the last dimension, for the outputs `from` to `from + count`.
  at::Tensor forward(const at::Tensor& x, uint8_t post, const at::Tensor& other, int64_t from, int64_t count) const;

  // A tensor with the device and kind in which `forward` computes.
  const at::Tensor& like() const { return panels.defined() ? panels : weight; }

  // The kernels that the panels are for.
  const Kernels& kernels() const { return kernels_; }

  int64_t inputs, outputs;
  at::Tensor weight, bias;
  // The weight in panels; undefined if ATen computes. The bias is padded to whole panels.
  at::Tensor panels, padded_bias;

 private:
  // The weight of some outputs in oneDNN's layout; a part is converted on first use.
  at::Tensor reordered(int64_t from, int64_t count) const;

  struct Part {
    int64_t from;
    at::Tensor weight;
  };
  const Kernels& kernels_ = packed::kernels();
  bool onednn_ = false;  // whether oneDNN multiplies, with the weight in its layout
  mutable std::vector<Part> parts_;
};

class Conv {
 public:
  // weight (outputs, inputs/groups, k, k) and bias (outputs) or none, of one kind, in which `forward` computes.
  Conv(at::Tensor weight, at::Tensor bias, int64_t stride, int64_t padding, int64_t groups);

  at::Tensor forward(const at::Tensor& x, uint8_t post, const at::Tensor& other) const;

 private:
  // By oneDNN, with one of kNone, kRelu, kRelu6 and, in bfloat16, kGelu.
  at::Tensor convolve(const at::Tensor& x, Post post) const;

  at::Tensor weight_, bias_;
  std::unique_ptr<Linear> pointwise_;  // the same map, if each pixel is mapped separately
  bool winograd_ = false;              // whether winograd.h supports the shape
  bool onednn_bf16_ = false;           // whether oneDNN computes in bfloat16
  bool onednn_ = false;                // whether oneDNN may compute; its layout of the weight is made on first use
  mutable at::Tensor reordered_;
  std::array<int64_t, 2> stride_, padding_;
  int64_t groups_;
};

uint64_t version(size_t x);

std::unique_ptr<Linear> linear_new(size_t weight, size_t bias);
size_t linear_forward(const Linear& linear, size_t x, uint8_t post, size_t other, int64_t from, int64_t count);
size_t mlp_forward(const Linear& first, const Linear& second, size_t x, uint8_t post, size_t other);
size_t mix_forward(const Linear& linear, size_t x, uint8_t post, size_t other);
size_t mix_mlp_forward(const Linear& first, const Linear& second, size_t x, uint8_t post, size_t other);
size_t attention_forward(size_t q, size_t k, size_t v, int64_t heads);

std::unique_ptr<Conv> conv_new(size_t weight, size_t bias, int64_t stride, int64_t padding, int64_t groups);
size_t conv_forward(const Conv& conv, size_t x, uint8_t post, size_t other);

}  // namespace heterodyne::packed
