// Vector kernels of the convolution F(4x4, 3x3): Lavin and Gray 2015, "Fast algorithms for convolutional neural
// networks", arXiv 1509.09308. With d a 6x6 patch of the input, g a 3x3 filter and y the 4x4 patch of the output,
//
//   y = A [ (G g G^T) . (B d B^T) ] A^T
//
// where . multiplies point by point and sums over channels. The interpolation points are 0, +-5/8, +-3/2 and infinity:
// their powers are exact in float32, and the rounding error is half that of the usual 0, +-1, +-2.
//
// Transformed data are laid out as (36 points, channels / LANES, rows, LANES). A row is a tile of the map or, for
// weights, an input channel; the channels of a chunk fill one vector.
//
// Compiled once for each level, with that level's vectors.
namespace heterodyne::winograd {
namespace {
namespace HETERODYNE_LEVEL {

using namespace simd::HETERODYNE_LEVEL;
using simd::fetch;

constexpr int64_t LANES = lanes;

// A transformed operand.
struct Field {
  float* data;
  int64_t rows;   // rows of a chunk
  int64_t point;  // floats from one point to the next

  // An odd number of cache lines from point to point spreads the 36 points over the cache sets.
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

// z + x y and z - x y
HETERODYNE_INLINE Vec axpy(Vec x, float y, Vec z) { return x * y + z; }
HETERODYNE_INLINE Vec axmy(Vec x, float y, Vec z) { return z - x * y; }

// v = B d: 6 values to 6 points.
struct Input {
  static constexpr int from = PATCH, to = PATCH;
  HETERODYNE_INLINE static void line(const Vec* d, Vec* v) {
    using namespace points;
    const Vec even_a = axmy(d[2], b2, d[4]), odd_a = axmy(d[1], b2, d[3]);
    const Vec even_b = axmy(d[2], a2, d[4]), odd_b = axmy(d[1], a2, d[3]);
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
  HETERODYNE_INLINE static void line(const Vec* g, Vec* u) {
    using namespace points;
    const Vec even_a = axpy(g[2], a2, g[0]) * scale_a, even_b = axpy(g[2], b2, g[0]) * scale_b;
    u[0] = g[0] * scale_0;
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
  HETERODYNE_INLINE static void line(const Vec* m, Vec* y) {
    using namespace points;
    const Vec even_a = m[1] + m[2], odd_a = m[1] - m[2];
    const Vec even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + (even_a + even_b);
    y[1] = axpy(odd_a, a, odd_b * b);
    y[2] = axpy(even_a, a2, even_b * b2);
    y[3] = axpy(odd_a, a3, axpy(odd_b, b3, m[5]));
  }
};

// A^T, the adjoint of Output: 4 values to 6 points.
struct OutputAdjoint {
  static constexpr int from = TILE, to = PATCH;
  HETERODYNE_INLINE static void line(const Vec* y, Vec* m) {
    using namespace points;
    const Vec even_a = axpy(y[2], a2, y[0]), odd_a = axpy(y[3], a2, y[1]);
    const Vec even_b = axpy(y[2], b2, y[0]), odd_b = axpy(y[3], b2, y[1]);
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
  HETERODYNE_INLINE static void line(const Vec* u, Vec* g) {
    using namespace points;
    const Vec even_a = (u[1] + u[2]) * scale_a, odd_a = (u[1] - u[2]) * (a * scale_a);
    const Vec even_b = (u[3] + u[4]) * scale_b, odd_b = (u[3] - u[4]) * (b * scale_b);
    g[0] = axpy(u[0], scale_0, even_a + even_b);
    g[1] = odd_a + odd_b;
    g[2] = axpy(even_a, a2, axpy(even_b, b2, u[5]));
  }
};

// T x T^T for a square of vectors; T is one of the above.
template <class T>
HETERODYNE_INLINE void both_sides(const Vec (&x)[T::from][T::from], Vec (&y)[T::to][T::to]) {
  Vec half[T::from][T::to];
#pragma GCC unroll 6
  for (int i = 0; i < T::from; ++i) T::line(x[i], half[i]);
#pragma GCC unroll 6
  for (int j = 0; j < T::to; ++j) {
    Vec column[T::from], out[T::to];
#pragma GCC unroll 6
    for (int i = 0; i < T::from; ++i) column[i] = half[i][j];
    T::line(column, out);
#pragma GCC unroll 6
    for (int i = 0; i < T::to; ++i) y[i][j] = out[i];
  }
}

// c (R rows, N chunks) = sum over k of a (R rows, k) b (k, N chunks), all of one point. `chunks` chunks of LANES k of a
// are `a_chunk` floats apart; the chunks of b and of c are `b_chunk` and `c_chunk` apart.
template <int R, int N>
void multiply_rows(const float* a, int64_t a_chunk, const float* b, int64_t b_chunk, int64_t chunks, float* c,
                   int64_t c_chunk) {
  Vec sum[R][N];
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) sum[r][n] = zero();
  for (; chunks > 0; --chunks, a += a_chunk) {
    for (int k = 0; k < LANES; ++k, b += LANES) {
      Vec right[N];
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) right[n] = load(b + n * b_chunk);
#pragma GCC unroll 14
      for (int r = 0; r < R; ++r) {
        const Vec left = all(a[r * LANES + k]);
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) sum[r][n] = left * right[n] + sum[r][n];
      }
    }
  }
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) store(c + n * c_chunk + r * LANES, sum[r][n]);
}

// c (R channels of one chunk, N chunks) = sum over rows t of a (t, R) b (t, N chunks), added to c if `accumulate`.
// Blocks of rows are summed separately; otherwise the rounding errors of thousands of tiles would accumulate.
template <int R, int N>
void multiply_channels(const float* a, const float* b, int64_t b_chunk, int64_t rows, float* c, int64_t c_chunk,
                       bool accumulate) {
  Vec sum[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) sum[r][n] = zero();
  for (int64_t t = 0; t < rows; ++t, a += LANES, b += LANES) {
    Vec right[N];
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) right[n] = load(b + n * b_chunk);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec left = all(a[r]);
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) sum[r][n] = left * right[n] + sum[r][n];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) {
      float* out = c + n * c_chunk + r * LANES;
      store(out, accumulate ? load(out) + sum[r][n] : sum[r][n]);
    }
}

// Transposes a square: to[j][i] = from[i][j], lines `from_line` and `to_line` floats apart.
inline void transpose(const float* from, int64_t from_line, float* to, int64_t to_line) {
  Vec x[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) x[i] = load(from + i * from_line);
  simd::HETERODYNE_LEVEL::transpose(x);
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) store(to + i * to_line, x[i]);
}

