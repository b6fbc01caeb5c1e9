// Depthwise convolution of channels-last images with a square odd kernel, padded to keep the map's size at stride 1.
#pragma once
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace heterodyne::norm {

// `x` (B,C,H,W) channels-last float or bfloat16, `weight` (C,1,k,k), k 3, 5 or 7, `bias` (C) or undefined, stride 1 or
// 2.
at::Tensor depthwise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t stride);

// The gradient in an input of (B,C,height,width).
at::Tensor depthwise_input_gradient(const at::Tensor& dy, const at::Tensor& weight, int64_t height, int64_t width,
                                    int64_t stride);

// The gradient (C,1,k,k) in the weight, float.
at::Tensor depthwise_weight_gradient(const at::Tensor& dy, const at::Tensor& x, int64_t kernel, int64_t stride);

}  // namespace heterodyne::norm
