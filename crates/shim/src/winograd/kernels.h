// Vector kernels of the convolution F(4x4, 3x3): Lavin and Gray 2015, "Fast algorithms for convolutional neural networks",
// arXiv 1509.09308. With d a 6x6 patch of the input, g a 3x3 filter and y the 4x4 patch of the output,
//
//   y = A [ (G g G^T) . (B d B^T) ] A^T
//
// where . multiplies point by point and sums over channels. The interpolation points are 0, +-5/8, +-3/2 and infinity: their
// powers are exact in float32, and the rounding error is half that of the customary 0, +-1, +-2.
//
// Everything transformed lies as (36 points, channels / 16, rows, 16). A row is a tile of the map or, for weights, an input
// channel; the 16 channels of a chunk fill one vector.
#pragma once
#include <cstdint>

#include "avx512.h"

namespace heterodyne::winograd {

constexpr int64_t LANES = vector::lanes;
constexpr int64_t PATCH = 6;   // side of an input patch
constexpr int64_t TILE = 4;    // side of an output tile
constexpr int64_t TAPS = 3;    // side of a filter
constexpr int64_t POINTS = PATCH * PATCH;

// A transformed operand.
struct Field {
  float* data;
  int64_t rows;   // rows of a chunk
  int64_t point;  // floats from one point to the next

  // An odd number of cache lines from point to point: the 36 of them spread over the cache sets.
  Field(float* data, int64_t channels, int64_t rows) : data(data), rows(rows), point(stride(channels, rows)) {}
  static int64_t stride(int64_t channels, int64_t rows) { return (channels / LANES * rows | 1) * LANES; }
  static int64_t size(int64_t channels, int64_t rows) { return POINTS * stride(channels, rows); }

  float* at(int64_t p, int64_t chunk, int64_t row) const { return data + p * point + (chunk * rows + row) * LANES; }
  int64_t chunk() const { return rows * LANES; }
};

namespace points {
constexpr float a = 0.625f, b = 1.5f;
constexpr float a2 = a * a, b2 = b * b, a3 = a2 * a, b3 = b2 * b;
constexpr float product = a2 * b2, sum = a2 + b2;
constexpr float scale_0 = 1 / product, scale_a = 1 / (2 * a2 * (a2 - b2)), scale_b = 1 / (2 * b2 * (b2 - a2));
}  // namespace points

HETERODYNE_AVX512_INLINE void fetch(const void* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
HETERODYNE_AVX512_INLINE __m512 vec(float x) { return _mm512_set1_ps(x); }
HETERODYNE_AVX512_INLINE __m512 add(__m512 x, __m512 y) { return _mm512_add_ps(x, y); }
HETERODYNE_AVX512_INLINE __m512 sub(__m512 x, __m512 y) { return _mm512_sub_ps(x, y); }
HETERODYNE_AVX512_INLINE __m512 mul(__m512 x, float y) { return _mm512_mul_ps(x, vec(y)); }
// z + x y and z - x y
HETERODYNE_AVX512_INLINE __m512 axpy(__m512 x, float y, __m512 z) { return _mm512_fmadd_ps(x, vec(y), z); }
HETERODYNE_AVX512_INLINE __m512 axmy(__m512 x, float y, __m512 z) { return _mm512_fnmadd_ps(x, vec(y), z); }

// v = B d: 6 values to 6 points.
struct Input {
  static constexpr int from = PATCH, to = PATCH;
  HETERODYNE_AVX512_INLINE static void line(const __m512* d, __m512* v) {
    using namespace points;
    const __m512 even_a = axmy(d[2], b2, d[4]), odd_a = axmy(d[1], b2, d[3]);
    const __m512 even_b = axmy(d[2], a2, d[4]), odd_b = axmy(d[1], a2, d[3]);
    v[0] = axpy(d[0], product, axmy(d[2], sum, d[4]));
    v[1] = axpy(odd_a, a, even_a);
    v[2] = axmy(odd_a, a, even_a);
    v[3] = axpy(odd_b, b, even_b);
    v[4] = axmy(odd_b, b, even_b);
    v[5] = axpy(d[1], product, axmy(d[3], sum, d[5]));
  }
};

// u = G g: 3 taps to 6 points.
struct Filter {
  static constexpr int from = TAPS, to = PATCH;
  HETERODYNE_AVX512_INLINE static void line(const __m512* g, __m512* u) {
    using namespace points;
    const __m512 even_a = mul(axpy(g[2], a2, g[0]), scale_a), even_b = mul(axpy(g[2], b2, g[0]), scale_b);
    u[0] = mul(g[0], scale_0);
    u[1] = axpy(g[1], a * scale_a, even_a);
    u[2] = axmy(g[1], a * scale_a, even_a);
    u[3] = axpy(g[1], b * scale_b, even_b);
    u[4] = axmy(g[1], b * scale_b, even_b);
    u[5] = g[2];
  }
};

// y = A m: 6 points to 4 values.
struct Output {
  static constexpr int from = PATCH, to = TILE;
  HETERODYNE_AVX512_INLINE static void line(const __m512* m, __m512* y) {
    using namespace points;
    const __m512 even_a = add(m[1], m[2]), odd_a = sub(m[1], m[2]);
    const __m512 even_b = add(m[3], m[4]), odd_b = sub(m[3], m[4]);
    y[0] = add(m[0], add(even_a, even_b));
    y[1] = axpy(odd_a, a, mul(odd_b, b));
    y[2] = axpy(even_a, a2, mul(even_b, b2));
    y[3] = axpy(odd_a, a3, axpy(odd_b, b3, m[5]));
  }
};

// A^T, the adjoint of Output: 4 values to 6 points.
struct OutputAdjoint {
  static constexpr int from = TILE, to = PATCH;
  HETERODYNE_AVX512_INLINE static void line(const __m512* y, __m512* m) {
    using namespace points;
    const __m512 even_a = axpy(y[2], a2, y[0]), odd_a = axpy(y[3], a2, y[1]);
    const __m512 even_b = axpy(y[2], b2, y[0]), odd_b = axpy(y[3], b2, y[1]);
    m[0] = y[0];
    m[1] = axpy(odd_a, a, even_a);
    m[2] = axmy(odd_a, a, even_a);
    m[3] = axpy(odd_b, b, even_b);
    m[4] = axmy(odd_b, b, even_b);
    m[5] = y[3];
  }
};

// G^T, the adjoint of Filter: 6 points to 3 taps.
struct FilterAdjoint {
  static constexpr int from = PATCH, to = TAPS;
  HETERODYNE_AVX512_INLINE static void line(const __m512* u, __m512* g) {
    using namespace points;
    const __m512 even_a = mul(add(u[1], u[2]), scale_a), odd_a = mul(sub(u[1], u[2]), a * scale_a);
    const __m512 even_b = mul(add(u[3], u[4]), scale_b), odd_b = mul(sub(u[3], u[4]), b * scale_b);
    g[0] = axpy(u[0], scale_0, add(even_a, even_b));
    g[1] = add(odd_a, odd_b);
    g[2] = axpy(even_a, a2, axpy(even_b, b2, u[5]));
  }
};

// T x T^T for a square of vectors; T is one of the above.
template <class T>
HETERODYNE_AVX512_INLINE void both_sides(const __m512 (&x)[T::from][T::from], __m512 (&y)[T::to][T::to]) {
  __m512 half[T::from][T::to];
#pragma GCC unroll 6
  for (int i = 0; i < T::from; ++i) T::line(x[i], half[i]);
#pragma GCC unroll 6
  for (int j = 0; j < T::to; ++j) {
    __m512 column[T::from], out[T::to];
#pragma GCC unroll 6
    for (int i = 0; i < T::from; ++i) column[i] = half[i][j];
    T::line(column, out);
#pragma GCC unroll 6
    for (int i = 0; i < T::to; ++i) y[i][j] = out[i];
  }
}

// c (R rows, N chunks) = sum over k of a (R rows, k) b (k, N chunks), all of one point. `chunks` chunks of 16 k of a lie
// `a_chunk` floats apart; the chunks of b and of c lie `b_chunk` and `c_chunk` apart.
template <int R, int N>
HETERODYNE_AVX512 void multiply_rows(const float* a, int64_t a_chunk, const float* b, int64_t b_chunk, int64_t chunks, float* c,
                                   int64_t c_chunk) {
  __m512 sum[R][N];
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) sum[r][n] = _mm512_setzero_ps();
  for (; chunks > 0; --chunks, a += a_chunk) {
    for (int k = 0; k < LANES; ++k, b += LANES) {
      __m512 right[N];
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) right[n] = _mm512_loadu_ps(b + n * b_chunk);
#pragma GCC unroll 14
      for (int r = 0; r < R; ++r) {
        const __m512 left = vec(a[r * LANES + k]);
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) sum[r][n] = _mm512_fmadd_ps(left, right[n], sum[r][n]);
      }
    }
  }
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) _mm512_storeu_ps(c + n * c_chunk + r * LANES, sum[r][n]);
}

