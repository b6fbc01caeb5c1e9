// What this processor can do, and how much of that is used.
#pragma once
#include <cstdint>

#include "rust/cxx.h"

namespace heterodyne::cpu {

// Each has what the ones before it have. Outside of x86-64 there is only the first.
enum class Level : uint8_t {
  kBaseline,    // vectors of 16 bytes: SSE2, NEON
  kAvx2,        // and fused multiply-add
  kAvx512,      // F, BW, DQ, VL
  kAvx512Bf16,  // products of bfloat16 vectors
  kAmx,         // products of bfloat16 matrices
};

// What the processor has.
Level found();

// What the calling thread uses: what the processor has, no more than HETERODYNE_CPU says, and no more than `limit`
// says.
Level level();

// Limits the calling thread from here on; returns the limit that it had.
Level limit(Level most);

// Whether bfloat16 products are much faster than float ones at this thread's level.
bool fast_bf16();

// Bytes of a core's second-level cache, or of one of 1 MiB where the system does not tell.
int64_t second_level_cache();

// What is wrong with HETERODYNE_CPU; empty if nothing is.
rust::String complaint();

inline uint8_t found_code() { return static_cast<uint8_t>(found()); }
inline uint8_t level_code() { return static_cast<uint8_t>(level()); }
inline uint8_t limit_code(uint8_t most) { return static_cast<uint8_t>(limit(static_cast<Level>(most))); }

}  // namespace heterodyne::cpu
