// Weighted sums over the windows of channels-last maps, for several numbers of windows per axis in one pass. Tensors
// cross as in bridge.h.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rust/cxx.h"

namespace heterodyne::window {

size_t window_sums(size_t x, size_t weights, rust::Slice<const int64_t> counts);
bool window_suits(size_t x);

}  // namespace heterodyne::window
