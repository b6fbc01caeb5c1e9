// 3x3 convolutions with fewer multiplications. Tensors cross as in bridge.h.
#pragma once
#include <cstddef>

namespace heterodyne::winograd {

// conv2d(x, weight, stride 1, padding 1), differentiable in both.
size_t conv3x3(size_t x_bchw, size_t weight);

// Whether conv3x3 takes the fast path instead of at::conv2d.
bool suits(size_t x_bchw, size_t weight);

}  // namespace heterodyne::winograd
