// What this processor supports, and how much of it is used.
#pragma once
#include <cstdint>

#include "rust/cxx.h"

namespace heterodyne::cpu {

// Each level includes the previous ones. Outside x86-64 there is only the first.
enum class Level : uint8_t {
  kBaseline,    // vectors of 16 bytes: SSE2, NEON
  kAvx2,        // and fused multiply-add
  kAvx512,      // F, BW, DQ, VL
  kAvx512Bf16,  // products of bfloat16 vectors
  kAmx,         // products of bfloat16 matrices
};

// The processor's level.
Level found();

// The calling thread's level: the processor's, limited by HETERODYNE_CPU and by `limit`.
Level level();

// Limits the calling thread from now on; returns its previous limit.
Level limit(Level most);

// Whether bfloat16 products are much faster than float ones at this thread's level.
bool fast_bf16();

// Size of a core's second-level cache in bytes; 1 MiB if the system does not report it.
int64_t second_level_cache();

// What is wrong with HETERODYNE_CPU; empty if it is valid.
rust::String complaint();

inline uint8_t found_code() { return static_cast<uint8_t>(found()); }
inline uint8_t level_code() { return static_cast<uint8_t>(level()); }
inline uint8_t limit_code(uint8_t most) { return static_cast<uint8_t>(limit(static_cast<Level>(most))); }

}  // namespace heterodyne::cpu