constexpr int64_t PAIR = 2 * LANES;  // output channels of one kernel

// ---- between maps and points

// Transforms one chunk of one tile. `lines` point to the first pixels of its lines, in which the columns from `left` to
// before `right` are inside the map; pixels are `stride` apart.
template <class Transform, class T>
HETERODYNE_INLINE void scatter_chunk(const T* const (&lines)[Transform::from], int64_t stride, int64_t left,
                                     int64_t right, float* to, int64_t point) {
  constexpr int n = Transform::from;
  Vec half[n][PATCH];
#pragma GCC unroll 6
  for (int j = 0; j < n; ++j) {
    if (left <= j && j < right) {
      Vec column[n];
#pragma GCC unroll 6
      for (int i = 0; i < n; ++i) {
        column[i] = load(lines[i] + j * stride);
        if (j >= n - TILE) fetch(lines[i] + (j + TILE) * stride);  // of the next tile
      }
      Transform::line(column, half[j]);
    } else {
#pragma GCC unroll 6
      for (int i = 0; i < PATCH; ++i) half[j][i] = zero();
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < PATCH; ++i) {
    Vec row[n], out[PATCH];
#pragma GCC unroll 6
    for (int j = 0; j < n; ++j) row[j] = half[j][i];
    Transform::line(row, out);
#pragma GCC unroll 6
    for (int j = 0; j < PATCH; ++j) {
      float* p = to + (i * PATCH + j) * point;
      store(p, out[j]);
      fetch(p + 2 * LANES);
    }
  }
}

// Transforms the tiles of x from `begin` to the points `to`, one row each; Transform is Input or OutputAdjoint.
template <class Transform, class T>
void scatter(const Grid& grid, const Channels<const T>& x, int64_t begin, int64_t rows, const Field& to) {
  constexpr int64_t side = Transform::from;
  at::parallel_for(0, rows, 1, [&](int64_t first, int64_t last) {
    const std::vector<T> outside(side * x.stride, T(0));
    Square<side> square(grid, begin + first);
    for (int64_t row = first; row < last; ++row, square.advance()) {
      const int64_t top = square.top(), bottom = square.bottom(), left = square.left(), right = square.right();
      const T* lines[side];
      for (int64_t i = 0; i < side; ++i)
        lines[i] = top <= i && i < bottom ? x.data + square.pixel(i) * x.stride : outside.data();
      for (int64_t c = 0; c < x.width; c += LANES) {
        scatter_chunk<Transform>(lines, x.stride, left, right, to.at(0, c / LANES, row), to.point);
        for (int64_t i = 0; i < side; ++i) lines[i] += LANES;
      }
    }
  });
}

// Transforms one chunk of one tile, of which `bottom` lines and `right` columns are inside the map.
template <class T>
HETERODYNE_INLINE void gather_chunk(const float* from, int64_t point, T* const (&lines)[TILE], int64_t stride,
                                    int64_t bottom, int64_t right) {
  Vec half[PATCH][TILE];
#pragma GCC unroll 6
  for (int j = 0; j < PATCH; ++j) {
    Vec column[PATCH];
#pragma GCC unroll 6
    for (int i = 0; i < PATCH; ++i) column[i] = load(from + (i * PATCH + j) * point);
    Output::line(column, half[j]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < TILE; ++i) {
    if (i >= bottom) break;
    Vec row[PATCH], out[TILE];
#pragma GCC unroll 6
    for (int j = 0; j < PATCH; ++j) row[j] = half[j][i];
    Output::line(row, out);
#pragma GCC unroll 4
    for (int j = 0; j < TILE; ++j) {
      if (j >= right) break;
      store(lines[i] + j * stride, out[j]);
      fetch(lines[i] + (j + TILE) * stride);  // a write that misses the cache waits for a read
    }
  }
}

// Transforms the points `from` to the tiles of y from `begin`.
template <class T>
void gather(const Grid& grid, const Field& from, int64_t begin, int64_t rows, const Channels<T>& y) {
  at::parallel_for(0, rows, 1, [&](int64_t first, int64_t last) {
    Square<TILE> square(grid, begin + first);
    for (int64_t row = first; row < last; ++row, square.advance()) {
      const int64_t bottom = square.bottom(), right = square.right();
      T* lines[TILE];
      for (int64_t i = 0; i < TILE; ++i) lines[i] = y.data + square.pixel(i) * y.stride;
      for (int64_t c = 0; c < y.width; c += LANES) {
        gather_chunk(from.at(0, c / LANES, row), from.point, lines, y.stride, bottom, right);
        for (int64_t i = 0; i < TILE; ++i) lines[i] += LANES;
      }
    }
  });
}

// ---- between filters and points

// A square of outputs and inputs, as (tap, input, output).
struct Taps {
  alignas(64) float data[TAPS * TAPS][LANES][LANES];
};

// Loads floats that are `stride` apart.
HETERODYNE_INLINE Vec load_strided(const float* from, int64_t stride) {
  Vec v{};
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) v[i] = from[i * stride];
  return v;
}

void load_taps(const Filters& f, int64_t output, int64_t input, Taps& taps) {
  for (int64_t tap = 0; tap < TAPS * TAPS; ++tap) {
    const float* from = f.at(output, input, tap);
    if (f.input_stride == 1) {
      transpose(from, f.output_stride, taps.data[tap][0], LANES);
    } else if (f.output_stride == 1) {
      for (int64_t k = 0; k < LANES; ++k) store(taps.data[tap][k], load(from + k * f.input_stride));
    } else {
      for (int64_t k = 0; k < LANES; ++k)
        store(taps.data[tap][k], load_strided(from + k * f.input_stride, f.output_stride));
    }
  }
}

void store_taps(const Taps& taps, const Filters& f, int64_t output, int64_t input, bool accumulate) {
  alignas(64) float square[LANES][LANES];
  for (int64_t tap = 0; tap < TAPS * TAPS; ++tap) {
    float* to = f.at(output, input, tap);
    transpose(taps.data[tap][0], LANES, square[0], LANES);
    for (int64_t n = 0; n < LANES; ++n) {
      float* line = to + n * f.output_stride;
      for (int64_t k = 0; k < LANES; ++k) {
        float& tap_gradient = line[k * f.input_stride];
        tap_gradient = square[n][k] + (accumulate ? tap_gradient : 0.f);
      }
    }
  }
}

void scatter_taps(const Taps& taps, const Field& u, int64_t chunk, int64_t input) {
  for (int64_t k = 0; k < LANES; ++k) {
    Vec g[TAPS][TAPS], points[PATCH][PATCH];
#pragma GCC unroll 9
    for (int tap = 0; tap < TAPS * TAPS; ++tap) g[tap / TAPS][tap % TAPS] = load(taps.data[tap][k]);
    both_sides<Filter>(g, points);
    float* to = u.at(0, chunk, input + k);
#pragma GCC unroll 6
    for (int i = 0; i < PATCH; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < PATCH; ++j) {
        float* out = to + (i * PATCH + j) * u.point;
        store(out, points[i][j]);
        fetch(out + 4 * LANES);
      }
  }
}

// The taps of the sum of `parts` consecutive fields.
void gather_taps(const Field& g, int64_t parts, int64_t part_size, int64_t chunk, int64_t input, Taps& taps) {
  for (int64_t k = 0; k < LANES; ++k) {
    Vec u[PATCH][PATCH], out[TAPS][TAPS];
    const float* from = g.at(0, chunk, input + k);
#pragma GCC unroll 6
    for (int i = 0; i < PATCH; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < PATCH; ++j) {
        const float* point = from + (i * PATCH + j) * g.point;
        u[i][j] = load(point);
        for (int64_t part = 1; part < parts; ++part) u[i][j] = u[i][j] + load(point + part * part_size);
      }
    both_sides<FilterAdjoint>(u, out);
#pragma GCC unroll 9
    for (int tap = 0; tap < TAPS * TAPS; ++tap) store(taps.data[tap][k], out[tap / TAPS][tap % TAPS]);
  }
}

// Calls `square(chunk of outputs, first input)` for every square of the filters.
template <class Square>
void each_square(const Filters& f, const Square& square) {
  const int64_t squares = f.inputs / LANES;
  at::parallel_for(0, f.outputs / LANES * squares, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) square(i / squares, i % squares * LANES);
  });
}

