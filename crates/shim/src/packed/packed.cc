#include "packed/packed.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>

#include "cpu/cpu.h"
#include "winograd/winograd.h"
#include "tensor.h"

namespace heterodyne::packed {
namespace {

// A layer computes in the kind of its weight, regardless of autocast, and records nothing.
struct Plainly {
  Plainly() { at::autocast::set_autocast_enabled(at::kCPU, false); }
  ~Plainly() { at::autocast::set_autocast_enabled(at::kCPU, autocast); }
  Plainly(const Plainly&) = delete;
  Plainly& operator=(const Plainly&) = delete;

  const bool autocast = at::autocast::is_autocast_enabled(at::kCPU);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast{c10::autocast_dispatch_keyset};
  const at::NoGradGuard no_grad;
};

at::Tensor take(size_t address) {
  const std::unique_ptr<at::Tensor> t(reinterpret_cast<at::Tensor*>(address));
  return *t;
}

size_t address(const at::Tensor& t) { return reinterpret_cast<size_t>(&t); }

float* numbers(const at::Tensor& t) { return t.defined() ? t.mutable_data_ptr<float>() : nullptr; }

// Whether the kernels of layers.h can compute with `t`.
bool own(const at::Tensor& t) { return t.device().is_cpu() && t.scalar_type() == at::kFloat; }

Post post_of(uint8_t code) {
  TORCH_CHECK(code <= static_cast<uint8_t>(Post::kAddRelu),
              "unknown operation after a product: ", static_cast<int>(code));
  return static_cast<Post>(code);
}

bool adds(Post post) { return post == Post::kAdd || post == Post::kAddRelu; }

void check_no_graph(const at::Tensor& x) {
  TORCH_CHECK(!(at::GradMode::is_enabled() && x.requires_grad()), "a packed layer records no graph");
}

// The input, converted for the weight.
at::Tensor input(const at::Tensor& x, const at::Tensor& weight) {
  check_no_graph(x);
  TORCH_CHECK(x.device() == weight.device(), "a packed layer on ", weight.device(), " was given a tensor on ",
              x.device());
  return x.to(weight.scalar_type());
}

// The addend, in the kind, shape and memory format of the result; undefined if there is none.
at::Tensor addend(Post post, const at::Tensor& other, at::IntArrayRef shape, const at::Tensor& weight,
                  at::MemoryFormat format = at::MemoryFormat::Contiguous) {
  if (!adds(post)) return at::Tensor();
  TORCH_CHECK(other.defined() && other.sizes() == shape, "the addend needs the result's shape ", shape);
  return input(other, weight).contiguous(format);
}

// oneDNN's names for the operations after a product.
struct Named {
  using Scalars = torch::List<std::optional<at::Scalar>>;

  explicit Named(Post follows) {
    if (follows == Post::kRelu) post = "relu";
    if (follows == Post::kRelu6) {
      post = "hardtanh";
      scalars = Scalars({at::Scalar(0.0), at::Scalar(6.0)});
    }
    if (follows == Post::kGelu) {
      post = "gelu";
      algorithm = "none";
    }
  }

  std::string_view post = "none", algorithm = "";
  Scalars scalars;
};

// bfloat16 on a CPU whose matrix instructions oneDNN uses, which is fastest with weights in its own layout.
bool onednn_products(const at::Tensor& t) {
  return t.device().is_cpu() && t.scalar_type() == at::kBFloat16 && cpu::fast_bf16() && at::hasMKLDNN() &&
         at::globalContext().userEnabledMkldnn();
}

at::Tensor reorder_linear(const at::Tensor& weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_reorder_linear_weight", "")
                             .typed<at::Tensor(const at::Tensor&, std::optional<int64_t>)>();
  return op.call(weight.contiguous(), std::nullopt);
}

// post(x weight^T + bias) for a reordered weight; kAdd and kAddRelu with `added`, of x's kind and the result's shape.
at::Tensor multiply_reordered(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, Post post,
                              const at::Tensor& added) {
  const std::optional<at::Tensor> maybe_bias = bias.defined() ? std::optional(bias) : std::nullopt;
  if (adds(post)) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("mkldnn::_linear_pointwise", "binary")
                               .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                                 const std::optional<at::Tensor>&, std::string_view)>();
    const at::Tensor y = op.call(x, added, weight, maybe_bias, "add");
    return post == Post::kAddRelu ? y.relu() : y;
  }
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                             .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                               std::string_view, Named::Scalars, std::optional<std::string_view>)>();
  const Named name(post);
  return op.call(x, weight, maybe_bias, name.post, name.scalars, name.algorithm);
}

