// Vectors of floats of one width, with GCC's and Clang's vector types: +, -, *, comparisons and ?: work on them as on
// numbers, and the compiler fuses a multiplication and an addition in one expression if the processor can. Intrinsics
// are used only if no expression gives the instruction.
//
// levels.h includes this once for each level, with its instructions enabled.
namespace heterodyne::simd::HETERODYNE_LEVEL {

constexpr int64_t lanes = HETERODYNE_VECTOR_BYTES / sizeof(float);

typedef float Vec __attribute__((vector_size(HETERODYNE_VECTOR_BYTES)));
typedef int32_t Ints __attribute__((vector_size(HETERODYNE_VECTOR_BYTES)));
typedef uint32_t Bits __attribute__((vector_size(HETERODYNE_VECTOR_BYTES)));
typedef uint16_t Halves __attribute__((vector_size(HETERODYNE_VECTOR_BYTES / 2)));

HETERODYNE_INLINE Vec all(float x) { return x - Vec{}; }
HETERODYNE_INLINE Vec zero() { return Vec{}; }

template <int... I>
HETERODYNE_INLINE Ints count_up(std::integer_sequence<int, I...>) {
  return Ints{I...};
}
// 0, 1, 2, ...
HETERODYNE_INLINE Ints iota() { return count_up(std::make_integer_sequence<int, lanes>()); }

// If one of the compared numbers is NaN, the result is the second number.
HETERODYNE_INLINE Vec max(Vec a, Vec b) {
#if HETERODYNE_VECTOR_BYTES == 64
  return _mm512_max_ps(a, b);
#elif HETERODYNE_VECTOR_BYTES == 32
  return _mm256_max_ps(a, b);
#elif defined(__x86_64__)
  return _mm_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
HETERODYNE_INLINE Vec min(Vec a, Vec b) {
#if HETERODYNE_VECTOR_BYTES == 64
  return _mm512_min_ps(a, b);
#elif HETERODYNE_VECTOR_BYTES == 32
  return _mm256_min_ps(a, b);
#elif defined(__x86_64__)
  return _mm_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}
HETERODYNE_INLINE Vec abs(Vec v) { return (Vec)((Bits)v & 0x7fffffff); }

// ---- some of the lanes

// A Boolean for each lane.
#if HETERODYNE_VECTOR_BYTES == 64
using Mask = __mmask16;
HETERODYNE_INLINE Mask everywhere() { return 0xffff; }
// v > x or v is NaN; v < x or v is NaN
HETERODYNE_INLINE Mask above(Vec v, Vec x) { return _mm512_cmp_ps_mask(v, x, _CMP_NLE_UQ); }
HETERODYNE_INLINE Mask below(Vec v, Vec x) { return _mm512_cmp_ps_mask(v, x, _CMP_NGE_UQ); }
HETERODYNE_INLINE Mask both(Mask a, Mask b) { return a & b; }
HETERODYNE_INLINE Vec where(Mask m, Vec yes, Vec no) { return _mm512_mask_blend_ps(m, no, yes); }
HETERODYNE_INLINE Vec keep(Mask m, Vec v) { return _mm512_maskz_mov_ps(m, v); }
HETERODYNE_INLINE uint32_t to_bits(Mask m) { return m; }
HETERODYNE_INLINE Mask from_bits(uint32_t bits) { return static_cast<Mask>(bits); }
#else
using Mask = Ints;
HETERODYNE_INLINE Mask everywhere() { return ~Ints{}; }
HETERODYNE_INLINE Mask above(Vec v, Vec x) { return ~(v <= x); }
HETERODYNE_INLINE Mask below(Vec v, Vec x) { return ~(v >= x); }
HETERODYNE_INLINE Mask both(Mask a, Mask b) { return a & b; }
HETERODYNE_INLINE Vec where(Mask m, Vec yes, Vec no) { return m ? yes : no; }
HETERODYNE_INLINE Vec keep(Mask m, Vec v) { return (Vec)(m & (Ints)v); }
HETERODYNE_INLINE uint32_t to_bits(Mask m) {
#if HETERODYNE_VECTOR_BYTES == 32
  return static_cast<uint32_t>(_mm256_movemask_ps((Vec)m));
#elif defined(__x86_64__)
  return static_cast<uint32_t>(_mm_movemask_ps((Vec)m));
#else
  uint32_t bits = 0;
  for (int i = 0; i < lanes; ++i) bits |= static_cast<uint32_t>(m[i] & 1) << i;
  return bits;
#endif
}
HETERODYNE_INLINE Mask from_bits(uint32_t bits) {
  const Ints one = (Ints{} + 1) << iota();
  return ((Ints{} + static_cast<int32_t>(bits)) & one) == one;
}
#endif

// All lanes of a vector.
struct Whole {};
// The first lanes: as many as are left of a row.
struct Live {
  int64_t count;
  Mask mask;
};
// None if `n` is negative, all if it is large.
HETERODYNE_INLINE Live first(int64_t n) {
  const int64_t count = n < 0 ? 0 : n < lanes ? n : lanes;
#if HETERODYNE_VECTOR_BYTES == 64
  return {count, static_cast<Mask>((1u << count) - 1)};
#else
  return {count, iota() < static_cast<int32_t>(count)};
#endif
}

// ---- memory

HETERODYNE_INLINE Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
HETERODYNE_INLINE void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }

// Other lanes read as zero and are not written; their memory is not touched.
HETERODYNE_INLINE Vec load(const float* p, Live live) {
#if HETERODYNE_VECTOR_BYTES == 64
  return _mm512_maskz_loadu_ps(live.mask, p);
#elif HETERODYNE_VECTOR_BYTES == 32
  return _mm256_maskload_ps(p, (__m256i)live.mask);
#else
  Vec v{};
  for (int i = 0; i < lanes; ++i) v[i] = i < live.count ? p[i] : 0.0f;
  return v;
#endif
}
HETERODYNE_INLINE void store(float* p, Vec v, Live live) {
#if HETERODYNE_VECTOR_BYTES == 64
  _mm512_mask_storeu_ps(p, live.mask, v);
#elif HETERODYNE_VECTOR_BYTES == 32
  _mm256_maskstore_ps(p, (__m256i)live.mask, v);
#else
  for (int i = 0; i < lanes; ++i)
    if (i < live.count) p[i] = v[i];
#endif
}

// A bfloat16 is the upper half of a float.
HETERODYNE_INLINE Vec widen(Halves h) { return (Vec)(__builtin_convertvector(h, Bits) << 16); }

// Rounds to the nearest bfloat16, ties to even; a NaN keeps its upper half, with the bit set that makes it quiet.
HETERODYNE_INLINE Halves narrow(Vec v) {
  const Bits bits = (Bits)v;
  const Bits rounded = bits + ((bits >> 16) & 1) + 0x7fff;
  const Bits kept = v == v ? rounded : bits | 0x400000;
  return __builtin_convertvector(kept >> 16, Halves);
}

HETERODYNE_INLINE Vec load(const c10::BFloat16* p) {
  Halves h;
  __builtin_memcpy(&h, p, sizeof h);
  return widen(h);
}
HETERODYNE_INLINE void store(c10::BFloat16* p, Vec v) {
  const Halves h = narrow(v);
  __builtin_memcpy(p, &h, sizeof h);
}
HETERODYNE_INLINE Vec load(const c10::BFloat16* p, Live live) {
#if HETERODYNE_VECTOR_BYTES == 64
  return widen((Halves)_mm256_maskz_loadu_epi16(live.mask, p));
#else
  Halves h{};
  for (int i = 0; i < lanes; ++i) h[i] = i < live.count ? p[i].x : uint16_t{0};
  return widen(h);
#endif
}
HETERODYNE_INLINE void store(c10::BFloat16* p, Vec v, Live live) {
  const Halves h = narrow(v);
#if HETERODYNE_VECTOR_BYTES == 64
  _mm256_mask_storeu_epi16(p, live.mask, (__m256i)h);
#else
  for (int i = 0; i < lanes; ++i)
    if (i < live.count) p[i].x = h[i];
#endif
}

template <class T>
HETERODYNE_INLINE Vec load(const T* p, Whole) {
  return load(p);
}
template <class T>
HETERODYNE_INLINE void store(T* p, Vec v, Whole) {
  store(p, v);
}

// Zero in the other lanes.
HETERODYNE_INLINE Vec only(Whole, Vec v) { return v; }
HETERODYNE_INLINE Vec only(Live live, Vec v) { return keep(live.mask, v); }

// `other` in the other lanes.
HETERODYNE_INLINE Vec or_else(Whole, Vec v, Vec) { return v; }
HETERODYNE_INLINE Vec or_else(Live live, Vec v, Vec other) { return where(live.mask, v, other); }

// `f(i, lanes)` for the vectors of a row of `n` numbers, each starting at number `i`; all but the last are whole.
template <class F>
HETERODYNE_INLINE void each(int64_t n, F f) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(i, Whole{});
  if (i < n) f(i, first(n - i));
}