void scatter_filters(const Filters& f, const Field& u) {
  each_square(f, [&](int64_t chunk, int64_t input) {
    Taps taps;
    load_taps(f, chunk * LANES, input, taps);
    scatter_taps(taps, u, chunk, input);
  });
}

void gather_filters(const Field& g, int64_t parts, int64_t part_size, const Filters& f, bool accumulate) {
  each_square(f, [&](int64_t chunk, int64_t input) {
    Taps taps;
    gather_taps(g, parts, part_size, chunk, input, taps);
    store_taps(taps, f, chunk * LANES, input, accumulate);
  });
}

// ---- products of points

// Of 32 registers, 28 hold sums, two the right factor and one the left; of 16 registers, 12, two and one.
constexpr int64_t MAX_ROWS = LANES == 16 ? 14 : 6;
using MultiplyRows = decltype(&multiply_rows<1, 1>);

template <int N, size_t... R>
constexpr std::array<MultiplyRows, sizeof...(R)> by_rows(std::index_sequence<R...>) {
  return {multiply_rows<int(R) + 1, N>...};
}
constexpr auto one_chunk = by_rows<1>(std::make_index_sequence<MAX_ROWS>());
constexpr auto two_chunks = by_rows<2>(std::make_index_sequence<MAX_ROWS>());

