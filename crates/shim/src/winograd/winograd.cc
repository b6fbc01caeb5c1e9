#include "winograd/winograd.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define WINOGRAD_AVX512
#include "element.h"
#include "winograd/kernels.h"
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace heterodyne::winograd {
namespace {

#ifdef WINOGRAD_AVX512

constexpr int64_t PAIR = 2 * LANES;  // output channels that one kernel computes

int64_t ceil_div(int64_t n, int64_t d) { return (n + d - 1) / d; }

// The sizes (batch, height, width) of a map in channels-last memory, and its 4x4 tiles, counted through the batch.
struct Grid {
  int64_t height, width, down, across, tiles;

  Grid(int64_t batch, int64_t height, int64_t width)
      : height(height), width(width), down(ceil_div(height, TILE)), across(ceil_div(width, TILE)), tiles(batch * down * across) {}

  // The pixels of the `side` x `side` square around tile `t`; -1 outside the map.
  template <int64_t side>
  std::array<int64_t, side * side> square(int64_t t) const {
    constexpr int64_t margin = (side - TILE) / 2;
    const int64_t image = t / (down * across), top = t / across % down * TILE - margin, left = t % across * TILE - margin;
    std::array<int64_t, side * side> pixels;
    for (int64_t i = 0; i < side * side; ++i) {
      const int64_t y = top + i / side, x = left + i % side;
      const bool inside = y >= 0 && y < height && x >= 0 && x < width;
      pixels[i] = inside ? (image * height + y) * width + x : -1;
    }
    return pixels;
  }
};

// Some channels of a map of float or bfloat16: `width` of the `stride` channels of each pixel.
template <class T>
struct Channels {
  T* data;
  int64_t stride, width;

  Channels slice(int64_t begin, int64_t count) const { return {data + begin, stride, count}; }
};

// Filters (outputs, inputs, 3, 3) of any strides.
struct Filters {
  float* data;
  int64_t outputs, inputs;
  int64_t output_stride, input_stride, row_stride, column_stride;

  explicit Filters(const at::Tensor& w)
      : data(w.data_ptr<float>()),
        outputs(w.size(0)),
        inputs(w.size(1)),
        output_stride(w.stride(0)),
        input_stride(w.stride(1)),
        row_stride(w.stride(2)),
        column_stride(w.stride(3)) {}

  // Rotated by half a turn, inputs and outputs exchanged: the convolution with these is the adjoint.
  Filters adjoint() const {
    Filters f = *this;
    f.data += (TAPS - 1) * (row_stride + column_stride);
    f.row_stride = -row_stride;
    f.column_stride = -column_stride;
    std::swap(f.outputs, f.inputs);
    std::swap(f.output_stride, f.input_stride);
    return f;
  }

  Filters slice(int64_t output, int64_t count) const {
    Filters f = *this;
    f.data += output * output_stride;
    f.outputs = count;
    return f;
  }

  float* at(int64_t output, int64_t input, int64_t tap) const {
    return data + output * output_stride + input * input_stride + tap / TAPS * row_stride + tap % TAPS * column_stride;
  }
};

// Memory that a thread keeps from call to call.
class Scratch {
 public:
  float* floats(int64_t n) {
    if (n > size_) grow(n);
    return data_.get();
  }

 private:
  static constexpr int64_t HUGE_PAGE = 2 << 20;
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  int64_t size_ = 0;

  void grow(int64_t n) {
    const int64_t bytes = ceil_div(n * int64_t(sizeof(float)), HUGE_PAGE) * HUGE_PAGE;
    data_.reset();
    size_ = 0;
    data_.reset(static_cast<float*>(std::aligned_alloc(HUGE_PAGE, bytes)));
    if (!data_) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(data_.get(), bytes, MADV_HUGEPAGE);  // 36 points in as many small pages are more than the first-level TLB holds
#endif
    size_ = bytes / int64_t(sizeof(float));
  }
};

// What all threads of a call read, and what each of them has for itself.
thread_local Scratch common_scratch, own_scratch;

// ---- between maps and points

// One chunk of one tile: `from` are its pixels.
template <class Transform, class T>
HETERODYNE_AVX512 void scatter_chunk(const std::array<const T*, Transform::from * Transform::from>& from, int64_t channel, float* to,
                                     int64_t point) {
  constexpr int n = Transform::from;
  __m512 x[n][n], v[PATCH][PATCH];
#pragma GCC unroll 6
  for (int i = 0; i < n; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < n; ++j) x[i][j] = vector::load(from[i * n + j] + channel);
  both_sides<Transform>(x, v);
#pragma GCC unroll 6
  for (int i = 0; i < PATCH; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < PATCH; ++j) {
      float* out = to + (i * PATCH + j) * point;
      _mm512_storeu_ps(out, v[i][j]);
      fetch(out + 2 * LANES);
    }
}

// Tiles `begin` and on of x to the points `to`, one row each; Transform is Input or OutputAdjoint.
template <class Transform, class T>
void scatter(const Grid& grid, const Channels<const T>& x, int64_t begin, int64_t rows, const Field& to) {
  constexpr int64_t side = Transform::from;
  at::parallel_for(0, rows, 1, [&](int64_t first, int64_t last) {
    const std::vector<T> zeros(x.width, T(0));
    for (int64_t row = first; row < last; ++row) {
      const auto pixels = grid.square<side>(begin + row);
      std::array<const T*, side * side> from;
      for (int64_t i = 0; i < side * side; ++i) from[i] = pixels[i] < 0 ? zeros.data() : x.data + pixels[i] * x.stride;
      for (int64_t c = 0; c < x.width; c += LANES) scatter_chunk<Transform, T>(from, c, to.at(0, c / LANES, row), to.point);
    }
  });
}

// One chunk of one tile; `to` are its pixels, null outside the map. `ahead` channels on lies the next tile.
template <class T>
HETERODYNE_AVX512 void gather_chunk(const float* from, int64_t point, const std::array<T*, TILE * TILE>& to, int64_t channel,
                                    int64_t ahead) {
  __m512 m[PATCH][PATCH], y[TILE][TILE];
#pragma GCC unroll 6
  for (int i = 0; i < PATCH; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < PATCH; ++j) m[i][j] = _mm512_loadu_ps(from + (i * PATCH + j) * point);
  both_sides<Output>(m, y);
#pragma GCC unroll 4
  for (int i = 0; i < TILE; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < TILE; ++j)
      if (T* out = to[i * TILE + j]) {
        vector::store(out + channel, y[i][j]);
        fetch(out + channel + ahead);  // a write that misses the cache waits for a read
      }
}

// The points `from` to the tiles `begin` and on of y.
template <class T>
void gather(const Grid& grid, const Field& from, int64_t begin, int64_t rows, const Channels<T>& y) {
  at::parallel_for(0, rows, 1, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const auto pixels = grid.square<TILE>(begin + row);
      std::array<T*, TILE * TILE> to;
      for (int64_t i = 0; i < TILE * TILE; ++i) to[i] = pixels[i] < 0 ? nullptr : y.data + pixels[i] * y.stride;
      for (int64_t c = 0; c < y.width; c += LANES) gather_chunk(from.at(0, c / LANES, row), from.point, to, c, TILE * y.stride);
    }
  });
}

