// Matrix products with the operations after them, and the layers built from these, for one level.
namespace heterodyne::packed {
namespace {
namespace HETERODYNE_LEVEL {

using namespace simd::HETERODYNE_LEVEL;

// Rows and columns of the part of a result held in registers: 28 accumulators of 32 registers, or 12 of 16.
constexpr int64_t kTileRows = lanes == 16 ? 14 : 6;
constexpr int64_t kTileColumns = 2 * lanes;

int64_t tiles(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
int64_t panels(int64_t columns) { return (columns + kTileColumns - 1) / kTileColumns; }

const float* panel(const Panels& b, int64_t p) { return b.data + p * b.k * kTileColumns; }

// Panels that are used together take three eighths of the second-level cache.
int64_t panel_floats() { return cpu::second_level_cache() / static_cast<int64_t>(sizeof(float)) * 3 / 8; }
// How many rows ahead a panel is prefetched into the first-level cache.
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

// R rows and up to H vectors of columns of a product: each number of `a` is multiplied with a row of the panel.
template <int R, int H>
void compute(const Tile& tile) {
  Vec sum[R][H];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const Vec bias = all(tile.row_bias ? tile.row_bias[r] : 0.0f);
    for (int h = 0; h < H; ++h) {
      sum[r][h] = tile.column_bias ? bias + load(tile.column_bias + h * lanes) : bias;
      __builtin_prefetch(tile.out.data + r * tile.out.stride + h * lanes, 1);
    }
  }
  // All rows are reached from two pointers and three distances, so all of these stay in registers.
  const int64_t one = tile.a.stride * static_cast<int64_t>(sizeof(float));
  int64_t three = 3 * one, five = 5 * one;
  const char* low = reinterpret_cast<const char*>(tile.a.data);
  const char* high = low + 7 * one;
  asm("" : "+r"(three), "+r"(five), "+r"(high));
  const float* b = tile.b;
  for (int64_t k = 0; k < tile.k; ++k, b += kTileColumns, low += sizeof(float), high += sizeof(float)) {
    Vec row[H];
    for (int h = 0; h < H; ++h) {
      row[h] = load(b + h * lanes);
      HETERODYNE_OPAQUE_VECTOR(row[h]);
      simd::fetch(b + kAhead * kTileColumns + h * lanes);
    }
    const char* const place[] = {low,          low + one,       low + 2 * one, low + three,     low + 4 * one,
                                 low + five,   low + 2 * three, high,          high + one,      high + 2 * one,
                                 high + three, high + 4 * one,  high + five,   high + 2 * three};
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec x = all(*reinterpret_cast<const float*>(place[r]));
#pragma GCC unroll 2
      for (int h = 0; h < H; ++h) sum[r][h] = x * row[h] + sum[r][h];
    }
  }
  const bool whole = tile.columns == H * lanes;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    for (int h = 0; h < H; ++h) {
      float* to = tile.out.data + r * tile.out.stride + h * lanes;
      if (whole) {
        store(to, sum[r][h]);
      } else {
        store(to, sum[r][h], first(tile.columns - h * lanes));
      }
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
  return (columns <= lanes ? half : whole)[rows - 1];
}

// x * P(normal < x) = max(x, 0) - |x| Q(|x|), the exact GELU (Hendrycks and Gimpel 2016); beyond 6 the second term is
// below 1e-8.
HETERODYNE_INLINE Vec gelu(Vec x) {
  using Tail = NormalTail<table_size>;
  const Tail& tail = Tail::get();
  const Vec a = min(abs(x), all(Tail::kEnd));
  const Vec place = min(a * (table_size / Tail::kEnd), all(table_size - 1e-6f * table_size));
  const Ints interval = __builtin_convertvector(place, Ints);
  const Vec t = place - __builtin_convertvector(interval, Vec) - 0.5f;
  Vec q = look_up(tail.coefficients[Tail::kDegree], interval);
#pragma GCC unroll 8
  for (int i = Tail::kDegree - 1; i >= 0; --i) q = q * t + look_up(tail.coefficients[i], interval);
  return max(zero(), x) - a * q;
}

template <Post P>
HETERODYNE_INLINE Vec posted(Vec x, Vec other) {
  if constexpr (P == Post::kGelu) return gelu(x);
  if constexpr (P == Post::kRelu) return max(zero(), x);
  if constexpr (P == Post::kRelu6) return min(all(6.0f), max(zero(), x));
  if constexpr (P == Post::kAdd) return x + other;
  if constexpr (P == Post::kAddRelu) return max(zero(), x + other);
  return x;
}

template <Post P>
void apply_as(const Finish& finish, int64_t rows, int64_t columns, Out x) {
  constexpr bool kBinary = P == Post::kAdd || P == Post::kAddRelu;
  In other = finish.other;
  for (int64_t r = 0; r < rows; ++r, x.data += x.stride, other.data += other.stride) {
    each(columns, [&](int64_t c, auto live) {
      const Vec bias = finish.column_bias ? load(finish.column_bias + c, live) : zero();
      const Vec second = kBinary ? load(other.data + c, live) : zero();
      store(x.data + c, posted<P>(load(x.data + c, live) + bias, second), live);
    });
  }
}

// x (rows, columns) = post(x + column bias); the bias need not be padded.
void apply(const Finish& finish, int64_t rows, int64_t columns, Out x) {
  switch (finish.post) {
    case Post::kNone:
      return apply_as<Post::kNone>(finish, rows, columns, x);
    case Post::kGelu:
      return apply_as<Post::kGelu>(finish, rows, columns, x);
    case Post::kRelu:
      return apply_as<Post::kRelu>(finish, rows, columns, x);
    case Post::kRelu6:
      return apply_as<Post::kRelu6>(finish, rows, columns, x);
    case Post::kAdd:
      return apply_as<Post::kAdd>(finish, rows, columns, x);
    case Post::kAddRelu:
      return apply_as<Post::kAddRelu>(finish, rows, columns, x);
  }
}

// out (rows, b.n) = post(a (rows, b.k) b + bias), on the calling thread. A tile's rows of `a` stay in the first-level
// cache while they are multiplied with the panels in use; the operations after the product find the tile there.
void multiply(In a, int64_t rows, const Panels& b, const Finish& finish, Out out) {
  const int64_t together = std::max<int64_t>(1, panel_floats() / (kTileColumns * std::max<int64_t>(b.k, 1)));
  for (int64_t first = 0; first < panels(b.n); first += together) {
    for (int64_t row = 0; row < rows; row += kTileRows) {
      const int64_t height = std::min(kTileRows, rows - row);
      for (int64_t p = first; p < std::min(first + together, panels(b.n)); ++p) {
        const int64_t column = p * kTileColumns, width = std::min(kTileColumns, b.n - column);
        const Finish last = finish.from(row, column);
        const Out part = out.from(row, column);
        compute_for(height,
                    width)(Tile{a.from(row, 0), panel(b, p), b.k, last.column_bias, last.row_bias, part, width});
        if (last.post != Post::kNone) apply({nullptr, nullptr, last.post, last.other}, height, width, part);
      }
    }
  }
}

// ---- layers, spread over ATen's threads

// The hidden rows of an MLP that are computed together take half of the second-level cache.
int64_t hidden_floats() { return cpu::second_level_cache() / static_cast<int64_t>(sizeof(float)) / 2; }
// A pass over fewer numbers does not justify another thread.
constexpr int64_t kGrain = 16 * 1024;
// Columns of the right factor that are copied together into a panel.
constexpr int64_t kBlock = kTileColumns;

// panel (rows, kBlock) = the first `columns` columns of x, the rest zero.
void pack_columns(In x, int64_t rows, int64_t columns, float* panel) {
  const auto copy = [&](auto low, auto high) {
    for (int64_t r = 0; r < rows; ++r, x.data += x.stride, panel += kBlock) {
      store(panel, load(x.data, low));
      store(panel + lanes, load(x.data + lanes, high));
    }
  };
  columns >= kBlock ? copy(Whole{}, Whole{}) : copy(first(columns), first(columns - lanes));
}

// out[i][j] = x[j][i] for a square of numbers; `rows` rows and `columns` columns of x are read, the rest is zero.
void transpose(In x, int64_t rows, int64_t columns, Out out) {
  Vec a[lanes];
  const Live live = first(columns);
#pragma GCC unroll 16
  for (int64_t i = 0; i < lanes; ++i) a[i] = i < rows ? load(x.data + i * x.stride, live) : zero();
  simd::HETERODYNE_LEVEL::transpose(a);
#pragma GCC unroll 16
  for (int64_t i = 0; i < lanes; ++i) store(out.data + i * out.stride, a[i]);
}

// The transpose of x (rows, columns) as panels; `columns` rounded up to whole vectors are written in each.
void pack_transposed(In x, int64_t rows, int64_t columns, float* out) {
  for (int64_t p = 0; p < panels(rows); ++p) {
    for (int64_t j = 0; j < kBlock; j += lanes) {
      for (int64_t i = 0; i < columns; i += lanes) {
        const int64_t row = p * kBlock + j;
        transpose(x.from(row, i), rows - row, columns - i, {out + p * columns * kBlock + i * kBlock + j, kBlock});
      }
    }
  }
}

// Each row of x = exp(scale (x - its maximum)); the sums of the rows.
void exponentials(Out x, int64_t rows, int64_t columns, float scale, float* sums) {
  const Vec lowest = all(-INFINITY);
  for (int64_t r = 0; r < rows; ++r, x.data += x.stride) {
    Vec top = lowest;
    each(columns, [&](int64_t c, auto live) { top = max(top, or_else(live, load(x.data + c, live), lowest)); });
    const Vec maximum = all(max_of(top));
    Vec sum = zero();
    each(columns, [&](int64_t c, auto live) {
      const Vec e = exp((load(x.data + c, live) - maximum) * scale);
      store(x.data + c, e, live);
      sum = sum + only(live, e);
    });
    sums[r] = sum_of(sum);
  }
}

void divide_rows(Out x, int64_t rows, int64_t columns, const float* by) {
  for (int64_t r = 0; r < rows; ++r, x.data += x.stride) {
    const Vec factor = all(1.0f / by[r]);
    each(columns, [&](int64_t c, auto live) { store(x.data + c, factor * load(x.data + c, live), live); });
  }
}

// Attention of one head, a tile of queries at a time; keys, values and scores stay in the caches.
void attend(In q, int64_t queries, In k, In v, int64_t keys, int64_t width, Out out) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(width));
  const int64_t padded = (width + lanes - 1) / lanes * lanes;
  float* k_panels = scratch(0, panels(keys) * padded * kBlock);
  pack_transposed(k, keys, width, k_panels);
  float* v_panels = scratch(1, panels(width) * keys * kBlock);
  for (int64_t p = 0; p < panels(width); ++p)
    pack_columns(v.from(0, p * kBlock), keys, width - p * kBlock, v_panels + p * keys * kBlock);
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

// Parallel over the rows if there are enough of them, else over the columns of the weight.
void linear(In x, int64_t rows, const Panels& weight, const Finish& finish, Out out) {
  if (tiles(rows) >= 4 * at::get_num_threads()) {
    at::parallel_for(0, tiles(rows), 1, [&](int64_t begin, int64_t end) {
      const int64_t row = begin * kTileRows, last = std::min(end * kTileRows, rows);
      multiply(x.from(row, 0), last - row, weight, finish.from(row, 0), out.from(row, 0));
    });
  } else {
    at::parallel_for(0, panels(weight.n), 1, [&](int64_t begin, int64_t end) {
      const int64_t column = begin * kTileColumns, last = std::min(end * kTileColumns, weight.n);
      multiply(x, rows, {panel(weight, begin), weight.k, last - column}, finish.from(0, column), out.from(0, column));
    });
  }
}

void mlp(In x, int64_t rows, const Panels& first, const float* first_bias, const Panels& second, const Finish& finish,
         Out out) {
  const int64_t hidden = first.n;
  const int64_t most = std::max<int64_t>(1, hidden_floats() / (hidden * kTileRows));
  at::parallel_for(0, tiles(rows), 1, [&](int64_t begin, int64_t end) {
    const int64_t together = std::min(most, end - begin);
    // Rows are more than a cache line longer than needed, so they do not share sets of the first-level cache.
    const Out h{scratch(0, together * kTileRows * (hidden + lanes)), hidden + lanes};
    for (int64_t tile = begin; tile < end; tile += together) {
      const int64_t row = tile * kTileRows, count = std::min(std::min(tile + together, end) * kTileRows, rows) - row;
      multiply(x.from(row, 0), count, first, {first_bias, nullptr, Post::kGelu}, h);
      multiply({h.data, h.stride}, count, second, finish.from(row, 0), out.from(row, 0));
    }
  });
}

void mix(const float* x, int64_t batch, int64_t columns, const Left& first, const Left* second, Post post,
         const float* other, float* out) {
  const int64_t outputs = second ? second->outputs : first.outputs;
  at::parallel_for(0, batch * panels(columns), 1, [&](int64_t begin, int64_t end) {
    float* panel = scratch(0, first.inputs * kBlock);
    float* hidden = second ? scratch(1, first.outputs * kBlock) : nullptr;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / panels(columns), column = item % panels(columns) * kBlock,
                    width = std::min(kBlock, columns - column);
      pack_columns(In{x + b * first.inputs * columns, columns}.from(0, column), first.inputs, width, panel);
      const Out part = Out{out + b * outputs * columns, columns}.from(0, column);
      const In added = In{other ? other + b * outputs * columns : nullptr, columns}.from(0, column);
      if (second) {
        multiply(first.weight, first.outputs, {panel, first.inputs, kBlock}, {nullptr, first.bias, Post::kGelu},
                 {hidden, kBlock});
        multiply(second->weight, outputs, {hidden, second->inputs, width}, {nullptr, second->bias, post, added}, part);
      } else {
        multiply(first.weight, outputs, {panel, first.inputs, width}, {nullptr, first.bias, post, added}, part);
      }
    }
  });
}

void attention(const Sequences<const float>& q, const Sequences<const float>& k, const Sequences<const float>& v,
               int64_t batch, int64_t heads, int64_t width, const Sequences<float>& out) {
  at::parallel_for(0, batch * heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / heads, column = item % heads * width;
      attend(q.head(b, column), q.rows, k.head(b, column), v.head(b, column), k.rows, width, out.head(b, column));
    }
  });
}

void finish(const Finish& finish, int64_t rows, int64_t columns, Out x) {
  if (finish.post == Post::kNone && !finish.column_bias) return;
  at::parallel_for(
      0, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(columns, 1)),
      [&](int64_t begin, int64_t end) { apply(finish.from(begin, 0), end - begin, columns, x.from(begin, 0)); });
}

constexpr Kernels kKernels = {kTileColumns, linear, mlp, mix, attention, finish};

}  // namespace HETERODYNE_LEVEL
}  // namespace
}  // namespace heterodyne::packed
