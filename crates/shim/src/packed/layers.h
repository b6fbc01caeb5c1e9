// Layers of a network without a graph, in float32, spread over ATen's threads. A level has its own layout of weights
// and its own kernels for it (kernels.h).
#pragma once
#include <cstdint>

namespace heterodyne::packed {

// A matrix in row-major order whose rows are `stride` apart.
template <class T>
struct Matrix {
  T* data;
  int64_t stride;

  // The part that starts at a row and a column; a null matrix stays null.
  Matrix from(int64_t row, int64_t column) const { return {data ? data + row * stride + column : nullptr, stride}; }
};
using In = Matrix<const float>;
using Out = Matrix<float>;

// The right factor (k, n) of a product in panels of as many columns as the level's kernels take: a panel holds the rows
// 0..k of its columns in order; the last panel is padded with zeros.
struct Panels {
  const float* data;
  int64_t k, n;
};

enum class Post : uint8_t { kNone, kGelu, kRelu, kRelu6, kAdd, kAddRelu };

// The terms added to a product, and the operation on the sum.
struct Finish {
  const float* column_bias = nullptr;  // for each column of the result, padded to whole panels
  const float* row_bias = nullptr;     // or for each row
  Post post = Post::kNone;
  In other = {nullptr, 0};  // the addend of kAdd and kAddRelu, in the result's shape

  // The same for the part of the result that starts at a row and a column.
  Finish from(int64_t row, int64_t column) const {
    return {column_bias ? column_bias + column : nullptr, row_bias ? row_bias + row : nullptr, post,
            other.from(row, column)};
  }
};

// A weight (outputs, inputs) as the left factor of a product, and its bias (outputs).
struct Left {
  In weight;
  const float* bias;
  int64_t outputs, inputs;
};

// A batch of (rows, heads * width) matrices.
template <class T>
struct Sequences {
  T* data;
  int64_t batch_stride, rows, row_stride;

  Matrix<T> head(int64_t batch, int64_t column) const { return {data + batch * batch_stride + column, row_stride}; }
};

// The layers of one level.
struct Kernels {
  // Columns of a panel.
  int64_t panel_columns;

  // out (rows, weight.n) = post(x (rows, weight.k) weight + bias).
  void (*linear)(In x, int64_t rows, const Panels& weight, const Finish& finish, Out out);

  // out = post(gelu(x first + bias) second + bias), a few rows at a time: the hidden layer stays in the second-level
  // cache.
  void (*mlp)(In x, int64_t rows, const Panels& first, const float* first_bias, const Panels& second,
              const Finish& finish, Out out);

  // For each of `batch` matrices x (inputs, columns): out (outputs, columns) = post(weight x + bias), or with a
  // `second` map post(second gelu(weight x + bias) + bias). The matrices are contiguous; `other` has the result's
  // shape.
  void (*mix)(const float* x, int64_t batch, int64_t columns, const Left& first, const Left* second, Post post,
              const float* other, float* out);

  // softmax(q k^T / sqrt(width)) v for every head; q and out have the same number of rows, and so do k and v.
  void (*attention)(const Sequences<const float>& q, const Sequences<const float>& k, const Sequences<const float>& v,
                    int64_t batch, int64_t heads, int64_t width, const Sequences<float>& out);

  // x (rows, columns) = post(x + column bias), for a product computed elsewhere. The bias need not be padded.
  void (*finish)(const Finish& finish, int64_t rows, int64_t columns, Out x);

  int64_t panels(int64_t columns) const { return (columns + panel_columns - 1) / panel_columns; }
};

// The kernels of the calling thread's level.
const Kernels& kernels();

}  // namespace heterodyne::packed
