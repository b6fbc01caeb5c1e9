// Sixteen floats at a time.
#pragma once
#include <cstddef>
#include <cstdint>

#include "avx512.h"

namespace heterodyne::packed {

using vector::exp;

constexpr int64_t kLanes = vector::lanes;

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

}  // namespace heterodyne::packed