// ---- across lanes

HETERODYNE_INLINE float sum_of(Vec v) {
#if HETERODYNE_VECTOR_BYTES == 64
  return _mm512_reduce_add_ps(v);
#else
  float x[lanes];
  store(x, v);
  for (int64_t half = lanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) x[i] += x[i + half];
  return x[0];
#endif
}
HETERODYNE_INLINE float max_of(Vec v) {
#if HETERODYNE_VECTOR_BYTES == 64
  return _mm512_reduce_max_ps(v);
#else
  float x[lanes];
  store(x, v);
  for (int64_t half = lanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
  return x[0];
#endif
}

// sum[0..lanes] += v
HETERODYNE_INLINE void accumulate(double* sum, Vec v) {
#if HETERODYNE_VECTOR_BYTES == 64
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v)), high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
  _mm512_storeu_pd(sum, _mm512_add_pd(_mm512_loadu_pd(sum), low));
  _mm512_storeu_pd(sum + 8, _mm512_add_pd(_mm512_loadu_pd(sum + 8), high));
#else
  for (int i = 0; i < lanes; ++i) sum[i] += static_cast<double>(v[i]);
#endif
}

// Takes the partner's lane if the lane's number has bit S: the lanes of two vectors that are swapped when a square is
// transposed.
template <int S, int... I>
HETERODYNE_INLINE void exchange(Vec& a, Vec& b, std::integer_sequence<int, I...>) {
#if defined(__clang__)
  const Vec low = __builtin_shufflevector(a, b, (I & S ? int(lanes) + I - S : I)...);
  const Vec high = __builtin_shufflevector(a, b, (I & S ? int(lanes) + I : I + S)...);
#else
  const Vec low = __builtin_shuffle(a, b, Ints{(I & S ? int(lanes) + I - S : I)...});
  const Vec high = __builtin_shuffle(a, b, Ints{(I & S ? int(lanes) + I : I + S)...});
#endif
  a = low;
  b = high;
}
template <int S>
HETERODYNE_INLINE void transpose_step(Vec (&x)[lanes]) {
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i)
    if ((i & S) == 0) exchange<S>(x[i], x[i + S], std::make_integer_sequence<int, lanes>());
}
// The square whose rows are the vectors of x, transposed.
HETERODYNE_INLINE void transpose(Vec (&x)[lanes]) {
  transpose_step<1>(x);
  transpose_step<2>(x);
  if constexpr (lanes > 4) transpose_step<4>(x);
  if constexpr (lanes > 8) transpose_step<8>(x);
}

