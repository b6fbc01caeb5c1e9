#include "winograd/winograd.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "element.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace heterodyne::winograd {
namespace {

constexpr int64_t PATCH = 6;  // side of an input patch
constexpr int64_t TILE = 4;   // side of an output tile
constexpr int64_t TAPS = 3;   // side of a filter
constexpr int64_t POINTS = PATCH * PATCH;
constexpr int64_t CHANNELS = 16;  // channels come in multiples of this, and so of the lanes of every level

int64_t ceil_div(int64_t n, int64_t d) { return (n + d - 1) / d; }

// The sizes (batch, height, width) of a map in channels-last memory, and its 4x4 tiles, counted through the batch.
struct Grid {
  int64_t height, width, down, across, tiles;

  Grid(int64_t batch, int64_t height, int64_t width)
      : height(height),
        width(width),
        down(ceil_div(height, TILE)),
        across(ceil_div(width, TILE)),
        tiles(batch * down * across) {}
};

// A tile of a grid with the square of `side` x `side` pixels around it.
template <int64_t side>
class Square {
 public:
  Square(const Grid& grid, int64_t tile)
      : grid_(grid),
        image_(tile / (grid.down * grid.across)),
        down_(tile / grid.across % grid.down),
        across_(tile % grid.across) {}

  void advance() {
    if (++across_ < grid_.across) return;
    across_ = 0;
    if (++down_ < grid_.down) return;
    down_ = 0;
    ++image_;
  }

  // Of the square's lines, those from `top` to before `bottom` are inside the map, and so for its columns.
  int64_t top() const { return std::max<int64_t>(0, -y()); }
  int64_t bottom() const { return std::min(side, grid_.height - y()); }
  int64_t left() const { return std::max<int64_t>(0, -x()); }
  int64_t right() const { return std::min(side, grid_.width - x()); }

  // The number within the batch of the first pixel of line `i`, as if the map went on to its left.
  int64_t pixel(int64_t i) const { return (image_ * grid_.height + y() + i) * grid_.width + x(); }

 private:
  static constexpr int64_t MARGIN = (side - TILE) / 2;
  const Grid& grid_;
  int64_t image_, down_, across_;

  int64_t y() const { return down_ * TILE - MARGIN; }
  int64_t x() const { return across_ * TILE - MARGIN; }
};

// Some channels of a map of float or bfloat16: `width` of the `stride` channels of each pixel.
template <class T>
struct Channels {
  T* data;
  int64_t stride, width;

  Channels slice(int64_t begin, int64_t count) const { return {data + begin, stride, count}; }
};

// Filters (outputs, inputs, 3, 3) of any strides.
struct Filters {
  float* data;
  int64_t outputs, inputs;
  int64_t output_stride, input_stride, row_stride, column_stride;

  explicit Filters(const at::Tensor& w)
      : data(w.data_ptr<float>()),
        outputs(w.size(0)),
        inputs(w.size(1)),
        output_stride(w.stride(0)),
        input_stride(w.stride(1)),
        row_stride(w.stride(2)),
        column_stride(w.stride(3)) {}

  // Rotated by half a turn, with inputs and outputs exchanged: convolving with these gives the adjoint.
  Filters adjoint() const {
    Filters f = *this;
    f.data += (TAPS - 1) * (row_stride + column_stride);
    f.row_stride = -row_stride;
    f.column_stride = -column_stride;
    std::swap(f.outputs, f.inputs);
    std::swap(f.output_stride, f.input_stride);
    return f;
  }

  Filters slice(int64_t output, int64_t count) const {
    Filters f = *this;
    f.data += output * output_stride;
    f.outputs = count;
    return f;
  }

  float* at(int64_t output, int64_t input, int64_t tap) const {
    return data + output * output_stride + input * input_stride + tap / TAPS * row_stride + tap % TAPS * column_stride;
  }
};

// Memory that a thread keeps between calls.
class Scratch {
 public:
  float* floats(int64_t n) {
    if (n > size_) grow(n);
    return data_.get();
  }

 private:
  static constexpr int64_t HUGE_PAGE = 2 << 20;
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  int64_t size_ = 0;

  void grow(int64_t n) {
    const int64_t bytes = ceil_div(n * int64_t(sizeof(float)), HUGE_PAGE) * HUGE_PAGE;
    data_.reset();
    size_ = 0;
    data_.reset(static_cast<float*>(std::aligned_alloc(HUGE_PAGE, bytes)));
    if (!data_) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    madvise(data_.get(), bytes,
            MADV_HUGEPAGE);  // 36 points in separate small pages exceed the first-level TLB
#endif
    size_ = bytes / int64_t(sizeof(float));
  }
};

// Memory that all threads of a call read, and memory of each thread.
thread_local Scratch common_scratch, own_scratch;

}  // namespace
}  // namespace heterodyne::winograd

