// Depthwise convolution and its gradients, for one level.
namespace heterodyne::norm {
namespace {
namespace HETERODYNE_LEVEL {

using namespace simd::HETERODYNE_LEVEL;

// Number of neighbouring pixels of a row that are processed together: they share weights and most of their input.
constexpr int tile_pixels = 4;

// A channels-last tensor as rows of pixels. Pixels outside the map read as zero.
template <class T>
struct Image {
  const T* data;
  const T* zeros;
  int64_t batch, height, width, channels;

  // Null outside the map.
  const T* row(int64_t b, int64_t y) const {
    return y >= 0 && y < height ? data + (b * height + y) * width * channels : nullptr;
  }

  // Pointers to `n` pixels of a row, starting at `x`.
  void pixels(const T* row, int64_t x, int n, const T** to) const {
    if (row != nullptr && x >= 0 && x + n <= width) {
      for (int j = 0; j < n; ++j) to[j] = row + (x + j) * channels;
      return;
    }
    for (int j = 0; j < n; ++j)
      to[j] = row != nullptr && x + j >= 0 && x + j < width ? row + (x + j) * channels : zeros;
  }
};

// Weights as [k²][channels], in float, so the weights of one tap are contiguous; channels are padded to whole vectors.
struct Taps {
  int64_t kernel, stride;
  std::vector<float> values;

  Taps(int64_t channels, int64_t kernel)
      : kernel(kernel), stride((channels + lanes - 1) / lanes * lanes), values(kernel * kernel * stride) {}

  float* at(int64_t ky, int64_t kx) { return values.data() + (ky * kernel + kx) * stride; }
  const float* at(int64_t ky, int64_t kx) const { return values.data() + (ky * kernel + kx) * stride; }
};

Taps taps_of(const at::Tensor& weight, bool mirrored) {
  const int64_t channels = weight.size(0), kernel = weight.size(2), area = kernel * kernel;
  const at::Tensor dense = weight.to(at::kFloat).contiguous(at::MemoryFormat::Contiguous);
  const float* w = dense.const_data_ptr<float>();
  Taps taps(channels, kernel);
  for (int64_t i = 0; i < area; ++i) {
    float* to = taps.at(0, 0) + (mirrored ? area - 1 - i : i) * taps.stride;
    for (int64_t c = 0; c < channels; ++c) to[c] = w[c * area + i];
  }
  return taps;
}

// Which pixels a tile reads. `rows` x `columns` pixels in all; for column tap kx, output pixel t reads input pixel
// `column(t, kx)`, or nothing if that is negative. Row slot r belongs to row tap `row_tap(r, y)`.

// y = convolution of x: output (y, x) reads input (y·S + ky - K/2, x·S + kx - K/2).
template <int K, int S>
struct Forward {
  static constexpr int kernel = K, rows = K, columns = (tile_pixels - 1) * S + K;
  static constexpr int column(int t, int kx) { return t * S + kx; }
  static int64_t row_tap(int r, int64_t) { return r; }
  static int64_t input_row(int64_t y, int64_t ky) { return y * S + ky - K / 2; }
  static int64_t first_column(int64_t x) { return x * S - K / 2; }
};

// The transpose at stride 2: pixel (y, x) of the larger map reads ((y + K/2 - ky)/2, (x + K/2 - kx)/2) if these are
// integers.
template <int K>
struct Transposed {
  static constexpr int pad = K / 2, kernel = K, rows = (K + 1) / 2, columns = (tile_pixels - 1 + pad) / 2 + pad / 2 + 1;
  static constexpr int column(int t, int kx) { return (t + pad - kx) % 2 != 0 ? -1 : (t + pad - kx) / 2 + pad / 2; }
  static int64_t row_tap(int r, int64_t y) { return (y + pad) % 2 + 2 * r; }
  static int64_t input_row(int64_t y, int64_t ky) { return (y + pad - ky) / 2 - ((y + pad - ky) < 0); }
  static int64_t first_column(int64_t x) { return x / 2 - pad / 2; }  // tiles start at even x
};

// The input of one tile: a pointer to the channels of each of its input pixels and of each row of taps.
template <class T, class Reach>
struct Window {
  const T* pixel[Reach::rows][Reach::columns];
  const float* taps[Reach::rows];