// ---- between filters and points

// 16 outputs of 16 inputs, as (tap, input, output).
struct Taps {
  alignas(64) float data[TAPS * TAPS][LANES][LANES];
};

// 16 floats `stride` apart.
HETERODYNE_AVX512_INLINE __m512 load_strided(const float* from, int64_t stride) {
  const __m512i lanes = _mm512_mullo_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi64(stride));
  const __m256 low = _mm512_i64gather_ps(lanes, from, sizeof(float));
  const __m256 high = _mm512_i64gather_ps(lanes, from + LANES / 2 * stride, sizeof(float));
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

HETERODYNE_AVX512 void load_taps(const Filters& f, int64_t output, int64_t input, Taps& taps) {
  for (int64_t tap = 0; tap < TAPS * TAPS; ++tap) {
    const float* from = f.at(output, input, tap);
    if (f.input_stride == 1) {
      transpose(from, f.output_stride, taps.data[tap][0], LANES);
    } else if (f.output_stride == 1) {
      for (int64_t k = 0; k < LANES; ++k) _mm512_store_ps(taps.data[tap][k], _mm512_loadu_ps(from + k * f.input_stride));
    } else {
      for (int64_t k = 0; k < LANES; ++k) _mm512_store_ps(taps.data[tap][k], load_strided(from + k * f.input_stride, f.output_stride));
    }
  }
}