// Calls `pair(point, first chunk, whether a second chunk follows)` for all points and pairs of chunks.
template <class Pair>
void each_pair(int64_t outputs, const Pair& pair) {
  const int64_t pairs = ceil_div(outputs, PAIR);
  at::parallel_for(0, POINTS * pairs, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) pair(i / pairs, i % pairs * 2, (i % pairs + 1) * PAIR <= outputs);
  });
}

// m (rows, outputs) = v (rows, inputs) u (inputs, outputs) at every point.
void multiply(const Field& v, const Field& u, const Field& m, int64_t rows, int64_t inputs, int64_t outputs) {
  const int64_t blocks = ceil_div(rows, MAX_ROWS);
  each_pair(outputs, [&](int64_t p, int64_t chunk, bool two) {
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t row = block * rows / blocks, count = (block + 1) * rows / blocks - row;
      const auto kernel = (two ? two_chunks : one_chunk)[count - 1];
      kernel(v.at(p, 0, row), v.chunk(), u.at(p, chunk, 0), u.chunk(), inputs / LANES, m.at(p, chunk, row), m.chunk());
    }
  });
}

// g (inputs, outputs) = v^T (inputs, rows) m (rows, outputs) at every point, added to g if `accumulate`.
void multiply_transposed(const Field& v, const Field& m, const Field& g, int64_t rows, int64_t inputs, int64_t outputs,
                         bool accumulate) {
  constexpr int R = LANES == 16 ? 8 : 4;
  each_pair(outputs, [&](int64_t p, int64_t chunk, bool two) {
    const auto kernel = two ? multiply_channels<R, 2> : multiply_channels<R, 1>;
    for (int64_t c = 0; c < inputs; c += R)
      kernel(v.at(p, c / LANES, 0) + c % LANES, m.at(p, chunk, 0), m.chunk(), rows, g.at(p, chunk, c), g.chunk(),
             accumulate);
  });
}