at::Tensor apply_plain(Post post, at::Tensor y, const at::Tensor& other) {
  switch (post) {
    case Post::kNone:
      return y;
    case Post::kGelu:
      return at::gelu(y);
    case Post::kRelu:
      return y.relu_();
    case Post::kRelu6:
      return at::hardtanh_(y, 0, 6);
    case Post::kAdd:
      return y.add_(other);
    case Post::kAddRelu:
      return y.add_(other).relu_();
  }
  return y;
}

// (outputs, inputs) in panels.
at::Tensor pack_panels(const at::Tensor& weight, const Kernels& kernels) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1), count = kernels.panels(outputs);
  const at::Tensor padded = at::constant_pad_nd(weight, {0, 0, 0, count * kernels.panel_columns - outputs});
  return padded.view({count, kernels.panel_columns, inputs}).transpose(1, 2).contiguous();
}

Panels panels_of(const Linear& linear) { return {numbers(linear.panels), linear.inputs, linear.outputs}; }

Left left_of(const Linear& linear) {
  return {{numbers(linear.weight), linear.inputs}, numbers(linear.bias), linear.outputs, linear.inputs};
}

std::vector<int64_t> with_size(at::IntArrayRef shape, int64_t dim, int64_t size) {
  std::vector<int64_t> out = shape.vec();
  out[out.size() + dim] = size;
  return out;
}

void check_inputs(const at::Tensor& x, int64_t dim, const Linear& linear) {
  TORCH_CHECK(x.dim() >= -dim && x.size(dim) == linear.inputs, "a linear map of ", linear.inputs,
              " inputs was given a tensor of shape ", x.sizes());
}

// A pair of maps with a GELU between them.
void check_pair(const Linear& first, const Linear& second) {
  TORCH_CHECK(second.inputs == first.outputs && second.like().scalar_type() == first.like().scalar_type() &&
                  second.like().device() == first.like().device() && &second.kernels() == &first.kernels(),
              "a map of ", second.inputs, " inputs does not fit a map of ", first.outputs,
              " outputs, or has another kind, device or level");
}

// oneDNN's layout of a convolution's weight.
at::Tensor reorder(const at::Tensor& weight, at::IntArrayRef padding, at::IntArrayRef stride, int64_t groups) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_reorder_convolution_weight", "")
                             .typed<at::Tensor(const at::Tensor&, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef,
                                               int64_t, c10::OptionalIntArrayRef)>();
  return op.call(weight, padding, stride, {1, 1}, groups, std::nullopt);
}

// post(y + bias) for y (B, C, H, W) with its channels innermost in memory, in place.
at::Tensor finished(const at::Tensor& y, const at::Tensor& bias, Post post, const at::Tensor& added) {
  const int64_t channels = y.size(1);
  kernels().finish({numbers(bias), nullptr, post, {numbers(added), channels}}, y.numel() / channels, channels,
                   {numbers(y), channels});
  return y;
}

}  // namespace

Linear::Linear(at::Tensor w, at::Tensor b) : weight(std::move(w)), bias(std::move(b)) {
  TORCH_CHECK(weight.dim() == 2, "a linear map's weight has two dimensions, not the shape ", weight.sizes());
  TORCH_CHECK(!bias.defined() ||
                  (bias.dim() == 1 && bias.size(0) == weight.size(0) && bias.scalar_type() == weight.scalar_type()),
              "a bias of shape ", bias.defined() ? bias.sizes() : at::IntArrayRef(), " does not fit a weight of shape ",
              weight.sizes());
  inputs = weight.size(1);
  outputs = weight.size(0);
  onednn_ = onednn_products(weight);
  if (onednn_) weight = reorder_linear(weight);
  if (!own(weight)) return;
  weight = weight.contiguous();
  panels = pack_panels(weight, kernels_);
  if (!bias.defined()) return;
  bias = bias.contiguous();
  padded_bias = at::constant_pad_nd(bias, {0, panels.size(0) * kernels_.panel_columns - outputs});
}

