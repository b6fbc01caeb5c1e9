// The passes of batch norm, for one level.
namespace heterodyne::norm {
namespace {
namespace HETERODYNE_LEVEL {

using namespace simd::HETERODYNE_LEVEL;

// Tiles are four vectors wide.
constexpr int64_t tile_vectors = 4;
constexpr int64_t tile_width = tile_vectors * lanes;
// A bit for each column of a tile: one word of a gate.
using Word = std::conditional_t<tile_width == 64, uint64_t, std::conditional_t<tile_width == 32, uint32_t, uint16_t>>;

// A channels-last tensor as a matrix. Rows of C channels are joined until a row is a whole number of tiles; elements
// that do not fill the last such row form the `rest`. Column j holds channel j mod C.
struct Grid {
  int64_t channels, values;  // values per channel
  int64_t width, rows, rest;
  int64_t block_rows;

  explicit Grid(const at::Tensor& x) : channels(x.size(1)), values(x.numel() / x.size(1)) {
    width = std::lcm(channels, tile_width);
    rows = x.numel() / width;
    rest = x.numel() % width;
    // About 64 KiB of float; the upper bound keeps sums in float short, the lower one makes adding them up in double
    // cheap.
    block_rows = std::clamp<int64_t>(16384 / width, 32, 256);
  }

  int64_t full_blocks() const { return (rows + block_rows - 1) / block_rows; }
  int64_t blocks() const { return full_blocks() + (rest != 0); }
  // Number of blocks that justify a thread.
  int64_t grain() const { return std::max<int64_t>(1, 32768 / (block_rows * width)); }
};

// Some rows of a tile's columns.
struct Tile {
  int64_t start;   // of the first row, in elements from the tensor's start
  int64_t column;  // of the first column
  int64_t rows, stride;
  int64_t live;  // columns that exist: all, except in the last tile of an incomplete row
};

// The lanes of a tile's vectors: all of them, or those that exist.
template <bool AllExist>
struct Lanes {
  int64_t live;

  HETERODYNE_INLINE auto of(int64_t j) const {
    if constexpr (AllExist) {
      return Whole{};
    } else {
      return first(live - j * lanes);
    }
  }
  template <class T>
  HETERODYNE_INLINE Vec load_at(const T* p, int64_t j) const {
    return load(p + j * lanes, of(j));
  }
  template <class T>
  HETERODYNE_INLINE void store_at(T* p, int64_t j, Vec v) const {
    store(p + j * lanes, v, of(j));
  }
  HETERODYNE_INLINE Vec only_live(int64_t j, Vec v) const { return only(of(j), v); }
};

HETERODYNE_INLINE Vec column(const float* row, const Tile& t, int64_t j) { return load(row + t.column + j * lanes); }

// Applies `kernel` to all tiles of a block.
template <class Kernel>
void run_block(const Kernel& kernel, const Grid& grid, int64_t block) {
  if (block == grid.full_blocks()) {
    for (int64_t c = 0; c < grid.rest; c += tile_width) {
      const int64_t live = std::min(tile_width, grid.rest - c);
      kernel.template tile<false>({grid.rows * grid.width + c, c, 1, grid.width, live});
    }
    return;
  }
  const int64_t first = block * grid.block_rows, rows = std::min(grid.block_rows, grid.rows - first);
  for (int64_t c = 0; c < grid.width; c += tile_width) {
    kernel.template tile<true>({first * grid.width + c, c, rows, grid.width, tile_width});
  }
}

// Two sums per channel over the whole tensor: `kernel(sums)` adds its blocks' to sums[0..width] and
// sums[width..2·width]. Blocks run from the end, which was written last and is still in the cache; partial sums are
// added in the order of the threads.
template <class MakeKernel>
std::vector<double> sum_pairs(const Grid& grid, MakeKernel make_kernel) {
  const int64_t threads = at::get_num_threads();
  std::vector<double> partial(threads * 2 * grid.width, 0.0);
  at::parallel_for(0, grid.blocks(), grid.grain(), [&](int64_t begin, int64_t end) {
    const auto kernel = make_kernel(partial.data() + at::get_thread_num() * 2 * grid.width);
    for (int64_t b = end; b-- > begin;) run_block(kernel, grid, b);
  });
  std::vector<double> sums(2 * grid.channels, 0.0);
  for (int64_t t = 0; t < threads; ++t) {
    for (int64_t half = 0; half < 2; ++half) {
      const double* from = partial.data() + (t * 2 + half) * grid.width;
      double* to = sums.data() + half * grid.channels;
      for (int64_t c = 0; c < grid.width; c += grid.channels) {
        for (int64_t i = 0; i < grid.channels; ++i) to[i] += from[c + i];
      }
    }
  }
  return sums;
}

// Blocks run from the start here: after `sum_pairs` each thread has its first blocks in the cache.
template <class Kernel>
void for_each_element(const Grid& grid, const Kernel& kernel) {
  at::parallel_for(0, grid.blocks(), grid.grain(), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) run_block(kernel, grid, b);
  });
}

// Expands one value per channel to one value per column.
template <class F>
std::vector<float> columns(const Grid& grid, F value) {
  std::vector<float> out(grid.width);
  for (int64_t c = 0; c < grid.channels; ++c) out[c] = static_cast<float>(value(c));
  for (int64_t c = grid.channels; c < grid.width; ++c) out[c] = out[c - grid.channels];
  return out;
}

// Two sums of each column of a tile. Runs of rows are summed separately first: long sums in float would lose digits,
// and not at random if the elements are bfloat16 and thus on a grid.
struct PairSums {
  static constexpr int64_t run_rows = 16;
  Vec first[tile_vectors], second[tile_vectors];

