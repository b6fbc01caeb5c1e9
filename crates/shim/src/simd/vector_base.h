// What vector.h needs once.
#pragma once
#include <cstdint>
#include <type_traits>
#include <utility>

#include <c10/util/BFloat16.h>

#if defined(__GNUC__) && !defined(__clang__)
// GCC takes the undefined upper halves of its own intrinsics for mistakes of the caller.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
// No vector is handed to a function that is not inlined.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define HETERODYNE_INLINE __attribute__((always_inline)) inline

// The compiler takes `v` for changed here: what it held is loaded once, and not with every use.
#if defined(__x86_64__)
#define HETERODYNE_OPAQUE_VECTOR(v) asm("" : "+v"(v))
#elif defined(__aarch64__)
#define HETERODYNE_OPAQUE_VECTOR(v) asm("" : "+w"(v))
#else
#define HETERODYNE_OPAQUE_VECTOR(v)
#endif

namespace heterodyne::simd {

// Into the first-level cache.
HETERODYNE_INLINE void fetch(const void* p) { __builtin_prefetch(p, 0, 3); }

}  // namespace heterodyne::simd