at::Tensor Linear::forward(const at::Tensor& unconverted, uint8_t code, const at::Tensor& other, int64_t from,
                           int64_t count) const {
  const at::Tensor x = input(unconverted, like());
  const Plainly plainly;
  const Post post = post_of(code);
  check_inputs(x, -1, *this);
  TORCH_CHECK(from >= 0 && count >= 0 && from + count <= outputs, "outputs ", from, " to ", from + count, " of ",
              outputs);
  const std::vector<int64_t> shape = with_size(x.sizes(), -1, count);
  const at::Tensor added = addend(post, other, shape, like());
  if (onednn_ && x.numel() != 0) {
    const at::Tensor part = bias.defined() ? bias.narrow(0, from, count) : at::Tensor();
    return multiply_reordered(x.contiguous(), reordered(from, count), part, post, added);
  }
  if (!panels.defined() || from % kernels_.panel_columns != 0) {
    const at::Tensor part = bias.defined() ? bias.narrow(0, from, count) : at::Tensor();
    const at::Tensor rows = onednn_ ? weight.to_dense() : weight;
    return apply_plain(post, at::linear(x, rows.narrow(0, from, count), part), added);
  }
  const at::Tensor rows = x.contiguous(), y = at::empty(shape, x.options(), at::MemoryFormat::Contiguous);
  if (y.numel() == 0) return y;
  const Panels part{numbers(panels) + from * inputs, inputs, count};
  const Finish finish{bias.defined() ? numbers(padded_bias) + from : nullptr, nullptr, post, {numbers(added), count}};
  kernels_.linear({numbers(rows), inputs}, y.numel() / count, part, finish, {numbers(y), count});
  return y;
}

at::Tensor Linear::reordered(int64_t from, int64_t count) const {
  if (count == outputs) return weight;
  const auto found = std::find_if(parts_.begin(), parts_.end(),
                                  [&](const Part& part) { return part.from == from && part.weight.size(0) == count; });
  if (found != parts_.end()) return found->weight;
  return parts_.emplace_back(Part{from, reorder_linear(weight.to_dense().narrow(0, from, count))}).weight;
}

Conv::Conv(at::Tensor weight, at::Tensor bias, int64_t stride, int64_t padding, int64_t groups)
    : weight_(std::move(weight)),
      bias_(std::move(bias)),
      stride_{stride, stride},
      padding_{padding, padding},
      groups_(groups) {
  TORCH_CHECK(weight_.dim() == 4, "a convolution's weight has four dimensions, not the shape ", weight_.sizes());
  TORCH_CHECK(stride >= 1 && padding >= 0 && groups >= 1 && weight_.size(0) % groups == 0, "a convolution of stride ",
              stride, ", padding ", padding, " and ", groups, " groups cannot have a weight of shape ",
              weight_.sizes());
  TORCH_CHECK(!bias_.defined() || (bias_.dim() == 1 && bias_.size(0) == weight_.size(0)), "a bias of shape ",
              bias_.defined() ? bias_.sizes() : at::IntArrayRef(), " does not fit a weight of shape ", weight_.sizes());
  onednn_bf16_ = onednn_products(weight_) && groups_ == 1;
  if (!own(weight_)) return;
  if (bias_.defined()) bias_ = bias_.contiguous();
  const std::vector<int64_t> kernel = weight_.sizes().slice(2).vec();
  if (kernel == std::vector<int64_t>{1, 1} && stride == 1 && padding == 0 && groups == 1) {
    pointwise_ = std::make_unique<Linear>(weight_.flatten(1), bias_);
    weight_ = weight_.new_empty({1}).expand(weight_.sizes());  // only the panels and the shape are needed
    pointwise_->weight.reset();
    return;
  }
  winograd_ = kernel == std::vector<int64_t>{3, 3} && stride == 1 && padding == 1 && groups == 1;
  onednn_ = at::globalContext().userEnabledMkldnn() && at::hasMKLDNN();
}

