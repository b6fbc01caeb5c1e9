// Softmax over the rows of attention scores, forwards and backwards, in place.
#pragma once
#include <cstdint>

namespace heterodyne::attention {

// Scores (images, heads, queries, keys) without gaps, of the images `first`, `first + 1`, ... and the heads from
// `head`. Image b gets row b mod `groups` of a bias (groups, all_heads, queries, keys), which may be null.
struct Rows {
  int64_t images, heads, queries, keys;
  int64_t first, head, all_heads, groups;
  const float* bias;

  int64_t count() const { return images * heads * queries; }
  // The start of the bias for row `query` of image `image` and head `h` of these.
  int64_t bias_at(int64_t image, int64_t h, int64_t query) const {
    return (((first + image) % groups * all_heads + head + h) * queries + query) * keys;
  }
};

// scores <- softmax(scale * scores + bias)
template <class T>
void softmax(const Rows& rows, float scale, T* scores);

// With p = softmax(scale * scores + bias) and d the gradient of p: d <- scale * p (d - sum(p d)), the gradient of the
// scores. `d_bias`, shaped as the bias, gets the sum over images of p (d - sum(p d)) added; it may be null.
template <class T>
void softmax_gradient(const Rows& rows, float scale, const T* p, T* d, float* d_bias);

}  // namespace heterodyne::attention
