// The rows of attention scores, for one level.
namespace heterodyne::attention {
namespace {
namespace HETERODYNE_LEVEL {

using namespace simd::HETERODYNE_LEVEL;

// Number of rows that justify a thread.
int64_t grain(int64_t keys) { return std::max<int64_t>(1, 16384 / keys); }

// One row; `work` holds n floats. A NaN makes the whole row NaN.
template <class T>
void softmax_row(T* row, const float* bias, float scale, int64_t n, float* work) {
  const Vec factor = all(scale), lowest = all(-__builtin_inff());
  Vec largest = lowest;
  each(n, [&](int64_t i, auto live) {
    const Vec shift = bias ? load(bias + i, live) : zero();
    const Vec x = load(row + i, live) * factor + shift;
    store(work + i, x, live);
    largest = max(largest, or_else(live, x, lowest));
  });
  const Vec top = all(max_of(largest));
  Vec sum = zero();
  each(n, [&](int64_t i, auto live) {
    const Vec power = exp(load(work + i, live) - top);
    store(work + i, power, live);
    sum = sum + only(live, power);
  });
  const Vec share = all(1.0f / sum_of(sum));
  each(n, [&](int64_t i, auto live) { store(row + i, load(work + i, live) * share, live); });
}

// One row; its part of the bias's gradient is added to `d_bias`, which may be null.
template <class T>
void gradient_row(const T* p, T* d, float scale, int64_t n, float* d_bias) {
  Vec sum = zero();
  each(n, [&](int64_t i, auto live) { sum = load(p + i, live) * load(d + i, live) + sum; });
  const Vec mean = all(sum_of(sum)), factor = all(scale);
  each(n, [&](int64_t i, auto live) {
    const Vec g = load(p + i, live) * (load(d + i, live) - mean);
    if (d_bias) store(d_bias + i, load(d_bias + i, live) + g, live);
    store(d + i, g * factor, live);
  });
}

template <class T>
void softmax(const Rows& rows, float scale, T* scores) {
  const int64_t n = rows.keys;
  at::parallel_for(0, rows.count(), grain(n), [&](int64_t begin, int64_t end) {
    std::vector<float> work(n);
    for (int64_t r = begin; r < end; ++r) {
      const int64_t query = r % rows.queries, h = r / rows.queries % rows.heads, image = r / rows.queries / rows.heads;
      softmax_row(scores + r * n, rows.bias ? rows.bias + rows.bias_at(image, h, query) : nullptr, scale, n,
                  work.data());
    }
  });
}

template <class T>
void softmax_gradient(const Rows& rows, float scale, const T* p, T* d, float* d_bias) {
  const int64_t n = rows.keys, per_image = rows.heads * rows.queries;
  // The loop over images is inside, so only one thread adds to a row of the bias's gradient.
  at::parallel_for(0, per_image, grain(n * rows.images), [&](int64_t begin, int64_t end) {
    for (int64_t image = 0; image < rows.images; ++image) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t at = (image * per_image + r) * n;
        float* to = d_bias ? d_bias + rows.bias_at(image, r / rows.queries, r % rows.queries) : nullptr;
        gradient_row(p + at, d + at, scale, n, to);
      }
    }
  });
}

}  // namespace HETERODYNE_LEVEL
}  // namespace
}  // namespace heterodyne::attention
