// The passes over a sample, for one level. A sample stays in the cache between them.
namespace heterodyne::spectrum {
namespace {
namespace HETERODYNE_LEVEL {

using namespace simd::HETERODYNE_LEVEL;

HETERODYNE_INLINE float sum(const float* x, int64_t count) {
  Vec total = zero();
  each(count, [&](int64_t i, auto live) { total = total + load(x + i, live); });
  return sum_of(total);
}

// The sum of (w x - m)^2.
HETERODYNE_INLINE float squares(const float* x, float w, float m, int64_t count) {
  Vec total = zero();
  each(count, [&](int64_t i, auto live) {
    const Vec d = only(live, load(x + i, live) * w - m);
    total = d * d + total;
  });
  return sum_of(total);
}

// Adds to `fit` what a row with e = scale d - t, d = w x - m contributes.
HETERODYNE_INLINE void compare(const float* x, const float* t, float w, float m, float direction, int64_t count,
                               Fit& fit) {
  const float scale = float(fit.scale);
  Vec squares = zero(), along = zero(), lean = zero();
  each(count, [&](int64_t i, auto live) {
    const Vec d = load(x + i, live) * w - m;
    const Vec e = only(live, d * scale - load(t + i, live));
    squares = e * e + squares;
    along = e * d + along;
    lean = lean + e;
  });
  fit.squares += sum_of(squares);
  fit.along += sum_of(along);
  fit.lean += double(direction) * sum_of(lean);
}

Fit fit_one(const float* x, const float* t, const Plane& plane, double length) {
  const auto& [weight, direction, rows, channels, share, eps] = plane;
  Fit fit{};
  for (int64_t n = 0; n < rows; ++n) {
    if (direction[n] != 0.0f) fit.mean += double(direction[n]) * weight[n] * sum(x + n * channels, channels);
  }
  fit.mean /= length;
  double variance = 0;
  for (int64_t n = 0; n < rows; ++n)
    variance += squares(x + n * channels, weight[n], float(fit.mean * direction[n]), channels);
  variance *= share / double(plane.numbers());
  fit.scale = 1.0 / std::sqrt(variance + eps);
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t at = n * channels;
    compare(x + at, t + at, weight[n], float(fit.mean * direction[n]), direction[n], channels, fit);
  }
  return fit;
}

void fit_all(const at::Tensor& x, const at::Tensor& target, const Plane& plane, Fit* fit) {
  const float *in = x.const_data_ptr<float>(), *t = target.const_data_ptr<float>();
  const double length = plane.length();
  at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t at = b * plane.numbers();
      fit[b] = fit_one(in + at, t + at, plane, length);
    }
  });
}

// With k = 2 share / numbers in the batch, times the gradient of the result:
//   dL/dd = k scale (e - scale^2 share mean(e d) d),   dL/d(w x) = dL/dd - r sum(r dL/dd) / sum(r^2),   sum(r d) = 0
void gradient_of(const at::Tensor& x, const at::Tensor& target, const Plane& plane, const Fit* fit, double gradient,
                 const at::Tensor& dx) {
  const float *in = x.const_data_ptr<float>(), *t = target.const_data_ptr<float>();
  float* out = dx.mutable_data_ptr<float>();
  const double length = plane.length(), k = 2.0 * plane.share / double(x.numel()) * gradient;
  at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const auto& [mean, scale, squares, along, lean] = fit[b];
      const double of_target = k * scale, of_direction = k * scale * lean / length;
      const double of_d = of_target * scale * (1.0 - scale * plane.share / double(plane.numbers()) * along);
      for (int64_t n = 0; n < plane.rows; ++n) {
        const double w = plane.weight[n], r = plane.direction[n];
        const float by_x = float(w * w * of_d), by_t = float(w * of_target);
        const float less = float(w * r * (of_d * mean + of_direction));
        const int64_t at = b * plane.numbers() + n * plane.channels;
        each(plane.channels, [&](int64_t i, auto live) {
          const Vec d = load(in + at + i, live) * by_x - less;
          store(out + at + i, d - load(t + at + i, live) * by_t, live);
        });
      }
    }
  });
}

}  // namespace HETERODYNE_LEVEL
}  // namespace
}  // namespace heterodyne::spectrum
