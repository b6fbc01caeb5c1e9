#include "packed/product.h"

#include <algorithm>
#include <array>
#include <utility>

#include "packed/vector.h"

namespace heterodyne::packed {
namespace {

// Panels that are used together lie in the second-level cache: 768 KiB.
constexpr int64_t kPanelFloats = 192 * 1024;
// Rows of a panel ahead of the one in use that are fetched into the first-level cache.
constexpr int64_t kAhead = 8;

struct Tile {
  In a;
  const float* b;
  int64_t k;
  const float* column_bias;
  const float* row_bias;
  Out out;
  int64_t columns;
};

// R rows and up to 16 H columns of a product: each number of `a` meets a row of the panel.
template <int R, int H>
HETERODYNE_AVX512 void compute(const Tile& tile) {
  __m512 sum[R][H];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const __m512 bias = _mm512_set1_ps(tile.row_bias ? tile.row_bias[r] : 0.0f);
    for (int h = 0; h < H; ++h) {
      sum[r][h] = tile.column_bias ? _mm512_add_ps(bias, _mm512_loadu_ps(tile.column_bias + h * kLanes)) : bias;
      __builtin_prefetch(tile.out.data + r * tile.out.stride + h * kLanes, 1);
    }
  }
  // All rows are reached from two pointers and three distances, so that none of them is kept outside of registers.
  const int64_t one = tile.a.stride * static_cast<int64_t>(sizeof(float));
  int64_t three = 3 * one, five = 5 * one;
  const char* low = reinterpret_cast<const char*>(tile.a.data);
  const char* high = low + 7 * one;
  asm("" : "+r"(three), "+r"(five), "+r"(high));
  const float* b = tile.b;
  for (int64_t k = 0; k < tile.k; ++k, b += kTileColumns, low += sizeof(float), high += sizeof(float)) {
    __m512 row[H];
    for (int h = 0; h < H; ++h) {
      row[h] = _mm512_load_ps(b + h * kLanes);
      asm("" : "+v"(row[h]));  // loaded once, not with every use
      _mm_prefetch(b + kAhead * kTileColumns + h * kLanes, _MM_HINT_T0);
    }
    const char* const place[] = {low,  low + one,  low + 2 * one,  low + three,  low + 4 * one,  low + five,  low + 2 * three,
                                 high, high + one, high + 2 * one, high + three, high + 4 * one, high + five, high + 2 * three};
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512 x = _mm512_set1_ps(*reinterpret_cast<const float*>(place[r]));
#pragma GCC unroll 2
      for (int h = 0; h < H; ++h) sum[r][h] = _mm512_fmadd_ps(x, row[h], sum[r][h]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    for (int h = 0; h < H; ++h) {
      _mm512_mask_storeu_ps(tile.out.data + r * tile.out.stride + h * kLanes, lanes(tile.columns - h * kLanes), sum[r][h]);
    }
  }
}

using Compute = void (*)(const Tile&);

template <int H, int... R>
constexpr std::array<Compute, sizeof...(R)> computes(std::integer_sequence<int, R...>) {
  return {compute<R + 1, H>...};
}

// By the number of rows and of half panels, from 1.
Compute compute_for(int64_t rows, int64_t columns) {
  using Rows = std::make_integer_sequence<int, kTileRows>;
  static constexpr auto half = computes<1>(Rows{}), whole = computes<2>(Rows{});
  return (columns <= kLanes ? half : whole)[rows - 1];
}

template <Post P>
HETERODYNE_AVX512_INLINE __m512 posted(__m512 x, __m512 other, const NormalTail& tail) {
  const __m512 zero = _mm512_setzero_ps();
  if constexpr (P == Post::kGelu) return gelu(x, tail);
  if constexpr (P == Post::kRelu) return _mm512_max_ps(zero, x);
  if constexpr (P == Post::kRelu6) return _mm512_min_ps(_mm512_set1_ps(6.0f), _mm512_max_ps(zero, x));
  if constexpr (P == Post::kAdd) return _mm512_add_ps(x, other);
  if constexpr (P == Post::kAddRelu) return _mm512_max_ps(zero, _mm512_add_ps(x, other));
  return x;
}

template <Post P>
HETERODYNE_AVX512 void apply_as(const Finish& finish, int64_t rows, int64_t columns, Out x) {
  constexpr bool kBinary = P == Post::kAdd || P == Post::kAddRelu;
  const NormalTail& tail = NormalTail::get();
  const __m512 zero = _mm512_setzero_ps();
  In other = finish.other;
  for (int64_t r = 0; r < rows; ++r, x.data += x.stride, other.data += other.stride) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      const __mmask16 mask = lanes(columns - c);
      const __m512 bias = finish.column_bias ? _mm512_maskz_loadu_ps(mask, finish.column_bias + c) : zero;
      const __m512 second = kBinary ? _mm512_maskz_loadu_ps(mask, other.data + c) : zero;
      const __m512 sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, x.data + c), bias);
      _mm512_mask_storeu_ps(x.data + c, mask, posted<P>(sum, second, tail));
    }
  }
}

}  // namespace

void apply(const Finish& finish, int64_t rows, int64_t columns, Out x) {
  switch (finish.post) {
    case Post::kNone: return apply_as<Post::kNone>(finish, rows, columns, x);
    case Post::kGelu: return apply_as<Post::kGelu>(finish, rows, columns, x);
    case Post::kRelu: return apply_as<Post::kRelu>(finish, rows, columns, x);
    case Post::kRelu6: return apply_as<Post::kRelu6>(finish, rows, columns, x);
    case Post::kAdd: return apply_as<Post::kAdd>(finish, rows, columns, x);
    case Post::kAddRelu: return apply_as<Post::kAddRelu>(finish, rows, columns, x);
  }
}

// A tile's rows of `a` stay in the first-level cache while they meet the panels in use; what follows the product finds the tile there.
void multiply(In a, int64_t rows, const Panels& b, const Finish& finish, Out out) {
  const int64_t together = std::max<int64_t>(1, kPanelFloats / (kTileColumns * std::max<int64_t>(b.k, 1)));
  for (int64_t first = 0; first < panels(b.n); first += together) {
    for (int64_t row = 0; row < rows; row += kTileRows) {
      const int64_t height = std::min(kTileRows, rows - row);
      for (int64_t p = first; p < std::min(first + together, panels(b.n)); ++p) {
        const int64_t column = p * kTileColumns, width = std::min(kTileColumns, b.n - column);
        const Finish last = finish.from(row, column);
        const Out part = out.from(row, column);
        compute_for(height, width)(Tile{a.from(row, 0), b.panel(p), b.k, last.column_bias, last.row_bias, part, width});
        if (last.post != Post::kNone) apply({nullptr, nullptr, last.post, last.other}, height, width, part);
      }
    }
  }
}

}  // namespace heterodyne::packed
