#include "window/window.h"

#include <algorithm>
#include <functional>
#include <type_traits>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "avx512.h"
#include "element.h"

namespace heterodyne::window {
namespace {

using c10::BFloat16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Vectors of channels that are summed side by side.
constexpr int kTogether = 4;

// The windows over n places: window i of s covers floor(i n/s) .. ceil((i+1) n/s).
struct Axis {
  std::vector<int64_t> start, length;
  std::vector<int64_t> lengths;  // those that occur, the larger one first

  Axis(int64_t n, int64_t s) {
    for (int64_t i = 0; i < s; ++i) {
      start.push_back(i * n / s);
      length.push_back(((i + 1) * n + s - 1) / s - start.back());
    }
    lengths = length;
    std::sort(lengths.begin(), lengths.end(), std::greater<>());
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  }

  int64_t count() const { return static_cast<int64_t>(start.size()); }
};

// All windows of one scale, which begin at `first_window` among those of all scales; its kernels begin at `first_weight`.
struct Scale {
  Axis rows, columns;
  int64_t first_window, first_weight;

  // Where the kernel for windows of height x width begins.
  int64_t kernel(int64_t height, int64_t width) const {
    int64_t at = first_weight;
    for (const int64_t h : rows.lengths) {
      for (const int64_t w : columns.lengths) {
        if (h == height && w == width) return at;
        at += h * w;
      }
    }
    return at;
  }

  int64_t last_weight() const { return kernel(0, 0); }
};

struct Scales {
  std::vector<Scale> all;
  int64_t windows = 0, weights = 0;

  // `counts` holds the number of windows along the rows and along the columns of each scale.
  Scales(int64_t height, int64_t width, at::IntArrayRef counts) {
    for (size_t i = 0; i + 1 < counts.size(); i += 2) {
      all.push_back({Axis(height, counts[i]), Axis(width, counts[i + 1]), windows, weights});
      windows += counts[i] * counts[i + 1];
      weights = all.back().last_weight();
    }
  }
};

// Places of one row that lie side by side in one window: `count` of them from column `first` on, and where their weights begin.
struct Run {
  int64_t row, first, count, window, weight;
};

// All runs, row by row.
std::vector<Run> runs_of(const Scales& scales, int64_t height) {
  std::vector<Run> runs;
  for (int64_t y = 0; y < height; ++y) {
    for (const Scale& scale : scales.all) {
      const auto& [rows, columns, first_window, first_weight] = scale;
      for (int64_t i = 0; i < rows.count(); ++i) {
        if (y < rows.start[i] || y >= rows.start[i] + rows.length[i]) continue;
        for (int64_t j = 0; j < columns.count(); ++j) {
          const int64_t width = columns.length[j];
          const int64_t weight = scale.kernel(rows.length[i], width) + (y - rows.start[i]) * width;
          runs.push_back({y, columns.start[j], width, first_window + i * columns.count() + j, weight});
        }
      }
    }
  }
  return runs;
}

// sums[c] += sum over j < count of w[j][c] x[j][c]
template <int N, class T>
HETERODYNE_AVX512_INLINE void gather(const T* x, const float* w, float* sums, int64_t count, int64_t channels, __mmask16 live) {
  __m512 sum[N];
  for (int n = 0; n < N; ++n) sum[n] = vector::load(sums + n * vector::lanes, live);
  for (int64_t j = 0; j < count; ++j, x += channels, w += channels) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      sum[n] = _mm512_fmadd_ps(vector::load(x + n * vector::lanes, live), vector::load(w + n * vector::lanes, live), sum[n]);
    }
  }
  for (int n = 0; n < N; ++n) vector::store(sums + n * vector::lanes, sum[n], live);
}

// to[j][c] += factor[j][c] g[c] for j < count
template <int N, class T>
HETERODYNE_AVX512_INLINE void spread(const T* factor, const float* g, float* to, int64_t count, int64_t channels, __mmask16 live) {
  __m512 by[N];
  for (int n = 0; n < N; ++n) by[n] = vector::load(g + n * vector::lanes, live);
  for (int64_t j = 0; j < count; ++j, factor += channels, to += channels) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      float* place = to + n * vector::lanes;
      vector::store(place, _mm512_fmadd_ps(vector::load(factor + n * vector::lanes, live), by[n], vector::load(place, live)), live);
    }
  }
}

