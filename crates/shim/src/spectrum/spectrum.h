// The distance of standardised spectra from a target, in one node. Tensors cross as in bridge.h.
#pragma once
#include <cstddef>

#include "rust/cxx.h"

namespace heterodyne::spectrum {

size_t standard_mse(size_t x, size_t weight, size_t direction, size_t target, double share, double eps);
bool standard_suits(size_t x);

}  // namespace heterodyne::spectrum
