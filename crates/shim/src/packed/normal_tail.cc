#include "packed/normal_tail.h"

#include <cmath>

namespace heterodyne::packed {
namespace {

// Coefficients of the polynomial through (x[i], y[i]) in powers of x: Newton's divided differences, expanded from the
// innermost factor.
template <int N>
void interpolate(const double (&x)[N], double (&y)[N]) {
  for (int order = 1; order < N; ++order) {
    for (int i = N - 1; i >= order; --i) y[i] = (y[i] - y[i - 1]) / (x[i] - x[i - order]);
  }
  for (int i = N - 2; i >= 0; --i) {
    for (int j = i; j < N - 1; ++j) y[j] -= x[i] * y[j + 1];
  }
}

template <int intervals>
NormalTail<intervals> make() {
  using Tail = NormalTail<intervals>;
  constexpr int kPoints = Tail::kDegree + 1;
  constexpr double kPi = 3.14159265358979323846;
  Tail tail;
  for (int interval = 0; interval < intervals; ++interval) {
    double t[kPoints], q[kPoints];
    for (int i = 0; i < kPoints; ++i) {
      t[i] = 0.5 * std::cos((2 * i + 1) * kPi / (2 * kPoints));  // Chebyshev's nodes
      q[i] = 0.5 * std::erfc((interval + 0.5 + t[i]) * Tail::kEnd / intervals / std::sqrt(2.0));
    }
    interpolate(t, q);
    for (int i = 0; i < kPoints; ++i) tail.coefficients[i][interval] = static_cast<float>(q[i]);
  }
  return tail;
}

}  // namespace

template <int intervals>
const NormalTail<intervals>& NormalTail<intervals>::get() {
  static const NormalTail tail = make<intervals>();
  return tail;
}

template struct NormalTail<8>;
template struct NormalTail<16>;

}  // namespace heterodyne::packed