// Entry i of a table with as many entries as a vector has lanes, or 16 if those are fewer.
constexpr int table_size = lanes == 8 ? 8 : 16;
HETERODYNE_INLINE Vec look_up(const float* table, Ints i) {
#if HETERODYNE_VECTOR_BYTES == 64
  return _mm512_permutexvar_ps((__m512i)i, load(table));
#elif HETERODYNE_VECTOR_BYTES == 32
  return _mm256_permutevar8x32_ps(load(table), (__m256i)i);
#else
  Vec v{};
  for (int k = 0; k < lanes; ++k) v[k] = table[i[k]];
  return v;
#endif
}

// exp(x) for x up to 88; 0 from -87.7 down. exp(x) = 2^n 2^f with n + f = x / ln 2, n an integer and |f| <= 1/2; the
// second factor by its Taylor series, the first one by writing n into a float's exponent.
HETERODYNE_INLINE Vec exp(Vec x) {
  constexpr float kLn2 = 0.693147180559945f,
                  kToWhole = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr float kTerms[] = {1.0f,           kLn2,           2.40226507e-1f, 5.55041087e-2f,
                              9.61812911e-3f, 1.33335581e-3f, 1.54035304e-4f, 1.52527338e-5f};
  const Vec clipped = max(all(-88.0f), x);
  const Vec shifted = clipped * (1.0f / kLn2) + kToWhole, n = shifted - kToWhole;
  const Vec f = clipped * (1.0f / kLn2) - n;
  Vec power = all(kTerms[7]);
#pragma GCC unroll 8
  for (int i = 6; i >= 0; --i) power = power * f + kTerms[i];
  return power * (Vec)((__builtin_convertvector(n, Ints) + 127) << 23);
}

}  // namespace heterodyne::simd::HETERODYNE_LEVEL
