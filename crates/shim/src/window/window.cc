#include "window/window.h"

#include <algorithm>
#include <functional>
#include <type_traits>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "element.h"

namespace heterodyne::window {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The windows over n positions: window i of s covers floor(i n/s) .. ceil((i+1) n/s).
struct Axis {
  std::vector<int64_t> start, length;
  std::vector<int64_t> lengths;  // the lengths that occur, the larger first

  Axis(int64_t n, int64_t s) {
    for (int64_t i = 0; i < s; ++i) {
      start.push_back(i * n / s);
      length.push_back(((i + 1) * n + s - 1) / s - start.back());
    }
    lengths = length;
    std::sort(lengths.begin(), lengths.end(), std::greater<>());
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  }

  int64_t count() const { return static_cast<int64_t>(start.size()); }
};

// All windows of one scale. They begin at `first_window` among the windows of all scales; the kernels begin at
// `first_weight`.
struct Scale {
  Axis rows, columns;
  int64_t first_window, first_weight;

  // The start of the kernel for windows of height x width.
  int64_t kernel(int64_t height, int64_t width) const {
    int64_t at = first_weight;
    for (const int64_t h : rows.lengths) {
      for (const int64_t w : columns.lengths) {
        if (h == height && w == width) return at;
        at += h * w;
      }
    }
    return at;
  }

  int64_t last_weight() const { return kernel(0, 0); }
};

struct Scales {
  std::vector<Scale> all;
  int64_t windows = 0, weights = 0;

  // `counts` holds the number of windows along the rows and along the columns of each scale.
  Scales(int64_t height, int64_t width, at::IntArrayRef counts) {
    for (size_t i = 0; i + 1 < counts.size(); i += 2) {
      all.push_back({Axis(height, counts[i]), Axis(width, counts[i + 1]), windows, weights});
      windows += counts[i] * counts[i + 1];
      weights = all.back().last_weight();
    }
  }
};

// Adjacent positions of one row in one window: `count` of them from column `first`, and the start of their weights.
struct Run {
  int64_t row, first, count, window, weight;
};

// All runs, row by row.
std::vector<Run> runs_of(const Scales& scales, int64_t height) {
  std::vector<Run> runs;
  for (int64_t y = 0; y < height; ++y) {
    for (const Scale& scale : scales.all) {
      const auto& [rows, columns, first_window, first_weight] = scale;
      for (int64_t i = 0; i < rows.count(); ++i) {
        if (y < rows.start[i] || y >= rows.start[i] + rows.length[i]) continue;
        for (int64_t j = 0; j < columns.count(); ++j) {
          const int64_t width = columns.length[j];
          const int64_t weight = scale.kernel(rows.length[i], width) + (y - rows.start[i]) * width;
          runs.push_back({y, columns.start[j], width, first_window + i * columns.count() + j, weight});
        }
      }
    }
  }
  return runs;
}

}  // namespace
}  // namespace heterodyne::window

#define HETERODYNE_KERNELS "window/kernels.h"
#include "simd/levels.h"
#include "tensor.h"

namespace heterodyne::window {
namespace {

struct WindowSums : torch::autograd::Function<WindowSums> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weights,
                            at::IntArrayRef counts) {
    ctx->save_for_backward({x, weights});
    ctx->saved_data["scales"] = counts.vec();
    const Scales scales(x.size(2), x.size(3), counts);
    at::Tensor sums = at::empty({x.size(0), scales.windows, x.size(1)}, weights.options());
    with_type(x, [&](auto* t) {
      HETERODYNE_DISPATCH(sums_of<std::remove_pointer_t<decltype(t)>>(x, weights, scales, sums));
    });
    return sums;
  }

  static variable_list backward(AutogradContext* ctx, variable_list& grad_outputs) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "window_sums has no second derivative");
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weights = saved[1], d_sums = grad_outputs[0].contiguous();
    const Scales scales(x.size(2), x.size(3), ctx->saved_data["scales"].toIntVector());
    at::Tensor dx, d_weights;
    if (ctx->needs_input_grad(0)) dx = at::empty(x.sizes(), x.options(), at::MemoryFormat::ChannelsLast);
    if (ctx->needs_input_grad(1)) d_weights = at::empty_like(weights);
    with_type(x, [&](auto* t) {
      HETERODYNE_DISPATCH(gradients_of<std::remove_pointer_t<decltype(t)>>(d_sums, x, weights, scales, dx, d_weights));
    });
    return {dx, d_weights, {}};
  }
};

}  // namespace

bool window_suits(size_t address) {
  const at::Tensor& x = tensor(address);
  return x.device().is_cpu() && x.layout() == at::kStrided && !x.is_neg() && x.dim() == 4 && x.numel() > 0 &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

size_t window_sums(size_t x_address, size_t weights_address, rust::Slice<const int64_t> counts) {
  RECORD_FUNCTION("heterodyne::window_sums", c10::ArrayRef<const c10::IValue>{});
  const at::Tensor& x = tensor(x_address);
  TORCH_CHECK(window_suits(x_address), "window sums need a float or bfloat16 map (B,C,H,W) on a CPU, got ",
              x.scalar_type(), " ", x.sizes());
  const at::IntArrayRef scales(counts.data(), counts.size());
  for (size_t i = 0; i < scales.size(); ++i) {
    TORCH_CHECK(scales[i] >= 1 && scales[i] <= x.size(2 + i % 2), "a map of ", x.sizes(), " has no ", scales[i],
                " windows along axis ", 2 + i % 2);
  }
  const int64_t rows = Scales(x.size(2), x.size(3), scales).weights;
  const at::Tensor& weights = tensor(weights_address);
  TORCH_CHECK(weights.scalar_type() == at::kFloat && weights.device().is_cpu() && weights.dim() == 2 &&
                  weights.size(0) == rows && weights.size(1) == x.size(1),
              "the windows of ", x.sizes(), " at scales ", scales, " need float weights (", rows, ",", x.size(1),
              "), got ", weights.scalar_type(), " ", weights.sizes());
  return give(WindowSums::apply(x.contiguous(at::MemoryFormat::ChannelsLast), weights.contiguous(), scales));
}

}  // namespace heterodyne::window