// ---- the convolution and its filters' gradient

// How the work is divided. By tiles: each thread takes blocks of tiles, whose points fit into its second-level cache,
// through all output channels. By channels, if the points of the filters alone exceed the cache: all threads share a
// larger block of tiles, and each computes pairs of output chunks, starting from the filters' taps. The second way is
// not used with fewer pairs than threads, except for the filters' gradient, of which each thread would have to hold a
// whole copy. Every block adds to that gradient's points once, so it has more than a few tiles, cached or not.
struct Plan {
  bool by_tiles;
  int64_t block, blocks;  // tiles of one block; their number

  Plan(int64_t tiles, int64_t inputs, int64_t outputs, bool for_filters) {
    constexpr int64_t few_channels = 256, large_block = 128, few_tiles = 48;
    const int64_t cache = cpu::second_level_cache() * 5 / 8;
    const int64_t threads = at::get_num_threads();
    by_tiles = inputs + outputs <= few_channels || (!for_filters && ceil_div(outputs, PAIR) < threads);
    const int64_t fitting = cache / (POINTS * int64_t(sizeof(float)) * (inputs + outputs));
    const int64_t least = for_filters ? few_tiles : MAX_ROWS;
    const int64_t most = by_tiles ? std::max(fitting / MAX_ROWS * MAX_ROWS, least) : large_block;
    blocks = ceil_div(tiles, most);
    if (by_tiles) blocks = ceil_div(blocks, threads) * threads;
    block = ceil_div(tiles, blocks);
    blocks = ceil_div(tiles, block);
  }
};

template <class T>
void convolve_by_tiles(const Grid& grid, const Plan& plan, const Channels<const T>& x, const Filters& f,
                       const Channels<T>& y) {
  const Field u(common_scratch.floats(Field::size(f.outputs, f.inputs)), f.outputs, f.inputs);
  scatter_filters(f, u);
  at::parallel_for(0, plan.blocks, 1, [&](int64_t first, int64_t last) {
    const int64_t v_size = Field::size(f.inputs, plan.block);
    float* own = own_scratch.floats(v_size + Field::size(f.outputs, plan.block));
    const Field v(own, f.inputs, plan.block), m(own + v_size, f.outputs, plan.block);
    for (int64_t i = first; i < last; ++i) {
      const int64_t begin = i * plan.block, rows = std::min(plan.block, grid.tiles - begin);
      scatter<Input>(grid, x, begin, rows, v);
      multiply(v, u, m, rows, f.inputs, f.outputs);
      gather(grid, m, begin, rows, y);
    }
  });
}

template <class T>
void convolve_by_channels(const Grid& grid, const Plan& plan, const Channels<const T>& x, const Filters& f,
                          const Channels<T>& y) {
  const Field v(common_scratch.floats(Field::size(f.inputs, plan.block)), f.inputs, plan.block);
  for (int64_t begin = 0; begin < grid.tiles; begin += plan.block) {
    const int64_t rows = std::min(plan.block, grid.tiles - begin);
    scatter<Input>(grid, x, begin, rows, v);
    at::parallel_for(0, ceil_div(f.outputs, PAIR), 1, [&](int64_t first, int64_t last) {
      const int64_t u_size = Field::size(PAIR, f.inputs);
      float* own = own_scratch.floats(u_size + Field::size(PAIR, plan.block));
      const Field u(own, PAIR, f.inputs), m(own + u_size, PAIR, plan.block);
      for (int64_t output = first * PAIR; output < std::min(last * PAIR, f.outputs); output += PAIR) {
        const int64_t width = std::min(PAIR, f.outputs - output);
        scatter_filters(f.slice(output, width), u);
        multiply(v, u, m, rows, f.inputs, width);
        gather(grid, m, begin, rows, y.slice(output, width));
      }
    });
  }
}