// c (R channels of one chunk, N chunks) = sum over rows t of a (t, R) b (t, N chunks), added to c where `accumulate`: blocks of
// rows are summed by themselves, or the rounding errors of thousands of tiles would pile up.
template <int R, int N>
HETERODYNE_AVX512 void multiply_channels(const float* a, const float* b, int64_t b_chunk, int64_t rows, float* c, int64_t c_chunk,
                                       bool accumulate) {
  __m512 sum[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) sum[r][n] = _mm512_setzero_ps();
  for (int64_t t = 0; t < rows; ++t, a += LANES, b += LANES) {
    __m512 right[N];
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) right[n] = _mm512_loadu_ps(b + n * b_chunk);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512 left = vec(a[r]);
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) sum[r][n] = _mm512_fmadd_ps(left, right[n], sum[r][n]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) {
      float* out = c + n * c_chunk + r * LANES;
      _mm512_storeu_ps(out, accumulate ? add(_mm512_loadu_ps(out), sum[r][n]) : sum[r][n]);
    }
}

// Transposes a 16x16 square: to[j][i] = from[i][j], lines `from_line` and `to_line` floats apart.
HETERODYNE_AVX512 inline void transpose(const float* from, int64_t from_line, float* to, int64_t to_line) {
  __m512 x[16], y[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) x[i] = _mm512_loadu_ps(from + i * from_line);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {  // pairs of lanes
    y[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
    y[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // 4x4 squares within 128 bits
    x[i] = _mm512_shuffle_ps(y[i], y[i + 2], 0x44);
    x[i + 1] = _mm512_shuffle_ps(y[i], y[i + 2], 0xee);
    x[i + 2] = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0x44);
    x[i + 3] = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // 4x4 squares of 128 bits
    const __m512 a = _mm512_shuffle_f32x4(x[i], x[i + 4], 0x88), b = _mm512_shuffle_f32x4(x[i], x[i + 4], 0xdd);
    const __m512 c = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0x88), d = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0xdd);
    y[i] = _mm512_shuffle_f32x4(a, c, 0x88);
    y[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
    y[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
    y[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_ps(to + i * to_line, y[i]);
}

}  // namespace heterodyne::winograd
