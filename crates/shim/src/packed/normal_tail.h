// The upper tail of the normal distribution.
#pragma once

namespace heterodyne::packed {

// Q(a) = P(normal > a) on [0, 6): on each of 16 intervals a polynomial of degree 5 in t, the position in the interval
// from -1/2 to 1/2; or on each of 8 intervals one of degree 7.
template <int intervals>
struct NormalTail {
  static constexpr int kDegree = intervals == 16 ? 5 : 7;
  static constexpr float kEnd = 6.0f;
  alignas(64) float coefficients[kDegree + 1][intervals];

  static const NormalTail& get();
};

}  // namespace heterodyne::packed
