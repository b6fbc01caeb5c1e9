#include "packed/vector.h"

#include <cmath>
#include <memory>

namespace heterodyne::packed {
namespace {

// Coefficients of the polynomial through (x[i], y[i]) in powers of x: Newton's divided differences, expanded from the inside.
template <int N>
void interpolate(const double (&x)[N], double (&y)[N]) {
  for (int order = 1; order < N; ++order) {
    for (int i = N - 1; i >= order; --i) y[i] = (y[i] - y[i - 1]) / (x[i] - x[i - order]);
  }
  for (int i = N - 2; i >= 0; --i) {
    for (int j = i; j < N - 1; ++j) y[j] -= x[i] * y[j + 1];
  }
}

NormalTail make_normal_tail() {
  constexpr int kPoints = NormalTail::kDegree + 1;
  constexpr double kPi = 3.14159265358979323846;
  NormalTail tail;
  for (int interval = 0; interval < kLanes; ++interval) {
    double t[kPoints], q[kPoints];
    for (int i = 0; i < kPoints; ++i) {
      t[i] = 0.5 * std::cos((2 * i + 1) * kPi / (2 * kPoints));  // Chebyshev's nodes
      q[i] = 0.5 * std::erfc((interval + 0.5 + t[i]) * NormalTail::kEnd / kLanes / std::sqrt(2.0));
    }
    interpolate(t, q);
    for (int i = 0; i < kPoints; ++i) tail.coefficients[i][interval] = static_cast<float>(q[i]);
  }
  return tail;
}

// Memory that only grows.
struct Buffer {
  std::unique_ptr<float, decltype(&std::free)> data{nullptr, &std::free};
  int64_t size = 0;

  float* at_least(int64_t floats) {
    if (floats > size) {
      size = (floats + kLanes - 1) / kLanes * kLanes;
      data.reset();
      data.reset(static_cast<float*>(std::aligned_alloc(64, size * sizeof(float))));
      if (!data) {
        size = 0;
        throw std::bad_alloc();
      }
    }
    return data.get();
  }
};

}  // namespace

const NormalTail& NormalTail::get() {
  static const NormalTail tail = make_normal_tail();
  return tail;
}

float* scratch(int slot, int64_t floats) {
  static thread_local Buffer buffers[4];
  return buffers[slot].at_least(floats);
}

}  // namespace heterodyne::packed