at::Tensor Conv::forward(const at::Tensor& unconverted, uint8_t code, const at::Tensor& other) const {
  TORCH_CHECK(unconverted.dim() == 4 && unconverted.size(1) == weight_.size(1) * groups_,
              "a convolution with a weight of shape ", weight_.sizes(), " and ", groups_,
              " groups was given a tensor of shape ", unconverted.sizes());
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  const at::Tensor x = input(unconverted, weight_).contiguous(kLast);
  const Plainly plainly;
  const Post post = post_of(code);
  if (pointwise_) {
    const at::Tensor pixels = adds(post) && other.defined() ? other.permute({0, 2, 3, 1}) : at::Tensor();
    return pointwise_->forward(x.permute({0, 2, 3, 1}), code, pixels, 0, weight_.size(0)).permute({0, 3, 1, 2});
  }
  if (winograd_ && winograd::suits(address(x), address(weight_))) {
    const at::Tensor y = take(winograd::conv3x3(address(x), address(weight_)));
    return finished(y, bias_, post, addend(post, other, y.sizes(), weight_, kLast));
  }
  if (onednn_ && x.numel() != 0) {
    // GELU and additions are done here: oneDNN's own would copy the addend.
    const bool inside = post == Post::kRelu || post == Post::kRelu6;
    const at::Tensor y = convolve(x, inside ? post : Post::kNone).contiguous(kLast);
    return inside ? y : finished(y, {}, post, addend(post, other, y.sizes(), weight_, kLast));
  }
  if (onednn_bf16_ && x.numel() != 0) {
    const bool inside = !adds(post);
    const at::Tensor y = convolve(x, inside ? post : Post::kNone).contiguous(kLast);
    return inside ? y : apply_plain(post, y, addend(post, other, y.sizes(), weight_, kLast));
  }
  const at::Tensor y = at::conv2d(x, weight_, bias_, stride_, padding_, {1, 1}, groups_);
  return apply_plain(post, y, addend(post, other, y.sizes(), weight_, kLast)).contiguous(kLast);
}

at::Tensor Conv::convolve(const at::Tensor& x, Post post) const {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_convolution_pointwise", "")
                             .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                               at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t,
                                               std::string_view, Named::Scalars, std::optional<std::string_view>)>();
  if (!reordered_.defined()) reordered_ = reorder(weight_, padding_, stride_, groups_);
  const std::optional<at::Tensor> bias = bias_.defined() ? std::optional(bias_) : std::nullopt;
  const Named name(post);
  return op.call(x, reordered_, bias, padding_, stride_, {1, 1}, groups_, name.post, name.scalars, name.algorithm);
}

uint64_t version(size_t x) {
  const at::Tensor t = tensor(x);
  return static_cast<uint64_t>(t._version());
}

std::unique_ptr<Linear> linear_new(size_t weight, size_t bias) {
  const Plainly plainly;
  const at::Tensor b = tensor_or_none(bias);
  return std::make_unique<Linear>(tensor(weight).detach(), b.defined() ? b.detach() : b);
}

size_t linear_forward(const Linear& linear, size_t x, uint8_t post, size_t other, int64_t from, int64_t count) {
  RECORD_FUNCTION("heterodyne::packed_linear", c10::ArrayRef<const c10::IValue>{});
  return give(linear.forward(tensor(x), post, tensor_or_none(other), from, count));
}

size_t mlp_forward(const Linear& first, const Linear& second, size_t x_address, uint8_t code, size_t other) {
  RECORD_FUNCTION("heterodyne::packed_mlp", c10::ArrayRef<const c10::IValue>{});
  check_pair(first, second);
  const at::Tensor x = input(tensor(x_address), first.like());
  const Plainly plainly;
  const Post post = post_of(code);
  check_inputs(x, -1, first);
  const int64_t outputs = second.outputs;
  if (!first.panels.defined() || x.numel() == 0) {
    const at::Tensor hidden = first.forward(x, static_cast<uint8_t>(Post::kGelu), {}, 0, first.outputs);
    return give(second.forward(hidden, code, tensor_or_none(other), 0, outputs));
  }
  const std::vector<int64_t> shape = with_size(x.sizes(), -1, outputs);
  const at::Tensor added = addend(post, tensor_or_none(other), shape, first.like());
  const at::Tensor rows = x.contiguous(), y = at::empty(shape, x.options(), at::MemoryFormat::Contiguous);
  const Finish finish{numbers(second.padded_bias), nullptr, post, {numbers(added), outputs}};
  first.kernels().mlp({numbers(rows), x.size(-1)}, rows.numel() / x.size(-1), panels_of(first),
                      numbers(first.padded_bias), panels_of(second), finish, {numbers(y), outputs});
  return give(y);
}