// One sum over tiles per thread, added in the order of the tiles.
template <class T>
void correlate_by_tiles(const Grid& grid, const Plan& plan, const Channels<const T>& x, const Channels<const T>& dy,
                        const Filters& gradient) {
  const int64_t inputs = gradient.inputs, outputs = gradient.outputs;
  const int64_t parts = std::min<int64_t>(at::get_num_threads(), plan.blocks), part_size = Field::size(outputs, inputs);
  float* sums = common_scratch.floats(parts * part_size);
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    const int64_t v_size = Field::size(inputs, plan.block);
    float* own = own_scratch.floats(v_size + Field::size(outputs, plan.block));
    const Field v(own, inputs, plan.block), m(own + v_size, outputs, plan.block);
    for (int64_t part = first; part < last; ++part) {
      const Field g(sums + part * part_size, outputs, inputs);
      const int64_t start = part * plan.blocks / parts, end = (part + 1) * plan.blocks / parts;
      for (int64_t i = start; i < end; ++i) {
        const int64_t begin = i * plan.block, rows = std::min(plan.block, grid.tiles - begin);
        scatter<Input>(grid, x, begin, rows, v);
        scatter<OutputAdjoint>(grid, dy, begin, rows, m);
        multiply_transposed(v, m, g, rows, inputs, outputs, i > start);
      }
    }
  });
  gather_filters(Field(sums, outputs, inputs), parts, part_size, gradient, false);
}

// The blocks of tiles are summed as taps.
template <class T>
void correlate_by_channels(const Grid& grid, const Plan& plan, const Channels<const T>& x, const Channels<const T>& dy,
                           const Filters& gradient) {
  const int64_t inputs = gradient.inputs, outputs = gradient.outputs;
  const Field v(common_scratch.floats(Field::size(inputs, plan.block)), inputs, plan.block);
  for (int64_t begin = 0; begin < grid.tiles; begin += plan.block) {
    const int64_t rows = std::min(plan.block, grid.tiles - begin);
    scatter<Input>(grid, x, begin, rows, v);
    at::parallel_for(0, ceil_div(outputs, PAIR), 1, [&](int64_t first, int64_t last) {
      const int64_t g_size = Field::size(PAIR, inputs);
      float* own = own_scratch.floats(g_size + Field::size(PAIR, plan.block));
      const Field g(own, PAIR, inputs), m(own + g_size, PAIR, plan.block);
      for (int64_t output = first * PAIR; output < std::min(last * PAIR, outputs); output += PAIR) {
        const int64_t width = std::min(PAIR, outputs - output);
        scatter<OutputAdjoint>(grid, dy.slice(output, width), begin, rows, m);
        multiply_transposed(v, m, g, rows, inputs, width, false);
        gather_filters(g, 1, 0, gradient.slice(output, width), begin > 0);
      }
    });
  }
}

template <class T>
void convolve(const Grid& grid, const T* x, const Filters& f, T* y) {
  const Plan plan(grid.tiles, f.inputs, f.outputs, /*for_filters=*/false);
  const Channels<const T> from{x, f.inputs, f.inputs};
  const Channels<T> to{y, f.outputs, f.outputs};
  (plan.by_tiles ? convolve_by_tiles<T> : convolve_by_channels<T>)(grid, plan, from, f, to);
}

template <class T>
void correlate(const Grid& grid, const T* x, const T* dy, const Filters& gradient) {
  const Plan plan(grid.tiles, gradient.inputs, gradient.outputs, /*for_filters=*/true);
  const Channels<const T> inputs{x, gradient.inputs, gradient.inputs}, outputs{dy, gradient.outputs, gradient.outputs};
  (plan.by_tiles ? correlate_by_tiles<T> : correlate_by_channels<T>)(grid, plan, inputs, outputs, gradient);
}

}  // namespace HETERODYNE_LEVEL
}  // namespace
}  // namespace heterodyne::winograd
