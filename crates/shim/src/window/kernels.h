// The passes over a map, for one level.
namespace heterodyne::window {
namespace {
namespace HETERODYNE_LEVEL {

using namespace simd::HETERODYNE_LEVEL;
using c10::BFloat16;

// Number of vectors of channels that are summed together.
constexpr int kTogether = 4;

// sums[c] += sum over j < count of w[j][c] x[j][c]
template <int N, class T, class Lanes>
HETERODYNE_INLINE void gather(const T* x, const float* w, float* sums, int64_t count, int64_t channels, Lanes live) {
  Vec sum[N];
  for (int n = 0; n < N; ++n) sum[n] = load(sums + n * lanes, live);
  for (int64_t j = 0; j < count; ++j, x += channels, w += channels) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      sum[n] = load(x + n * lanes, live) * load(w + n * lanes, live) + sum[n];
    }
  }
  for (int n = 0; n < N; ++n) store(sums + n * lanes, sum[n], live);
}

// to[j][c] += factor[j][c] g[c] for j < count
template <int N, class T, class Lanes>
HETERODYNE_INLINE void spread(const T* factor, const float* g, float* to, int64_t count, int64_t channels, Lanes live) {
  Vec by[N];
  for (int n = 0; n < N; ++n) by[n] = load(g + n * lanes, live);
  for (int64_t j = 0; j < count; ++j, factor += channels, to += channels) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      float* place = to + n * lanes;
      store(place, load(factor + n * lanes, live) * by[n] + load(place, live), live);
    }
  }
}

template <class T>
void gather_run(const T* x, const float* w, float* sums, int64_t count, int64_t channels) {
  for (int64_t c = 0; c < channels;) {
    const int64_t left = channels - c;
    if (left >= kTogether * lanes) {
      gather<kTogether>(x + c, w + c, sums + c, count, channels, Whole{});
      c += kTogether * lanes;
    } else if (left >= lanes) {
      gather<1>(x + c, w + c, sums + c, count, channels, Whole{});
      c += lanes;
    } else {
      gather<1>(x + c, w + c, sums + c, count, channels, first(left));
      c += lanes;
    }
  }
}

template <class T>
void spread_run(const T* factor, const float* g, float* to, int64_t count, int64_t channels) {
  for (int64_t c = 0; c < channels;) {
    const int64_t left = channels - c;
    if (left >= kTogether * lanes) {
      spread<kTogether>(factor + c, g + c, to + c, count, channels, Whole{});
      c += kTogether * lanes;
    } else if (left >= lanes) {
      spread<1>(factor + c, g + c, to + c, count, channels, Whole{});
      c += lanes;
    } else {
      spread<1>(factor + c, g + c, to + c, count, channels, first(left));
      c += lanes;
    }
  }
}

void round_to(const float* from, BFloat16* to, int64_t count) {
  each(count, [&](int64_t i, auto live) { store(to + i, load(from + i, live), live); });
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

// The gradients of both, if their tensors are defined.
template <class T>
void gradients_of(const at::Tensor& d_sums, const at::Tensor& x, const at::Tensor& weights, const Scales& scales,
                  const at::Tensor& dx, const at::Tensor& d_weights) {
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
          if (d_weights.defined())
            spread_run(in + at + run->first * channels, d, dw + run->weight * channels, run->count, channels);
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

}  // namespace HETERODYNE_LEVEL
}  // namespace
}  // namespace heterodyne::window
