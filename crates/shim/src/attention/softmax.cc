#include "attention/softmax.h"

#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>

#include "avx512.h"

namespace heterodyne::attention {
namespace {

using vector::lanes;

// Rows that are worth a thread.
int64_t grain(int64_t keys) { return std::max<int64_t>(1, 16384 / keys); }

// `f(from, mask)` for each vector of a row of `n` numbers.
template <class F>
HETERODYNE_AVX512_INLINE void each(int64_t n, F f) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(i, static_cast<__mmask16>(0xFFFF));
  if (i < n) f(i, static_cast<__mmask16>((1u << (n - i)) - 1));
}

// One row; `work` holds n floats. A NaN makes the whole row NaN.
template <class T>
HETERODYNE_AVX512 void softmax_row(T* row, const float* bias, float scale, int64_t n, float* work) {
  const __m512 factor = _mm512_set1_ps(scale), lowest = _mm512_set1_ps(-__builtin_inff());
  __m512 largest = lowest;
  each(n, [&](int64_t i, __mmask16 live) HETERODYNE_AVX512 {
    const __m512 shift = bias ? vector::load(bias + i, live) : _mm512_setzero_ps();
    const __m512 x = _mm512_fmadd_ps(vector::load(row + i, live), factor, shift);
    vector::store(work + i, x, live);
    largest = _mm512_mask_max_ps(largest, live, largest, x);
  });
  const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
  // exp wants finite numbers; this one's is 0 in float32. Where one operand is NaN, the second comes out.
  const __m512 nothing = _mm512_set1_ps(-200.0f);
  __m512 sum = _mm512_setzero_ps();
  each(n, [&](int64_t i, __mmask16 live) HETERODYNE_AVX512 {
    const __m512 power = vector::exp(_mm512_max_ps(nothing, _mm512_sub_ps(vector::load(work + i, live), top)));
    vector::store(work + i, power, live);
    sum = _mm512_mask_add_ps(sum, live, sum, power);
  });
  const __m512 share = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sum));
  each(n, [&](int64_t i, __mmask16 live)
             HETERODYNE_AVX512 { vector::store(row + i, _mm512_mul_ps(vector::load(work + i, live), share), live); });
}

// One row; its part of the bias's gradient is added to `d_bias`, which may be null.
template <class T>
HETERODYNE_AVX512 void gradient_row(const T* p, T* d, float scale, int64_t n, float* d_bias) {
  __m512 sum = _mm512_setzero_ps();
  each(n, [&](int64_t i, __mmask16 live)
             HETERODYNE_AVX512 { sum = _mm512_fmadd_ps(vector::load(p + i, live), vector::load(d + i, live), sum); });
  const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum)), factor = _mm512_set1_ps(scale);
  each(n, [&](int64_t i, __mmask16 live) HETERODYNE_AVX512 {
    const __m512 g = _mm512_mul_ps(vector::load(p + i, live), _mm512_sub_ps(vector::load(d + i, live), mean));
    if (d_bias) vector::store(d_bias + i, _mm512_add_ps(vector::load(d_bias + i, live), g), live);
    vector::store(d + i, _mm512_mul_ps(g, factor), live);
  });
}

}  // namespace

template <class T>
void softmax(const Rows& rows, float scale, T* scores) {
  const int64_t n = rows.keys;
  at::parallel_for(0, rows.count(), grain(n), [&](int64_t begin, int64_t end) {
    std::vector<float> work(n);
    for (int64_t r = begin; r < end; ++r) {
      const int64_t query = r % rows.queries, h = r / rows.queries % rows.heads, image = r / rows.queries / rows.heads;
      softmax_row(scores + r * n, rows.bias ? rows.bias + rows.bias_at(image, h, query) : nullptr, scale, n, work.data());
    }
  });
}

template <class T>
void softmax_gradient(const Rows& rows, float scale, const T* p, T* d, float* d_bias) {
  const int64_t n = rows.keys, per_image = rows.heads * rows.queries;
  // The images follow each other inside, so that one thread alone adds to a row of the bias's gradient.
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

template void softmax(const Rows&, float, float*);
template void softmax(const Rows&, float, c10::BFloat16*);
template void softmax_gradient(const Rows&, float, const float*, float*, float*);
template void softmax_gradient(const Rows&, float, const c10::BFloat16*, c10::BFloat16*, float*);

}  // namespace heterodyne::attention
