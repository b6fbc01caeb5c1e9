// Memory for intermediate results.
#pragma once
#include <cstdint>

namespace heterodyne::packed {

// Memory for at least `floats` floats, aligned to a cache line. It belongs to the calling thread until the next call
// with the same slot.
float* scratch(int slot, int64_t floats);

}  // namespace heterodyne::packed