  HETERODYNE_INLINE PairSums() {
    for (int j = 0; j < tile_vectors; ++j) first[j] = second[j] = zero();
  }
  HETERODYNE_INLINE void add(const PairSums& run) {
    for (int j = 0; j < tile_vectors; ++j) {
      first[j] = first[j] + run.first[j];
      second[j] = second[j] + run.second[j];
    }
  }
  HETERODYNE_INLINE void add_to(double* firsts, double* seconds) const {
    for (int j = 0; j < tile_vectors; ++j) {
      accumulate(firsts + j * lanes, first[j]);
      accumulate(seconds + j * lanes, second[j]);
    }
  }
};

// Sums of d and d², d = x - center.
template <class T>
struct Moments {
  const T* x;
  const float* center;
  double *sum, *squares;

  template <bool AllExist>
  void tile(const Tile& t) const {
    const Lanes<AllExist> in{t.live};
    PairSums total;
    for (int64_t r = 0; r < t.rows;) {
      PairSums run;
      for (const int64_t end = std::min(t.rows, r + PairSums::run_rows); r < end; ++r) {
        const T* row = x + t.start + r * t.stride;
        for (int j = 0; j < tile_vectors; ++j) {
          const Vec d = in.only_live(j, in.load_at(row, j) - column(center, t, j));
          run.first[j] = run.first[j] + d;
          run.second[j] = d * d + run.second[j];
        }
      }
      total.add(run);
    }
    total.add_to(sum + t.column, squares + t.column);
  }
};

// The affine map (x - mean)·scale + shift per column. `mean` is rounded to float, so x - mean is exact near it, and
// `shift` absorbs the rounding error.
struct Affine {
  std::vector<float> mean, scale, shift;

  Affine(const Grid& grid, const Statistics& s, const at::Tensor& weight, const at::Tensor& bias) {
    const float *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
    mean = columns(grid, [&](int64_t c) { return s.mean[c]; });
    scale = columns(grid, [&](int64_t c) { return w[c] * s.invstd[c]; });
    shift = columns(grid,
                    [&](int64_t c) { return b[c] - (s.mean[c] - static_cast<float>(s.mean[c])) * w[c] * s.invstd[c]; });
  }
};

struct AffineColumns {
  const float *mean, *scale, *shift;

