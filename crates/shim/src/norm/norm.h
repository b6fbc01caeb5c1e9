// Batch norm with the addition and the activation that follow it, and depthwise convolution, for channels-last tensors
// on the CPU. Tensors cross as in bridge.h; the address 0 means no tensor.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rust/cxx.h"

namespace heterodyne::norm {

size_t batch_norm_act(size_t x, size_t weight, size_t bias, size_t running_mean, size_t running_var, double momentum,
                      double eps, size_t residual, uint8_t act);

size_t depthwise_conv(size_t x, size_t weight, size_t bias, int64_t stride);
bool depthwise_suits(size_t x, size_t weight);

}  // namespace heterodyne::norm