HETERODYNE_AVX512 void store_taps(const Taps& taps, const Filters& f, int64_t output, int64_t input, bool accumulate) {
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

HETERODYNE_AVX512 void scatter_taps(const Taps& taps, const Field& u, int64_t chunk, int64_t input) {
  for (int64_t k = 0; k < LANES; ++k) {
    __m512 g[TAPS][TAPS], points[PATCH][PATCH];
#pragma GCC unroll 9
    for (int tap = 0; tap < TAPS * TAPS; ++tap) g[tap / TAPS][tap % TAPS] = _mm512_load_ps(taps.data[tap][k]);
    both_sides<Filter>(g, points);
    float* to = u.at(0, chunk, input + k);
#pragma GCC unroll 6
    for (int i = 0; i < PATCH; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < PATCH; ++j) {
        float* out = to + (i * PATCH + j) * u.point;
        _mm512_storeu_ps(out, points[i][j]);
        fetch(out + 4 * LANES);
      }
  }
}

// The taps of the sum of `parts` fields that lie one after the other.
HETERODYNE_AVX512 void gather_taps(const Field& g, int64_t parts, int64_t part_size, int64_t chunk, int64_t input, Taps& taps) {
  for (int64_t k = 0; k < LANES; ++k) {
    __m512 u[PATCH][PATCH], out[TAPS][TAPS];
    const float* from = g.at(0, chunk, input + k);
#pragma GCC unroll 6
    for (int i = 0; i < PATCH; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < PATCH; ++j) {
        const float* point = from + (i * PATCH + j) * g.point;
        u[i][j] = _mm512_loadu_ps(point);
        for (int64_t part = 1; part < parts; ++part) u[i][j] = add(u[i][j], _mm512_loadu_ps(point + part * part_size));
      }
    both_sides<FilterAdjoint>(u, out);
#pragma GCC unroll 9
    for (int tap = 0; tap < TAPS * TAPS; ++tap) _mm512_store_ps(taps.data[tap][k], out[tap / TAPS][tap % TAPS]);
  }
}

// Calls `square(chunk of outputs, first input)` for every 16x16 square of the filters.
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

constexpr int64_t MAX_ROWS = 14;  // 28 sums, two vectors of the right factor and one of the left: 31 of 32 registers
using MultiplyRows = decltype(&multiply_rows<1, 1>);

template <int N, size_t... R>
constexpr std::array<MultiplyRows, sizeof...(R)> by_rows(std::index_sequence<R...>) {
  return {multiply_rows<int(R) + 1, N>...};
}
constexpr auto one_chunk = by_rows<1>(std::make_index_sequence<MAX_ROWS>());
constexpr auto two_chunks = by_rows<2>(std::make_index_sequence<MAX_ROWS>());

// Calls `pair(point, first chunk, whether a second one follows)` for all points and pairs of chunks.
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

// g (inputs, outputs) = v^T (inputs, rows) m (rows, outputs) at every point, added to g where `accumulate`.
void multiply_transposed(const Field& v, const Field& m, const Field& g, int64_t rows, int64_t inputs, int64_t outputs, bool accumulate) {
  constexpr int R = 8;
  each_pair(outputs, [&](int64_t p, int64_t chunk, bool two) {
    const auto kernel = two ? multiply_channels<R, 2> : multiply_channels<R, 1>;
    for (int64_t c = 0; c < inputs; c += R)
      kernel(v.at(p, c / LANES, 0) + c % LANES, m.at(p, chunk, 0), m.chunk(), rows, g.at(p, chunk, c), g.chunk(), accumulate);
  });
}

// ---- the convolution and its filters' gradient

// How the work is cut. Either each thread takes blocks of tiles, whose points fit into its second-level cache, through all
// output channels; or, where the points of the filters alone are too much for the cache, all take a larger block of tiles
// together and each computes pairs of output chunks, from the filters' taps on. Where there are fewer pairs than threads that
// is given up, except for the filters' gradient, of which each thread would have to hold a whole one.
struct Plan {
  bool by_tiles;
  int64_t block, blocks;  // tiles of one block; their number

  Plan(int64_t tiles, int64_t inputs, int64_t outputs, bool for_filters) {
    constexpr int64_t cache = 1200 << 10, few_channels = 256, large_block = 128;
    const int64_t threads = at::get_num_threads();
    by_tiles = inputs + outputs <= few_channels || (!for_filters && ceil_div(outputs, PAIR) < threads);
    const int64_t fitting = cache / (POINTS * int64_t(sizeof(float)) * (inputs + outputs));
    const int64_t most = by_tiles ? std::max(fitting / MAX_ROWS, int64_t(1)) * MAX_ROWS : large_block;
    blocks = ceil_div(tiles, most);
    if (by_tiles) blocks = ceil_div(blocks, threads) * threads;
    block = ceil_div(tiles, blocks);
    blocks = ceil_div(tiles, block);
  }

};

template <class T>
void convolve_by_tiles(const Grid& grid, const Plan& plan, const Channels<const T>& x, const Filters& f, const Channels<T>& y) {
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
void convolve_by_channels(const Grid& grid, const Plan& plan, const Channels<const T>& x, const Filters& f, const Channels<T>& y) {
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

// One sum over tiles per thread; their order is that of the tiles.
template <class T>
void correlate_by_tiles(const Grid& grid, const Plan& plan, const Channels<const T>& x, const Channels<const T>& dy, const Filters& gradient) {
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
void correlate_by_channels(const Grid& grid, const Plan& plan, const Channels<const T>& x, const Channels<const T>& dy, const Filters& gradient) {
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
#endif  // WINOGRAD_AVX512

const at::Tensor& tensor(size_t address) { return *reinterpret_cast<const at::Tensor*>(address); }

bool is_map_on_cpu(const at::Tensor& t) { return t.dim() == 4 && t.is_cpu() && t.layout() == at::kStrided; }

// The kind that a convolution of `x` has here: float without autocast; under it bfloat16, where direct convolutions have no matrix
// instructions for that.
bool suits_kind(const at::Tensor& x) {
  const bool autocast = at::autocast::is_autocast_enabled(at::kCPU);
  if (x.scalar_type() == at::kFloat) return !autocast;
  return x.scalar_type() == at::kBFloat16 && autocast && at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16 && !matrix_bf16();
}

bool suits(const at::Tensor& x, const at::Tensor& weight) {
#ifdef WINOGRAD_AVX512
  if (!machine_suits() || !is_map_on_cpu(x) || !is_map_on_cpu(weight) || weight.scalar_type() != at::kFloat || !suits_kind(x)) return false;
  const int64_t inputs = x.size(1), outputs = weight.size(0), height = x.size(2), width = x.size(3);
  if (weight.size(1) != inputs || weight.size(2) != TAPS || weight.size(3) != TAPS || x.numel() == 0 || outputs == 0) return false;
  if (inputs % LANES != 0 || outputs % LANES != 0) return false;
  // Below 16 tiles the transforms of the filters do not pay. Below half the multiplications of the direct convolution, 9 for
  // each pixel against 36 for each tile, those of the tiles do not.
  const Grid grid(x.size(0), height, width);
  return grid.tiles >= 16 && TAPS * TAPS * height * width >= 2 * POINTS * grid.down * grid.across;
#else
  return false;
#endif
}

#ifdef WINOGRAD_AVX512
at::Tensor convolve(const at::Tensor& x, const Filters& f) {
  const at::Tensor from = x.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor y = at::empty({x.size(0), f.outputs, x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    convolve(Grid(x.size(0), x.size(2), x.size(3)), from.const_data_ptr<T>(), f, y.mutable_data_ptr<T>());
  });
  return y;
}

// The gradient of `weight`, with its strides.
at::Tensor correlate(const at::Tensor& x, const at::Tensor& dy, const at::Tensor& weight) {
  const at::Tensor input = x.contiguous(at::MemoryFormat::ChannelsLast), output = dy.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor gradient = at::empty_like(weight);
  with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    correlate(Grid(x.size(0), x.size(2), x.size(3)), input.const_data_ptr<T>(), output.const_data_ptr<T>(), Filters(gradient));
  });
  return gradient;
}

struct Conv3x3 : torch::autograd::Function<Conv3x3> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight) {
    ctx->save_for_backward({x, weight});
    return convolve(x, Filters(weight));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, torch::autograd::variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const bool to_x = ctx->needs_input_grad(0), to_weight = ctx->needs_input_grad(1);
    if (!gradients[0].defined()) return {at::Tensor(), at::Tensor()};
    const at::Tensor dy = gradients[0].to(x.scalar_type());
    if (at::GradMode::is_enabled()) {  // for a second derivative
      auto [dx, dw, db] = at::convolution_backward(dy, x, weight.to(x.scalar_type()), std::nullopt, {1, 1}, {1, 1}, {1, 1}, /*transposed=*/false, {0, 0},
                                                   /*groups=*/1, {to_x, to_weight, false});
      return {dx, to_weight ? dw.to(weight.scalar_type()) : dw};
    }
    return {to_x ? convolve(dy, Filters(weight).adjoint()) : at::Tensor(), to_weight ? correlate(x, dy, weight) : at::Tensor()};
  }
};
#endif

}  // namespace

size_t conv3x3(size_t x_bchw, size_t weight) {
  RECORD_FUNCTION("heterodyne::conv3x3", c10::ArrayRef<const c10::IValue>{});
  const at::Tensor &x = tensor(x_bchw), &w = tensor(weight);
#ifdef WINOGRAD_AVX512
  if (suits(x, w)) return reinterpret_cast<size_t>(new at::Tensor(Conv3x3::apply(x, w)));
#endif
  return reinterpret_cast<size_t>(new at::Tensor(at::conv2d(x, w, /*bias=*/{}, /*stride=*/1, /*padding=*/1)));
}

bool suits(size_t x_bchw, size_t weight) { return suits(tensor(x_bchw), tensor(weight)); }

}  // namespace heterodyne::winograd
