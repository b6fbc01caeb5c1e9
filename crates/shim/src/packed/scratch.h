// Memory for intermediate results.
#pragma once
#include <cstdint>

namespace heterodyne::packed {

// At least `floats` of memory, aligned to a cache line, that belongs to the calling thread until it asks again in the
// same slot.
float* scratch(int slot, int64_t floats);

}  // namespace heterodyne::packed