namespace {

// One map or two on the second-last dimension.
at::Tensor mixed(const Linear& first, const Linear* second, const at::Tensor& unconverted, uint8_t code,
                 const at::Tensor& other) {
  const at::Tensor x = input(unconverted, first.like());
  const Plainly plainly;
  const Post post = post_of(code);
  TORCH_CHECK(x.dim() == 3, "tokens have three dimensions, not the shape ", x.sizes());
  check_inputs(x, -2, first);
  const std::vector<int64_t> shape = with_size(x.sizes(), -2, (second ? *second : first).outputs);
  const at::Tensor added = addend(post, other, shape, first.like());
  if (!first.panels.defined() || x.numel() == 0) {
    const auto last = static_cast<uint8_t>(second ? Post::kGelu : Post::kNone);
    at::Tensor y = first.forward(x.transpose(1, 2), last, {}, 0, first.outputs);
    if (second) y = second->forward(y, static_cast<uint8_t>(Post::kNone), {}, 0, second->outputs);
    return apply_plain(post, y.transpose(1, 2).contiguous(), added);
  }
  const at::Tensor columns = x.contiguous(), y = at::empty(shape, x.options(), at::MemoryFormat::Contiguous);
  const Left one = left_of(first), two = second ? left_of(*second) : Left{};
  first.kernels().mix(numbers(columns), x.size(0), x.size(2), one, second ? &two : nullptr, post, numbers(added),
                      numbers(y));
  return y;
}

// (B, N, D) whose rows have no gaps.
at::Tensor sequence(const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 3, "attention expects (B, N, D), not the shape ", x.sizes());
  return x.stride(2) == 1 ? x : x.contiguous();
}

Sequences<const float> view(const at::Tensor& x) {
  return {x.const_data_ptr<float>(), x.stride(0), x.size(1), x.stride(1)};
}

}  // namespace

size_t mix_forward(const Linear& linear, size_t x, uint8_t post, size_t other) {
  RECORD_FUNCTION("heterodyne::packed_mix", c10::ArrayRef<const c10::IValue>{});
  return give(mixed(linear, nullptr, tensor(x), post, tensor_or_none(other)));
}

size_t mix_mlp_forward(const Linear& first, const Linear& second, size_t x, uint8_t post, size_t other) {
  RECORD_FUNCTION("heterodyne::packed_mix_mlp", c10::ArrayRef<const c10::IValue>{});
  check_pair(first, second);
  return give(mixed(first, &second, tensor(x), post, tensor_or_none(other)));
}

size_t attention_forward(size_t q_address, size_t k_address, size_t v_address, int64_t heads) {
  RECORD_FUNCTION("heterodyne::packed_attention", c10::ArrayRef<const c10::IValue>{});
  const at::Tensor q = sequence(tensor(q_address)), k = sequence(tensor(k_address)), v = sequence(tensor(v_address));
  const int64_t batch = q.size(0), width = q.size(2);
  TORCH_CHECK(heads >= 1 && width % heads == 0, "a width of ", width, " cannot be split into ", heads, " heads");
  TORCH_CHECK(k.sizes() == v.sizes() && k.size(0) == batch && k.size(2) == width, "keys ", k.sizes(), " and values ",
              v.sizes(), " do not fit queries ", q.sizes());
  for (const at::Tensor& x : {q, k, v}) check_no_graph(x);
  const Plainly plainly;
  if (!own(q) || !own(k) || !own(v) || q.numel() == 0 || k.numel() == 0) {
    const auto split = [&](const at::Tensor& x) { return x.unflatten(2, {heads, width / heads}).transpose(1, 2); };
    return give(at::scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2));
  }
  const at::Tensor y = at::empty(q.sizes(), q.options(), at::MemoryFormat::Contiguous);
  kernels().attention(view(q), view(k), view(v), batch, heads, width / heads,
                      {numbers(y), y.stride(0), y.size(1), y.stride(1)});
  return give(y);
}

std::unique_ptr<Conv> conv_new(size_t weight, size_t bias, int64_t stride, int64_t padding, int64_t groups) {
  const Plainly plainly;
  const at::Tensor b = tensor_or_none(bias);
  return std::make_unique<Conv>(tensor(weight).detach(), b.defined() ? b.detach() : b, stride, padding, groups);
}

size_t conv_forward(const Conv& conv, size_t x, uint8_t post, size_t other) {
  RECORD_FUNCTION("heterodyne::packed_conv", c10::ArrayRef<const c10::IValue>{});
  return give(conv.forward(tensor(x), post, tensor_or_none(other)));
}

}  // namespace heterodyne::packed
