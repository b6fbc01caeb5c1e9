// Sixteen numbers at a time: AVX-512 loads and stores of float and bfloat16 with arithmetic in float.
#pragma once
#include <cstdint>

#if defined(__GNUC__) && !defined(__clang__)
// GCC takes the undefined upper halves of its own intrinsics for mistakes of the caller.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include <c10/util/BFloat16.h>

// Compiled for AVX-512 whatever the build's own target is; callers ask `machine_suits` first.
#define HETERODYNE_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx2,prfchw")))
#define HETERODYNE_AVX512_INLINE HETERODYNE_AVX512 __attribute__((always_inline)) inline

namespace heterodyne {

// Whether this processor runs the kernels marked above; elsewhere ATen's operators do the work.
inline bool machine_suits() {
  static const bool found = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                            __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2");
  return found;
}

// Whether it has matrix instructions for bfloat16.
inline bool matrix_bf16() {
  static const bool found = __builtin_cpu_supports("amx-bf16");
  return found;
}

namespace vector {

constexpr int64_t lanes = 16;

// A bfloat16 is the upper half of a float.
HETERODYNE_AVX512_INLINE __m512 widen(__m256i halves) {
  const __m512i spread = _mm512_set_epi16(15, 0, 14, 0, 13, 0, 12, 0, 11, 0, 10, 0, 9, 0, 8, 0,  //
                                          7, 0, 6, 0, 5, 0, 4, 0, 3, 0, 2, 0, 1, 0, 0, 0);
  return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, spread, _mm512_castsi256_si512(halves)));
}

// To the nearest bfloat16, ties to even; a NaN keeps its upper half, with a bit set that makes it quiet.
HETERODYNE_AVX512_INLINE __m256i narrow(__m512 v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __mmask16 number = _mm512_cmp_ps_mask(v, v, _CMP_ORD_Q);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i rounded = _mm512_mask_add_epi32(quiet, number, bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i upper = _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  //
                                         31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_castsi512_si256(_mm512_permutexvar_epi16(upper, rounded));
}

HETERODYNE_AVX512_INLINE __m512 load(const float* p) { return _mm512_loadu_ps(p); }
HETERODYNE_AVX512_INLINE __m512 load(const float* p, __mmask16 live) { return _mm512_maskz_loadu_ps(live, p); }
HETERODYNE_AVX512_INLINE void store(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
HETERODYNE_AVX512_INLINE void store(float* p, __m512 v, __mmask16 live) { _mm512_mask_storeu_ps(p, live, v); }

HETERODYNE_AVX512_INLINE __m512 load(const c10::BFloat16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
HETERODYNE_AVX512_INLINE __m512 load(const c10::BFloat16* p, __mmask16 live) { return widen(_mm256_maskz_loadu_epi16(live, p)); }
HETERODYNE_AVX512_INLINE void store(c10::BFloat16* p, __m512 v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v)); }
HETERODYNE_AVX512_INLINE void store(c10::BFloat16* p, __m512 v, __mmask16 live) { _mm256_mask_storeu_epi16(p, live, narrow(v)); }

// sum[0..16] += v
HETERODYNE_AVX512_INLINE void add_to(double* sum, __m512 v) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v)), high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
  _mm512_storeu_pd(sum, _mm512_add_pd(_mm512_loadu_pd(sum), low));
  _mm512_storeu_pd(sum + 8, _mm512_add_pd(_mm512_loadu_pd(sum + 8), high));
}

// exp(x) = 2^n 2^f with n + f = x / ln 2, n whole and |f| <= 1/2; the second factor by its Taylor series.
HETERODYNE_AVX512_INLINE __m512 exp(__m512 x) {
  constexpr float kLn2 = 0.693147180559945f;
  constexpr float kTerms[] = {1.0f, kLn2, 2.40226507e-1f, 5.55041087e-2f, 9.61812911e-3f, 1.33335581e-3f, 1.54035304e-4f, 1.52527338e-5f};
  const __m512 log2e = _mm512_set1_ps(1.0f / kLn2);
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_fmsub_ps(x, log2e, n);
  __m512 power = _mm512_set1_ps(kTerms[7]);
#pragma GCC unroll 8
  for (int i = 6; i >= 0; --i) power = _mm512_fmadd_ps(power, f, _mm512_set1_ps(kTerms[i]));
  return _mm512_scalef_ps(power, n);
}

}  // namespace vector
}  // namespace heterodyne