template <class T>
HETERODYNE_AVX512 void gather_run(const T* x, const float* w, float* sums, int64_t count, int64_t channels) {
  for (int64_t c = 0; c < channels;) {
    const int64_t left = channels - c;
    if (left >= kTogether * vector::lanes) {
      gather<kTogether>(x + c, w + c, sums + c, count, channels, 0xffff);
      c += kTogether * vector::lanes;
    } else {
      const auto live = static_cast<__mmask16>(left >= vector::lanes ? 0xffff : (1 << left) - 1);
      gather<1>(x + c, w + c, sums + c, count, channels, live);
      c += vector::lanes;
    }
  }
}

template <class T>
HETERODYNE_AVX512 void spread_run(const T* factor, const float* g, float* to, int64_t count, int64_t channels) {
  for (int64_t c = 0; c < channels;) {
    const int64_t left = channels - c;
    if (left >= kTogether * vector::lanes) {
      spread<kTogether>(factor + c, g + c, to + c, count, channels, 0xffff);
      c += kTogether * vector::lanes;
    } else {
      const auto live = static_cast<__mmask16>(left >= vector::lanes ? 0xffff : (1 << left) - 1);
      spread<1>(factor + c, g + c, to + c, count, channels, live);
      c += vector::lanes;
    }
  }
}

HETERODYNE_AVX512 void round_to(const float* from, BFloat16* to, int64_t count) {
  for (int64_t i = 0; i < count; i += vector::lanes) {
    const auto live = static_cast<__mmask16>(count - i >= vector::lanes ? 0xffff : (1 << (count - i)) - 1);
    vector::store(to + i, vector::load(from + i, live), live);
  }
}

template <class T>
void sums_of(const at::Tensor& x, const at::Tensor& weights, const Scales& scales, const at::Tensor& sums) {
  const int64_t channels = x.size(1), height = x.size(2), width = x.size(3);
  const T* in = x.const_data_ptr<T>();
  const float* w = weights.const_data_ptr<float>();
  float* out = sums.mutable_data_ptr<float>();
  const std::vector<Run> runs = runs_of(scales, height);
  at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      float* mine = out + b * scales.windows * channels;
      std::fill_n(mine, scales.windows * channels, 0.0f);
      const T* map = in + b * height * width * channels;
      for (const Run& run : runs) {
        const T* places = map + (run.row * width + run.first) * channels;
        gather_run(places, w + run.weight * channels, mine + run.window * channels, run.count, channels);
      }
    }
  });
}

// Gradients of both, where their tensors are defined.
template <class T>
void gradients_of(const at::Tensor& d_sums, const at::Tensor& x, const at::Tensor& weights, const Scales& scales, const at::Tensor& dx,
                  const at::Tensor& d_weights) {
  const int64_t channels = x.size(1), height = x.size(2), width = x.size(3), size = scales.weights * channels;
  const T* in = x.const_data_ptr<T>();
  const float *w = weights.const_data_ptr<float>(), *g = d_sums.const_data_ptr<float>();
  T* to = dx.defined() ? dx.mutable_data_ptr<T>() : nullptr;
  const std::vector<Run> runs = runs_of(scales, height);
  const int64_t threads = at::get_num_threads();
  std::vector<float> partial(d_weights.defined() ? threads * size : 0, 0.0f);
  at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
    float* dw = d_weights.defined() ? partial.data() + at::get_thread_num() * size : nullptr;
    std::vector<float> row_gradient(std::is_same_v<T, float> ? 0 : width * channels);
    for (int64_t b = begin; b < end; ++b) {
      const float* mine = g + b * scales.windows * channels;
      auto run = runs.begin();
      for (int64_t y = 0; y < height; ++y) {
        const int64_t at = (b * height + y) * width * channels;
        float* dx_row = row_gradient.data();
        if constexpr (std::is_same_v<T, float>) dx_row = to ? to + at : nullptr;
        if (to) std::fill_n(dx_row, width * channels, 0.0f);
        for (; run != runs.end() && run->row == y; ++run) {
          const float* d = mine + run->window * channels;
          if (to) spread_run(w + run->weight * channels, d, dx_row + run->first * channels, run->count, channels);
          if (d_weights.defined()) spread_run(in + at + run->first * channels, d, dw + run->weight * channels, run->count, channels);
        }
        if constexpr (!std::is_same_v<T, float>) {
          if (to) round_to(dx_row, to + at, width * channels);
        }
      }
    }
  });
  if (!d_weights.defined()) return;
  float* total = d_weights.mutable_data_ptr<float>();
  for (int64_t i = 0; i < size; ++i) {
    total[i] = 0.0f;
    for (int64_t t = 0; t < threads; ++t) total[i] += partial[t * size + i];
  }
}

