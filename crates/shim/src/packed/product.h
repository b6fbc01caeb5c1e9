// Products of matrices with what follows them, in float32. All functions compute on the calling thread.
#pragma once
#include <cstdint>

namespace heterodyne::packed {

// Rows and columns of the part of a result that is held in registers: 28 accumulators of the 32 registers.
constexpr int64_t kTileRows = 14;
constexpr int64_t kTileColumns = 32;

inline int64_t tiles(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
inline int64_t panels(int64_t columns) { return (columns + kTileColumns - 1) / kTileColumns; }

// A matrix in row-major order whose rows lie `stride` apart.
template <class T>
struct Matrix {
  T* data;
  int64_t stride;

  // The part that starts at a row and a column; no matrix has no parts.
  Matrix from(int64_t row, int64_t column) const { return {data ? data + row * stride + column : nullptr, stride}; }
};
using In = Matrix<const float>;
using Out = Matrix<float>;

// The right factor (k, n) of a product in panels of 32 columns: panel p holds the rows 0..k of the columns from 32p, one after the
// other, the last panel filled up with zeros. Aligned to a cache line.
struct Panels {
  const float* data;
  int64_t k, n;

  const float* panel(int64_t p) const { return data + p * k * kTileColumns; }
};

enum class Post : uint8_t { kNone, kGelu, kRelu, kRelu6, kAdd, kAddRelu };

// What is added to a product and what is done to the sum.
struct Finish {
  const float* column_bias = nullptr;  // for each column of the result, padded to whole panels
  const float* row_bias = nullptr;     // or for each row
  Post post = Post::kNone;
  In other = {nullptr, 0};  // what kAdd and kAddRelu add, shaped as the result

  // What concerns the part of the result that starts at a row and a column.
  Finish from(int64_t row, int64_t column) const {
    return {column_bias ? column_bias + column : nullptr, row_bias ? row_bias + row : nullptr, post, other.from(row, column)};
  }
};

// out (rows, b.n) = post(a (rows, b.k) b + bias).
void multiply(In a, int64_t rows, const Panels& b, const Finish& finish, Out out);

// x (rows, columns) = post(x + column bias); the bias need not be padded.
void apply(const Finish& finish, int64_t rows, int64_t columns, Out x);

}  // namespace heterodyne::packed
