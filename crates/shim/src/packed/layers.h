// Layers of a network without a graph, in float32, spread over ATen's threads.
#pragma once
#include <cstdint>

#include "packed/product.h"

namespace heterodyne::packed {

// out (rows, weight.n) = post(x (rows, weight.k) weight + bias).
void linear(In x, int64_t rows, const Panels& weight, const Finish& finish, Out out);

// out = post(gelu(x first + bias) second + bias), a few rows at a time: the hidden layer does not leave the second-level cache.
void mlp(In x, int64_t rows, const Panels& first, const float* first_bias, const Panels& second, const Finish& finish, Out out);

// A weight (outputs, inputs) that stands on the left of its factor, and its bias (outputs).
struct Left {
  In weight;
  const float* bias;
  int64_t outputs, inputs;
};

// For each of `batch` matrices x (inputs, columns): out (outputs, columns) = post(weight x + bias), or with a `second` map
// post(second gelu(weight x + bias) + bias). Matrices lie one behind the other; `other` is shaped as the result.
void mix(const float* x, int64_t batch, int64_t columns, const Left& first, const Left* second, Post post, const float* other, float* out);

// A batch of (rows, heads * width) matrices.
template <class T>
struct Sequences {
  T* data;
  int64_t batch_stride, rows, row_stride;

  Matrix<T> head(int64_t batch, int64_t column) const { return {data + batch * batch_stride + column, row_stride}; }
};

// softmax(q k^T / sqrt(width)) v for every head; q and out have the same number of rows, k and v have.
void attention(const Sequences<const float>& q, const Sequences<const float>& k, const Sequences<const float>& v, int64_t batch,
               int64_t heads, int64_t width, const Sequences<float>& out);

// x (rows, columns) = post(x + column bias) for a product that was computed elsewhere. The bias need not be padded.
void finish(const Finish& finish, int64_t rows, int64_t columns, Out x);

}  // namespace heterodyne::packed
