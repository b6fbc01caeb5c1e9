// Compiles the file that HETERODYNE_KERNELS names once for each width of vectors. The file puts its content into a
// namespace called HETERODYNE_LEVEL; HETERODYNE_DISPATCH calls it at the thread's level:
//
//   #define HETERODYNE_KERNELS "window/kernels.h"
//   #include "simd/levels.h"
//   HETERODYNE_DISPATCH(sums_of<float>(x, w, sums));
//
// The instructions are enabled between two pragmas and not for the whole source file. Otherwise a header's definitions,
// which the linker may share between files, would be compiled for processors that the program may not run on.
#include "cpu/cpu.h"
#include "simd/vector_base.h"

#ifndef HETERODYNE_KERNELS
#error "define HETERODYNE_KERNELS, the file to compile for every level"
#endif

#define HETERODYNE_LEVEL baseline
#define HETERODYNE_VECTOR_BYTES 16
#include "simd/vector.h"
#include HETERODYNE_KERNELS
#undef HETERODYNE_VECTOR_BYTES
#undef HETERODYNE_LEVEL

#if defined(__x86_64__)

#define HETERODYNE_LEVEL avx2
#define HETERODYNE_VECTOR_BYTES 32
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#include "simd/vector.h"
#include HETERODYNE_KERNELS
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef HETERODYNE_VECTOR_BYTES
#undef HETERODYNE_LEVEL

#define HETERODYNE_LEVEL avx512
#define HETERODYNE_VECTOR_BYTES 64
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx2,prfchw"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx2,prfchw")
#endif
#include "simd/vector.h"
#include HETERODYNE_KERNELS
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef HETERODYNE_VECTOR_BYTES
#undef HETERODYNE_LEVEL

#define HETERODYNE_DISPATCH(...)                                                         \
  (::heterodyne::cpu::level() >= ::heterodyne::cpu::Level::kAvx512 ? avx512::__VA_ARGS__ \
   : ::heterodyne::cpu::level() == ::heterodyne::cpu::Level::kAvx2 ? avx2::__VA_ARGS__   \
                                                                   : baseline::__VA_ARGS__)
#else
#define HETERODYNE_DISPATCH(...) (baseline::__VA_ARGS__)
#endif