#define HETERODYNE_KERNELS "winograd/kernels.h"
#include "simd/levels.h"
#include "tensor.h"

namespace heterodyne::winograd {
namespace {

bool is_map_on_cpu(const at::Tensor& t) { return t.dim() == 4 && t.is_cpu() && t.layout() == at::kStrided; }

// Whether `x` has a supported kind: float without autocast; under autocast bfloat16, if direct convolutions have no
// matrix instructions for it.
bool suits_kind(const at::Tensor& x) {
  const bool autocast = at::autocast::is_autocast_enabled(at::kCPU);
  if (x.scalar_type() == at::kFloat) return !autocast;
  return x.scalar_type() == at::kBFloat16 && autocast && at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16 &&
         cpu::level() < cpu::Level::kAmx;
}

bool suits(const at::Tensor& x, const at::Tensor& weight) {
  if (!is_map_on_cpu(x) || !is_map_on_cpu(weight) || weight.scalar_type() != at::kFloat || !suits_kind(x)) return false;
  const int64_t inputs = x.size(1), outputs = weight.size(0), height = x.size(2), width = x.size(3);
  if (weight.size(1) != inputs || weight.size(2) != TAPS || weight.size(3) != TAPS || x.numel() == 0 || outputs == 0)
    return false;
  if (inputs % CHANNELS != 0 || outputs % CHANNELS != 0) return false;
  // Below 16 tiles the filter transforms do not pay off. The tile transforms pay off only if they halve the
  // multiplications of the direct convolution, 9 per pixel against 36 per tile.
  const Grid grid(x.size(0), height, width);
  return grid.tiles >= 16 && TAPS * TAPS * height * width >= 2 * POINTS * grid.down * grid.across;
}

at::Tensor convolve(const at::Tensor& x, const Filters& f) {
  const at::Tensor from = x.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor y =
      at::empty({x.size(0), f.outputs, x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    HETERODYNE_DISPATCH(
        convolve(Grid(x.size(0), x.size(2), x.size(3)), from.const_data_ptr<T>(), f, y.mutable_data_ptr<T>()));
  });
  return y;
}

// The gradient of `weight`, with its strides.
at::Tensor correlate(const at::Tensor& x, const at::Tensor& dy, const at::Tensor& weight) {
  const at::Tensor input = x.contiguous(at::MemoryFormat::ChannelsLast),
                   output = dy.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor gradient = at::empty_like(weight);
  with_type(x, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    const Grid grid(x.size(0), x.size(2), x.size(3));
    HETERODYNE_DISPATCH(correlate(grid, input.const_data_ptr<T>(), output.const_data_ptr<T>(), Filters(gradient)));
  });
  return gradient;
}

struct Conv3x3 : torch::autograd::Function<Conv3x3> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight) {
    ctx->save_for_backward({x, weight});
    return convolve(x, Filters(weight));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const bool to_x = ctx->needs_input_grad(0), to_weight = ctx->needs_input_grad(1);
    if (!gradients[0].defined()) return {at::Tensor(), at::Tensor()};
    const at::Tensor dy = gradients[0].to(x.scalar_type());
    if (at::GradMode::is_enabled()) {  // for a second derivative
      auto [dx, dw, db] = at::convolution_backward(dy, x, weight.to(x.scalar_type()), std::nullopt, {1, 1}, {1, 1},
                                                   {1, 1}, /*transposed=*/false, {0, 0},
                                                   /*groups=*/1, {to_x, to_weight, false});
      return {dx, to_weight ? dw.to(weight.scalar_type()) : dw};
    }
    return {to_x ? convolve(dy, Filters(weight).adjoint()) : at::Tensor(),
            to_weight ? correlate(x, dy, weight) : at::Tensor()};
  }
};

}  // namespace

size_t conv3x3(size_t x_bchw, size_t weight) {
  RECORD_FUNCTION("heterodyne::conv3x3", c10::ArrayRef<const c10::IValue>{});
  const at::Tensor &x = tensor(x_bchw), &w = tensor(weight);
  if (suits(x, w)) return give(Conv3x3::apply(x, w));
  return give(at::conv2d(x, w, /*bias=*/{}, /*stride=*/1, /*padding=*/1));
}

bool suits(size_t x_bchw, size_t weight) { return suits(tensor(x_bchw), tensor(weight)); }

}  // namespace heterodyne::winograd
