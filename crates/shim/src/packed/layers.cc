#include "packed/layers.h"

#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>

#include "packed/vector.h"

namespace heterodyne::packed {
namespace {

// The hidden rows of an MLP that are computed together: 1 MiB.
constexpr int64_t kHiddenFloats = 256 * 1024;
// Numbers below which a pass over them is not worth another thread.
constexpr int64_t kGrain = 16 * 1024;
// Columns of the right factor that are copied together into a panel.
constexpr int64_t kBlock = kTileColumns;

// panel (rows, 32) = the first `columns` columns of x, the rest zero.
HETERODYNE_AVX512 void pack_columns(In x, int64_t rows, int64_t columns, float* panel) {
  const __mmask16 low = lanes(columns), high = lanes(columns - kLanes);
  for (int64_t r = 0; r < rows; ++r, x.data += x.stride, panel += kBlock) {
    _mm512_store_ps(panel, _mm512_maskz_loadu_ps(low, x.data));
    _mm512_store_ps(panel + kLanes, _mm512_maskz_loadu_ps(high, x.data + kLanes));
  }
}

// The lower and the upper pairs of each quarter of x and y, in turns.
HETERODYNE_AVX512_INLINE __m512 low_pairs(__m512 x, __m512 y) {
  return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
}
HETERODYNE_AVX512_INLINE __m512 high_pairs(__m512 x, __m512 y) {
  return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
}

// out[i][j] = x[j][i] for 16 x 16 numbers, of which `rows` rows and `columns` columns of x are read and the rest is zero.
HETERODYNE_AVX512 void transpose(In x, int64_t rows, int64_t columns, Out out) {
  __m512 a[kLanes], b[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) {
    a[i] = i < rows ? _mm512_maskz_loadu_ps(lanes(columns), x.data + i * x.stride) : _mm512_setzero_ps();
  }
  // Pairs of rows, then of pairs, within each quarter of a register; then the quarters.
  for (int i = 0; i < kLanes; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < kLanes; i += 4) {
    a[i] = low_pairs(b[i], b[i + 2]);
    a[i + 1] = high_pairs(b[i], b[i + 2]);
    a[i + 2] = low_pairs(b[i + 1], b[i + 3]);
    a[i + 3] = high_pairs(b[i + 1], b[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512 top = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88), bottom = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
    const __m512 top_odd = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xDD), bottom_odd = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xDD);
    b[i] = _mm512_shuffle_f32x4(top, bottom, 0x88);
    b[i + 4] = _mm512_shuffle_f32x4(top_odd, bottom_odd, 0x88);
    b[i + 8] = _mm512_shuffle_f32x4(top, bottom, 0xDD);
    b[i + 12] = _mm512_shuffle_f32x4(top_odd, bottom_odd, 0xDD);
  }
  for (int64_t i = 0; i < kLanes; ++i) _mm512_store_ps(out.data + i * out.stride, b[i]);
}

// The transpose of x (rows, columns) as panels; `columns` rounded up to 16 rows are written in each.
void pack_transposed(In x, int64_t rows, int64_t columns, float* out) {
  for (int64_t p = 0; p < panels(rows); ++p) {
    for (int64_t j = 0; j < kBlock; j += kLanes) {
      for (int64_t i = 0; i < columns; i += kLanes) {
        const int64_t row = p * kBlock + j;
        transpose(x.from(row, i), rows - row, columns - i, {out + p * columns * kBlock + i * kBlock + j, kBlock});
      }
    }
  }
}

// Each row of x = exp(scale (x - its maximum)); the sums of the rows.
HETERODYNE_AVX512 void exponentials(Out x, int64_t rows, int64_t columns, float scale, float* sums) {
  const __m512 lowest = _mm512_set1_ps(-INFINITY);
  for (int64_t r = 0; r < rows; ++r, x.data += x.stride) {
    __m512 top = lowest;
    for (int64_t c = 0; c < columns; c += kLanes) {
      top = _mm512_max_ps(top, _mm512_mask_loadu_ps(lowest, lanes(columns - c), x.data + c));
    }
    const __m512 maximum = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    __m512 sum = _mm512_setzero_ps();
    for (int64_t c = 0; c < columns; c += kLanes) {
      const __mmask16 mask = lanes(columns - c);
      const __m512 below = _mm512_sub_ps(_mm512_mask_loadu_ps(lowest, mask, x.data + c), maximum);
      const __m512 e = exp(_mm512_mul_ps(_mm512_set1_ps(scale), below));
      _mm512_mask_storeu_ps(x.data + c, mask, e);
      sum = _mm512_mask_add_ps(sum, mask, sum, e);
    }
    sums[r] = _mm512_reduce_add_ps(sum);
  }
}

HETERODYNE_AVX512 void divide_rows(Out x, int64_t rows, int64_t columns, const float* by) {
  for (int64_t r = 0; r < rows; ++r, x.data += x.stride) {
    const __m512 factor = _mm512_set1_ps(1.0f / by[r]);
    for (int64_t c = 0; c < columns; c += kLanes) {
      const __mmask16 mask = lanes(columns - c);
      _mm512_mask_storeu_ps(x.data + c, mask, _mm512_mul_ps(factor, _mm512_maskz_loadu_ps(mask, x.data + c)));
    }
  }
}

// One head, 14 queries at a time; keys, values and scores stay in the caches.
void attend(In q, int64_t queries, In k, In v, int64_t keys, int64_t width, Out out) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(width));
  const int64_t padded = (width + kLanes - 1) / kLanes * kLanes;
  float* k_panels = scratch(0, panels(keys) * padded * kBlock);
  pack_transposed(k, keys, width, k_panels);
  float* v_panels = scratch(1, panels(width) * keys * kBlock);
  for (int64_t p = 0; p < panels(width); ++p) pack_columns(v.from(0, p * kBlock), keys, width - p * kBlock, v_panels + p * keys * kBlock);
  const Out scores{scratch(2, kTileRows * panels(keys) * kBlock), panels(keys) * kBlock};
  float sums[kTileRows];
  for (int64_t row = 0; row < queries; row += kTileRows) {
    const int64_t height = std::min(kTileRows, queries - row);
    const Out part = out.from(row, 0);
    multiply(q.from(row, 0), height, {k_panels, width, keys}, {}, scores);
    exponentials(scores, height, keys, scale, sums);
    multiply({scores.data, scores.stride}, height, {v_panels, keys, width}, {}, part);
    divide_rows(part, height, width, sums);
  }
}

}  // namespace