struct WindowSums : torch::autograd::Function<WindowSums> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weights, at::IntArrayRef counts) {
    ctx->save_for_backward({x, weights});
    ctx->saved_data["scales"] = counts.vec();
    const Scales scales(x.size(2), x.size(3), counts);
    at::Tensor sums = at::empty({x.size(0), scales.windows, x.size(1)}, weights.options());
    with_type(x, [&](auto* t) { sums_of<std::remove_pointer_t<decltype(t)>>(x, weights, scales, sums); });
    return sums;
  }

  static variable_list backward(AutogradContext* ctx, variable_list& grad_outputs) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "window_sums has no second derivative");
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weights = saved[1], d_sums = grad_outputs[0].contiguous();
    const Scales scales(x.size(2), x.size(3), ctx->saved_data["scales"].toIntVector());
    at::Tensor dx, d_weights;
    if (ctx->needs_input_grad(0)) dx = at::empty(x.sizes(), x.options(), at::MemoryFormat::ChannelsLast);
    if (ctx->needs_input_grad(1)) d_weights = at::empty_like(weights);
    with_type(x, [&](auto* t) { gradients_of<std::remove_pointer_t<decltype(t)>>(d_sums, x, weights, scales, dx, d_weights); });
    return {dx, d_weights, {}};
  }
};

const at::Tensor& tensor(size_t address) { return *reinterpret_cast<const at::Tensor*>(address); }

}  // namespace

bool window_suits(size_t address) {
  const at::Tensor& x = tensor(address);
  return machine_suits() && x.device().is_cpu() && x.layout() == at::kStrided && !x.is_neg() && x.dim() == 4 && x.numel() > 0 &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

size_t window_sums(size_t x_address, size_t weights_address, rust::Slice<const int64_t> counts) {
  RECORD_FUNCTION("heterodyne::window_sums", c10::ArrayRef<const c10::IValue>{});
  const at::Tensor& x = tensor(x_address);
  TORCH_CHECK(window_suits(x_address), "window sums need a float or bfloat16 map (B,C,H,W) on a CPU with AVX-512, got ", x.scalar_type(), " ",
              x.sizes());
  const at::IntArrayRef scales(counts.data(), counts.size());
  for (size_t i = 0; i < scales.size(); ++i) {
    TORCH_CHECK(scales[i] >= 1 && scales[i] <= x.size(2 + i % 2), "a map of ", x.sizes(), " has no ", scales[i], " windows along axis ",
                2 + i % 2);
  }
  const int64_t rows = Scales(x.size(2), x.size(3), scales).weights;
  const at::Tensor& weights = tensor(weights_address);
  TORCH_CHECK(weights.scalar_type() == at::kFloat && weights.device().is_cpu() && weights.dim() == 2 && weights.size(0) == rows &&
                  weights.size(1) == x.size(1),
              "the windows of ", x.sizes(), " at scales ", scales, " need float weights (", rows, ",", x.size(1), "), got ",
              weights.scalar_type(), " ", weights.sizes());
  return reinterpret_cast<size_t>(
      new at::Tensor(WindowSums::apply(x.contiguous(at::MemoryFormat::ChannelsLast), weights.contiguous(), scales)));
}

}  // namespace heterodyne::window