  explicit AffineColumns(const Affine& a) : mean(a.mean.data()), scale(a.scale.data()), shift(a.shift.data()) {}

  HETERODYNE_INLINE Vec operator()(Vec x, const Tile& t, int64_t j) const {
    return (x - column(mean, t, j)) * column(scale, t, j) + column(shift, t, j);
  }
};

// NaN passes through, as it does in ATen's operators.
template <Activation Act>
HETERODYNE_INLINE Vec activate(Vec v) {
  if constexpr (Act != Activation::None) v = max(zero(), v);
  if constexpr (Act == Activation::Relu6) v = min(all(6.0f), v);
  return v;
}

// The lanes where the activation has slope 1.
template <Activation Act>
HETERODYNE_INLINE Mask slope(Vec v) {
  if constexpr (Act == Activation::Relu) return above(v, zero());
  if constexpr (Act == Activation::Relu6) return both(above(v, zero()), below(v, all(6.0f)));
  return everywhere();
}

template <class T, Activation Act, bool Residual, bool KeepBits>
struct Normalise {
  const T *x, *residual;
  T* y;
  Word* bits;
  AffineColumns affine;

  template <bool AllExist>
  void tile(const Tile& t) const {
    const Lanes<AllExist> in{t.live};
    for (int64_t r = 0, at = t.start; r < t.rows; ++r, at += t.stride) {
      Word word = 0;
      for (int j = 0; j < tile_vectors; ++j) {
        Vec v = affine(in.load_at(x + at, j), t, j);
        if constexpr (Residual) v = v + in.load_at(residual + at, j);
        if constexpr (KeepBits) word |= static_cast<Word>(static_cast<Word>(to_bits(slope<Act>(v))) << (j * lanes));
        in.store_at(y + at, j, activate<Act>(v));
      }
      if constexpr (KeepBits) bits[at / tile_width] = word;
    }
  }
};

// Gates return the part of `dy` that passes the activation, vector j of the tile's row at element `at`; `x` is the
// norm's input there.
struct OpenGate {
  HETERODYNE_INLINE Vec operator()(Vec dy, Vec, const Tile&, int64_t, int64_t) const { return dy; }
};

template <Activation Act>
struct RecomputedGate {
  AffineColumns affine;
  HETERODYNE_INLINE Vec operator()(Vec dy, Vec x, const Tile& t, int64_t, int64_t j) const {
    return keep(slope<Act>(affine(x, t, j)), dy);
  }
};

struct KeptGate {
  const Word* bits;
  HETERODYNE_INLINE Vec operator()(Vec dy, Vec, const Tile&, int64_t at, int64_t j) const {
    return keep(from_bits(static_cast<uint32_t>(bits[at / tile_width] >> (j * lanes))), dy);
  }
};

// Sums of g and g·(x - mean), g = gate(dy).
template <class T, class G>
struct GradientSums {
  const T *dy, *x;
  const float* mean;
  G gate;
  double *sum, *products;

  template <bool AllExist>
  void tile(const Tile& t) const {
    const Lanes<AllExist> in{t.live};
    PairSums total;
    for (int64_t r = 0; r < t.rows;) {
      PairSums run;
      for (const int64_t end = std::min(t.rows, r + PairSums::run_rows); r < end; ++r) {
        const int64_t at = t.start + r * t.stride;
        for (int j = 0; j < tile_vectors; ++j) {
          const Vec v = in.load_at(x + at, j), g = gate(in.load_at(dy + at, j), v, t, at, j);
          const Vec centered = in.only_live(j, v - column(mean, t, j));
          run.first[j] = run.first[j] + g;
          run.second[j] = g * centered + run.second[j];
        }
      }
      total.add(run);
    }
    total.add_to(sum + t.column, products + t.column);
  }
};

// dx = a·g + b·(x - mean) + c and dresidual = g, g = gate(dy); dx or dresidual may be dy itself.
template <class T, class G, bool ToX, bool ToResidual>
struct GradientMap {
  const T *dy, *x;
  T *dx, *dresidual;
  const float *mean, *a, *b, *c;
  G gate;