  Window(const Image<T>& image, const Taps& weights, int64_t b, int64_t y, int64_t x) {
    for (int r = 0; r < Reach::rows; ++r) {
      const int64_t ky = Reach::row_tap(r, y);
      const bool exists = ky < Reach::kernel;
      taps[r] = weights.at(exists ? ky : 0, 0);
      image.pixels(exists ? image.row(b, Reach::input_row(y, ky)) : nullptr, Reach::first_column(x), Reach::columns,
                   pixel[r]);
    }
  }
};

// Output pixels: sums over the window of taps times pixels, for the channels of `live` from `c`.
template <class T, class Reach, class Lanes>
HETERODYNE_INLINE void convolve_vector(const Window<T, Reach>& window, int64_t tap_stride, const float* bias, T* y,
                                       int64_t channels, int count, int64_t c, Lanes live) {
  Vec sum[tile_pixels];
  for (int t = 0; t < tile_pixels; ++t) sum[t] = load(bias + c);
#pragma GCC unroll 8
  for (int r = 0; r < Reach::rows; ++r) {
    Vec in[Reach::columns];
#pragma GCC unroll 16
    for (int j = 0; j < Reach::columns; ++j) in[j] = load(window.pixel[r][j] + c, live);
#pragma GCC unroll 8
    for (int kx = 0; kx < Reach::kernel; ++kx) {
      const Vec w = load(window.taps[r] + kx * tap_stride + c);
#pragma GCC unroll 4
      for (int t = 0; t < tile_pixels; ++t) {
        const int j = Reach::column(t, kx);
        if (j >= 0) sum[t] = in[j] * w + sum[t];
      }
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < tile_pixels; ++t) {
    if (t >= count) break;
    store(y + t * channels + c, sum[t], live);
  }
}

template <class T, class Reach>
void convolve_tile(const Window<T, Reach>& window, const Taps& taps, const float* bias, T* y, int64_t channels,
                   int count) {
  each(channels,
       [&](int64_t c, auto live) { convolve_vector(window, taps.stride, bias, y, channels, count, c, live); });
}

// sums[ky][kx] += sum over the tile's output pixels of dy times the pixel that the tap reads.
template <class T, class Reach, class Lanes>
HETERODYNE_INLINE void correlate_vector(const Window<T, Reach>& window, const T* const* dy, float* sums,
                                        int64_t tap_stride, int64_t c, Lanes live) {
  Vec g[tile_pixels];
  for (int t = 0; t < tile_pixels; ++t) g[t] = load(dy[t] + c, live);
#pragma GCC unroll 8
  for (int r = 0; r < Reach::rows; ++r) {
    Vec in[Reach::columns];
#pragma GCC unroll 16
    for (int j = 0; j < Reach::columns; ++j) in[j] = load(window.pixel[r][j] + c, live);
#pragma GCC unroll 8
    for (int kx = 0; kx < Reach::kernel; ++kx) {
      float* to = sums + (r * Reach::kernel + kx) * tap_stride + c;
      Vec sum = load(to);
#pragma GCC unroll 4
      for (int t = 0; t < tile_pixels; ++t) sum = in[Reach::column(t, kx)] * g[t] + sum;
      store(to, sum);
    }
  }
}

template <class T, class Reach>
void correlate_tile(const Window<T, Reach>& window, const T* const* dy, Taps& sums, int64_t channels) {
  each(channels, [&](int64_t c, auto live) { correlate_vector(window, dy, sums.at(0, 0), sums.stride, c, live); });
}

// Moves sums in float to sums in double, which lose no digits, however many there are.
void settle(std::vector<float>& sums, double* total) {
  for (size_t i = 0; i < sums.size(); i += lanes) {
    accumulate(total + i, load(sums.data() + i));
    store(sums.data() + i, zero());
  }
}

// Number of rows of a map that justify a thread.
int64_t row_grain(int64_t width, int64_t channels) { return std::max<int64_t>(1, 8192 / (width * channels)); }

template <class T>
Image<T> image_of(const at::Tensor& x, const std::vector<T>& zeros) {
  return {x.const_data_ptr<T>(), zeros.data(), x.size(0), x.size(2), x.size(3), x.size(1)};
}

template <class T, class Reach>
void convolve(const at::Tensor& x, const Taps& taps, const std::vector<float>& bias, const at::Tensor& y) {
  const std::vector<T> zeros(taps.stride, T(0.0f));
  const Image<T> in = image_of(x, zeros);
  const int64_t height = y.size(2), width = y.size(3), channels = in.channels;
  T* out = y.mutable_data_ptr<T>();
  at::parallel_for(0, in.batch * height, row_grain(width, channels), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / height, y = row % height;
      for (int64_t x0 = 0; x0 < width; x0 += tile_pixels) {
        const Window<T, Reach> window(in, taps, b, y, x0);
        const int count = static_cast<int>(std::min<int64_t>(tile_pixels, width - x0));
        convolve_tile(window, taps, bias.data(), out + (row * width + x0) * channels, channels, count);
      }
    }
  });
}

template <class T, class Reach>
void correlate(const at::Tensor& dy, const at::Tensor& x, Taps& total) {
  const std::vector<T> zeros(total.stride, T(0.0f));
  const Image<T> in = image_of(x, zeros), out = image_of(dy, zeros);
  const int64_t threads = at::get_num_threads(), size = static_cast<int64_t>(total.values.size());
  std::vector<double> partial(threads * size, 0.0);
  at::parallel_for(0, out.batch * out.height, row_grain(out.width, out.channels), [&](int64_t begin, int64_t end) {
    double* mine = partial.data() + at::get_thread_num() * size;
    Taps sums(out.channels, Reach::kernel);
    int tiles = 0;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / out.height, y = row % out.height;
      for (int64_t x0 = 0; x0 < out.width; x0 += tile_pixels, ++tiles) {
        const Window<T, Reach> window(in, sums, b, y, x0);
        const T* g[tile_pixels];
        out.pixels(out.row(b, y), x0, tile_pixels, g);
        correlate_tile(window, g, sums, out.channels);
      }
      if (tiles >= 64 || row + 1 == end) {
        settle(sums.values, mine);
        tiles = 0;
      }
    }
  });
  for (int64_t i = 0; i < size; ++i) {
    double sum = 0.0;
    for (int64_t t = 0; t < threads; ++t) sum += partial[t * size + i];
    total.values[i] = static_cast<float>(sum);
  }
}

at::Tensor depthwise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t stride) {
  const Taps taps = taps_of(weight, /*mirrored=*/false);
  std::vector<float> start(taps.stride, 0.0f);
  if (bias.defined()) {
    const at::Tensor b = bias.to(at::kFloat).contiguous();
    std::copy_n(b.const_data_ptr<float>(), x.size(1), start.begin());
  }
  at::Tensor y = unwritten(x, (x.size(2) - 1) / stride + 1, (x.size(3) - 1) / stride + 1);
  with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    with_kernel(weight.size(2), [&](auto k) {
      stride == 1 ? convolve<T, Forward<k, 1>>(x, taps, start, y) : convolve<T, Forward<k, 2>>(x, taps, start, y);
    });
  });
  return y;
}