// Over the rows where there are enough of them; over the columns of the weight where there are few.
void linear(In x, int64_t rows, const Panels& weight, const Finish& finish, Out out) {
  if (tiles(rows) >= 4 * at::get_num_threads()) {
    at::parallel_for(0, tiles(rows), 1, [&](int64_t begin, int64_t end) {
      const int64_t row = begin * kTileRows, last = std::min(end * kTileRows, rows);
      multiply(x.from(row, 0), last - row, weight, finish.from(row, 0), out.from(row, 0));
    });
  } else {
    at::parallel_for(0, panels(weight.n), 1, [&](int64_t begin, int64_t end) {
      const int64_t column = begin * kTileColumns, last = std::min(end * kTileColumns, weight.n);
      multiply(x, rows, {weight.panel(begin), weight.k, last - column}, finish.from(0, column), out.from(0, column));
    });
  }
}

void mlp(In x, int64_t rows, const Panels& first, const float* first_bias, const Panels& second, const Finish& finish, Out out) {
  const int64_t hidden = first.n;
  const int64_t most = std::max<int64_t>(1, kHiddenFloats / (hidden * kTileRows));
  at::parallel_for(0, tiles(rows), 1, [&](int64_t begin, int64_t end) {
    const int64_t together = std::min(most, end - begin);
    // A row more than a cache line longer than needed, so that rows do not meet in the same places of the first-level cache.
    const Out h{scratch(0, together * kTileRows * (hidden + kLanes)), hidden + kLanes};
    for (int64_t tile = begin; tile < end; tile += together) {
      const int64_t row = tile * kTileRows, count = std::min(std::min(tile + together, end) * kTileRows, rows) - row;
      multiply(x.from(row, 0), count, first, {first_bias, nullptr, Post::kGelu}, h);
      multiply({h.data, h.stride}, count, second, finish.from(row, 0), out.from(row, 0));
    }
  });
}

void mix(const float* x, int64_t batch, int64_t columns, const Left& first, const Left* second, Post post, const float* other, float* out) {
  const int64_t outputs = second ? second->outputs : first.outputs;
  at::parallel_for(0, batch * panels(columns), 1, [&](int64_t begin, int64_t end) {
    float* panel = scratch(0, first.inputs * kBlock);
    float* hidden = second ? scratch(1, first.outputs * kBlock) : nullptr;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / panels(columns), column = item % panels(columns) * kBlock, width = std::min(kBlock, columns - column);
      pack_columns(In{x + b * first.inputs * columns, columns}.from(0, column), first.inputs, width, panel);
      const Out part = Out{out + b * outputs * columns, columns}.from(0, column);
      const In added = In{other ? other + b * outputs * columns : nullptr, columns}.from(0, column);
      if (second) {
        multiply(first.weight, first.outputs, {panel, first.inputs, kBlock}, {nullptr, first.bias, Post::kGelu}, {hidden, kBlock});
        multiply(second->weight, outputs, {hidden, second->inputs, width}, {nullptr, second->bias, post, added}, part);
      } else {
        multiply(first.weight, outputs, {panel, first.inputs, width}, {nullptr, first.bias, post, added}, part);
      }
    }
  });
}

void attention(const Sequences<const float>& q, const Sequences<const float>& k, const Sequences<const float>& v, int64_t batch,
               int64_t heads, int64_t width, const Sequences<float>& out) {
  at::parallel_for(0, batch * heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / heads, column = item % heads * width;
      attend(q.head(b, column), q.rows, k.head(b, column), v.head(b, column), k.rows, width, out.head(b, column));
    }
  });
}

void finish(const Finish& finish, int64_t rows, int64_t columns, Out x) {
  if (finish.post == Post::kNone && !finish.column_bias) return;
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(columns, 1)), [&](int64_t begin, int64_t end) {
    apply(finish.from(begin, 0), end - begin, columns, x.from(begin, 0));
  });
}

}  // namespace heterodyne::packed