  template <bool AllExist>
  void tile(const Tile& t) const {
    const Lanes<AllExist> in{t.live};
    for (int64_t r = 0, at = t.start; r < t.rows; ++r, at += t.stride) {
      for (int j = 0; j < tile_vectors; ++j) {
        const Vec v = in.load_at(x + at, j), g = gate(in.load_at(dy + at, j), v, t, at, j);
        if constexpr (ToX) {
          const Vec centered = v - column(mean, t, j);
          in.store_at(dx + at, j, column(a, t, j) * g + (column(b, t, j) * centered + column(c, t, j)));
        }
        if constexpr (ToResidual) in.store_at(dresidual + at, j, g);
      }
    }
  }
};

// A value within each channel's range: the average of a few rows. Sums of squares about it lose no digits to a large
// mean.
template <class T>
std::vector<float> centers(const Grid& grid, const T* x) {
  const int64_t samples = std::min<int64_t>(grid.values, 8), step = grid.values / samples;
  std::vector<double> sum(grid.channels, 0.0);
  for (int64_t s = 0; s < samples; ++s) {
    for (int64_t c = 0; c < grid.channels; ++c) sum[c] += static_cast<float>(x[s * step * grid.channels + c]);
  }
  return columns(grid, [&](int64_t c) { return sum[c] / samples; });
}

template <class T>
void statistics_of(const at::Tensor& x, const Grid& grid, Statistics& out, std::vector<double>& sum_of_squares) {
  const T* data = x.const_data_ptr<T>();
  const std::vector<float> center = centers(grid, data);
  const auto sums = sum_pairs(grid, [&](double* s) { return Moments<T>{data, center.data(), s, s + grid.width}; });
  for (int64_t c = 0; c < grid.channels; ++c) {
    const double offset = sums[c] / grid.values;
    out.mean.push_back(center[c] + offset);
    // This order of the comparison keeps a NaN.
    const double m2 = sums[grid.channels + c] - offset * sums[c];
    sum_of_squares.push_back(m2 < 0.0 ? 0.0 : m2);
  }
}

template <class T, class G>
Gradients gradients_through(const G& gate, const at::Tensor& dy, bool dy_is_free, const at::Tensor& x,
                            const at::Tensor& weight, const Statistics& s, Needs needs) {
  const Grid grid(x);
  const T *dy_data = dy.const_data_ptr<T>(), *x_data = x.const_data_ptr<T>();
  const auto mean = columns(grid, [&](int64_t c) { return s.mean[c]; });
  Gradients out;
  std::vector<float> a, b, c;
  if (needs.x || needs.weight || needs.bias) {
    auto sums = sum_pairs(
        grid, [&](double* to) { return GradientSums<T, G>{dy_data, x_data, mean.data(), gate, to, to + grid.width}; });
    double *sum = sums.data(), *products = sums.data() + grid.channels;
    // The difference between the rounded mean and the mean.
    const auto rounded_off = [&](int64_t i) { return s.mean[i] - mean[i]; };
    for (int64_t i = 0; i < grid.channels; ++i) products[i] -= rounded_off(i) * sum[i];

    out.weight = at::empty_like(weight);
    out.bias = at::empty_like(weight);
    for (int64_t i = 0; i < grid.channels; ++i) {
      out.weight.mutable_data_ptr<float>()[i] = static_cast<float>(products[i] * s.invstd[i]);
      out.bias.mutable_data_ptr<float>()[i] = static_cast<float>(sum[i]);
    }
    const float* w = weight.const_data_ptr<float>();
    const auto slope_g = [&](int64_t i) { return w[i] * s.invstd[i]; };
    const auto slope_x = [&](int64_t i) { return -slope_g(i) * s.invstd[i] * s.invstd[i] * products[i] / grid.values; };
    a = columns(grid, slope_g);
    b = columns(grid, slope_x);
    c = columns(grid, [&](int64_t i) { return -slope_g(i) * sum[i] / grid.values - slope_x(i) * rounded_off(i); });
  }
  // Without an activation the residual's gradient is dy itself.
  const bool masked_residual = needs.residual && !std::is_same_v<G, OpenGate>;
  if (needs.residual && !masked_residual) {
    out.residual = dy;
    dy_is_free = false;
  }
  if (needs.x) {
    out.x = dy_is_free ? dy : unwritten(x);
    dy_is_free = false;
  }
  if (masked_residual) out.residual = dy_is_free ? dy : unwritten(x);
  if (needs.x || masked_residual) {
    with_flag(needs.x, [&](auto to_x) {
      with_flag(masked_residual, [&](auto to_residual) {
        T* dx = to_x ? out.x.template mutable_data_ptr<T>() : nullptr;
        T* dresidual = to_residual ? out.residual.template mutable_data_ptr<T>() : nullptr;
        using Map = GradientMap<T, G, to_x, to_residual>;
        for_each_element(grid, Map{dy_data, x_data, dx, dresidual, mean.data(), a.data(), b.data(), c.data(), gate});
      });
    });
  }
  return out;
}

Statistics batch_statistics(const at::Tensor& x, const at::Tensor& running_mean, const at::Tensor& running_var,
                            double momentum, double eps) {
  const Grid grid(x);
  Statistics out;
  std::vector<double> sum_of_squares;
  with_type(x, [&](auto* t) { statistics_of<std::remove_pointer_t<decltype(t)>>(x, grid, out, sum_of_squares); });
  float *mean = running_mean.mutable_data_ptr<float>(), *var = running_var.mutable_data_ptr<float>();
  for (int64_t c = 0; c < grid.channels; ++c) {
    out.invstd.push_back(1.0 / std::sqrt(sum_of_squares[c] / grid.values + eps));
    mean[c] = static_cast<float>((1.0 - momentum) * mean[c] + momentum * out.mean[c]);
    var[c] = static_cast<float>((1.0 - momentum) * var[c] + momentum * sum_of_squares[c] / (grid.values - 1));
  }
  return out;
}

at::Tensor normalise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     const Statistics& statistics, const at::Tensor& residual, const Gate& gate) {
  const Grid grid(x);
  const Affine affine(grid, statistics, weight, bias);
  at::Tensor y = unwritten(x);
  const bool keep = gate.bits.defined();
  auto* bits = keep ? reinterpret_cast<Word*>(gate.bits.mutable_data_ptr<int64_t>()) : nullptr;
  with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    const T* r = residual.defined() ? residual.const_data_ptr<T>() : nullptr;
    with_activation(gate.act, [&](auto act) {
      with_flag(r != nullptr, [&](auto has_residual) {
        with_flag(keep, [&](auto keep_bits) {
          for_each_element(grid, Normalise<T, act, has_residual, keep_bits>{
                                     x.const_data_ptr<T>(), r, y.mutable_data_ptr<T>(), bits, AffineColumns(affine)});
        });
      });
    });
  });
  return y;
}

Gradients batch_norm_gradients(const at::Tensor& dy, bool dy_is_free, const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias, const Statistics& statistics, const Gate& gate, Needs needs) {
  return with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    const auto through = [&](const auto& g) {
      return gradients_through<T>(g, dy, dy_is_free, x, weight, statistics, needs);
    };
    if (gate.bits.defined())
      return through(KeptGate{reinterpret_cast<const Word*>(gate.bits.const_data_ptr<int64_t>())});
    if (gate.act == Activation::None) return through(OpenGate{});
    const Affine affine(Grid(x), statistics, weight, bias);
    return with_activation(gate.act, [&](auto act) { return through(RecomputedGate<act>{AffineColumns(affine)}); });
  });
}

}  // namespace HETERODYNE_LEVEL
}  // namespace
}  // namespace heterodyne::norm
