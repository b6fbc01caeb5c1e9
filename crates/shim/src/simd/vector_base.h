// Definitions of vector.h that are needed only once.
#pragma once
#include <cstdint>
#include <type_traits>
#include <utility>

#include <c10/util/BFloat16.h>

#if defined(__GNUC__) && !defined(__clang__)
// GCC mistakes the undefined upper halves of its own intrinsics for errors of the caller.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
// No vector is passed to a function that is not inlined.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define HETERODYNE_INLINE __attribute__((always_inline)) inline

// Makes the compiler assume that `v` changes here, so its value is loaded once and not at every use.
#if defined(__x86_64__)
#define HETERODYNE_OPAQUE_VECTOR(v) asm("" : "+v"(v))
#elif defined(__aarch64__)
#define HETERODYNE_OPAQUE_VECTOR(v) asm("" : "+w"(v))
#else
#define HETERODYNE_OPAQUE_VECTOR(v)
#endif

namespace heterodyne::simd {

// Prefetches into the first-level cache.
HETERODYNE_INLINE void fetch(const void* p) { __builtin_prefetch(p, 0, 3); }

}  // namespace heterodyne::simd