at::Tensor depthwise_input_gradient(const at::Tensor& dy, const at::Tensor& weight, int64_t height, int64_t width,
                                    int64_t stride) {
  // At stride 1 the transpose is a convolution with the kernel rotated by 180 degrees.
  const Taps taps = taps_of(weight, /*mirrored=*/stride == 1);
  const std::vector<float> start(taps.stride, 0.0f);
  at::Tensor dx = unwritten(dy, height, width);
  with_type(dy, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    with_kernel(weight.size(2), [&](auto k) {
      stride == 1 ? convolve<T, Forward<k, 1>>(dy, taps, start, dx) : convolve<T, Transposed<k>>(dy, taps, start, dx);
    });
  });
  return dx;
}

at::Tensor depthwise_weight_gradient(const at::Tensor& dy, const at::Tensor& x, int64_t kernel, int64_t stride) {
  const int64_t channels = x.size(1), area = kernel * kernel;
  Taps sums(channels, kernel);
  with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    with_kernel(kernel, [&](auto k) {
      stride == 1 ? correlate<T, Forward<k, 1>>(dy, x, sums) : correlate<T, Forward<k, 2>>(dy, x, sums);
    });
  });
  at::Tensor dw = at::empty({channels, 1, kernel, kernel}, at::kFloat);
  float* to = dw.mutable_data_ptr<float>();
  for (int64_t i = 0; i < area; ++i) {
    for (int64_t c = 0; c < channels; ++c) to[c * area + i] = sums.at(0, 0)[i * sums.stride + c];
  }
  return dw;
}

}  // namespace HETERODYNE_LEVEL
}  // namespace
}  // namespace heterodyne::norm
