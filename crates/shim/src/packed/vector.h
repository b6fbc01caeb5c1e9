// Sixteen floats at a time.
#pragma once
#include <cstddef>
#include <cstdint>

// GCC 12 takes the registers whose content the intrinsics leave open for mistakes.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

// Compiled for AVX-512 whatever the build's own target is; callers ask `machine_suits` first.
#define HETERODYNE_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx2,prfchw")))
#define HETERODYNE_AVX512_INLINE HETERODYNE_AVX512 __attribute__((always_inline)) inline

namespace heterodyne::packed {

constexpr int64_t kLanes = 16;

// Whether this machine has the instructions of the code marked above.
bool machine_suits();

// At least `floats` of memory, aligned to a cache line, that belongs to the calling thread until it asks again in the same slot.
float* scratch(int slot, int64_t floats);

// The first `n` lanes; none or all where n lies outside 0..16.
inline uint16_t lanes(int64_t n) { return n <= 0 ? 0 : n >= kLanes ? 0xFFFF : static_cast<uint16_t>((1u << n) - 1); }

// Q(a) = P(normal > a) on [0, 6): on each of 16 intervals a polynomial of degree 5 in t, the place in the interval from -1/2 to 1/2.
struct NormalTail {
  static constexpr int kDegree = 5;
  static constexpr float kEnd = 6.0f;
  alignas(64) float coefficients[kDegree + 1][kLanes];

  static const NormalTail& get();
};

// x * P(normal < x) = max(x, 0) - |x| Q(|x|), the exact GELU (Hendrycks and Gimpel 2016); beyond 6 the second term is below 1e-8.
HETERODYNE_AVX512_INLINE __m512 gelu(__m512 x, const NormalTail& tail) {
  const __m512 a = _mm512_min_ps(_mm512_abs_ps(x), _mm512_set1_ps(NormalTail::kEnd));
  const __m512 place = _mm512_min_ps(_mm512_mul_ps(a, _mm512_set1_ps(kLanes / NormalTail::kEnd)), _mm512_set1_ps(15.999999f));
  const __m512i interval = _mm512_cvttps_epi32(place);
  const __m512 t = _mm512_sub_ps(_mm512_sub_ps(place, _mm512_cvtepi32_ps(interval)), _mm512_set1_ps(0.5f));
  __m512 q = _mm512_permutexvar_ps(interval, _mm512_load_ps(tail.coefficients[NormalTail::kDegree]));
#pragma GCC unroll 8
  for (int i = NormalTail::kDegree - 1; i >= 0; --i) {
    q = _mm512_fmadd_ps(q, t, _mm512_permutexvar_ps(interval, _mm512_load_ps(tail.coefficients[i])));
  }
  // Of two operands that are compared, the second comes out where one is NaN.
  return _mm512_fnmadd_ps(a, q, _mm512_max_ps(_mm512_setzero_ps(), x));
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

}  // namespace heterodyne::packed
