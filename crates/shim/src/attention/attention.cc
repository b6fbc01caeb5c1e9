#include "attention/attention.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "attention/softmax.h"
#include "element.h"
#include "tensor.h"

namespace heterodyne::attention {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Bytes of scores computed at a time: with their gradient they stay in the cache between the products.
constexpr int64_t kScoreBytes = 2 << 20;

// Queries, keys and values (B, N, 3, H, D) of B images, N tokens and H heads of width D, processed in parts of a few
// images, or a few heads of one image.
struct Shape {
  int64_t images, tokens, heads, width;
  int64_t images_at_once, heads_at_once;

  Shape(const at::Tensor& qkv, int64_t h)
      : images(qkv.size(0)), tokens(qkv.size(1)), heads(h), width(qkv.size(2) / 3 / h) {
    const int64_t one_head = std::max<int64_t>(1, tokens * tokens * static_cast<int64_t>(qkv.element_size()));
    const int64_t fit = std::max<int64_t>(1, kScoreBytes / one_head);
    heads_at_once = std::min(fit, heads);
    images_at_once = std::max<int64_t>(1, fit / heads);
  }

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(width)); }

  // f(part) for all parts.
  template <class F>
  void for_each_part(F f) const {
    for (int64_t image = 0; image < images; image += images_at_once) {
      for (int64_t head = 0; head < heads; head += heads_at_once) {
        f(Part{image, std::min(images_at_once, images - image), head, std::min(heads_at_once, heads - head)});
      }
    }
  }

  struct Part {
    int64_t image, images, head, heads;

    // The part of (B, N, .., H, D) as (.., b h, N, D): a view.
    at::Tensor of(const at::Tensor& t) const {
      const at::Tensor mine = t.narrow(0, image, images).narrow(t.dim() - 2, head, heads);
      return t.dim() == 5 ? mine.permute({2, 0, 3, 1, 4}) : mine.transpose(1, 2);
    }
    // The same, without gaps and with images and heads as one dimension.
    at::Tensor gathered(const at::Tensor& t) const {
      const at::Tensor mine = of(t);
      return mine.contiguous().flatten(mine.dim() - 4, mine.dim() - 3);
    }
  };

  Rows rows(const Part& part, const at::Tensor& bias) const {
    return {part.images,
            part.heads,
            tokens,
            tokens,
            part.image,
            part.head,
            heads,
            bias.defined() ? bias.size(0) : 1,
            bias.defined() ? bias.const_data_ptr<float>() : nullptr};
  }
};

// softmax(q k^T / sqrt(D) + bias)
at::Tensor probabilities(const at::Tensor& q, const at::Tensor& k, const Rows& rows, float scale) {
  const at::Tensor p = at::bmm(q, k.transpose(1, 2));
  with_type(p, [&](auto* t) { softmax(rows, scale, p.mutable_data_ptr<std::remove_pointer_t<decltype(t)>>()); });
  return p;
}

// (B, N, 3 H D) to (B, N, 3, H, D)
at::Tensor split(const at::Tensor& qkv, const Shape& s) { return qkv.view({s.images, s.tokens, 3, s.heads, s.width}); }

at::Tensor forward_of(const at::Tensor& qkv, const Shape& s, const at::Tensor& bias) {
  const at::Tensor y = at::empty({s.images, s.tokens, s.heads, s.width}, qkv.options()), parts = split(qkv, s);
  s.for_each_part([&](const Shape::Part& part) {
    const at::Tensor mine = part.gathered(parts);
    const at::Tensor p = probabilities(mine[0], mine[1], s.rows(part, bias), s.scale());
    const at::Tensor to = part.of(y);
    to.copy_(at::bmm(p, mine[2]).view(to.sizes()));
  });
  return y.flatten(2);
}

// The gradient of qkv; the gradient of the bias is added to `d_bias` if it is defined.
at::Tensor backward_of(const at::Tensor& dy, const at::Tensor& qkv, const Shape& s, const at::Tensor& bias,
                       const at::Tensor& d_bias) {
  const at::Tensor d_qkv = at::empty(qkv.sizes(), qkv.options()), d_parts = split(d_qkv, s), parts = split(qkv, s);
  const at::Tensor dy_heads = dy.view({s.images, s.tokens, s.heads, s.width});
  s.for_each_part([&](const Shape::Part& part) {
    const at::Tensor mine = part.gathered(parts), g = part.gathered(dy_heads), gradients = at::empty_like(mine);
    const at::Tensor q = mine[0], k = mine[1], v = mine[2];
    at::Tensor dq = gradients[0], dk = gradients[1], dv = gradients[2];
    const Rows rows = s.rows(part, bias);
    const at::Tensor p = probabilities(q, k, rows, s.scale()), d = at::bmm(g, v.transpose(1, 2));
    at::bmm_out(dv, p.transpose(1, 2), g);
    with_type(p, [&](auto* t) {
      using T = std::remove_pointer_t<decltype(t)>;
      softmax_gradient(rows, s.scale(), p.const_data_ptr<T>(), d.mutable_data_ptr<T>(),
                       d_bias.defined() ? d_bias.mutable_data_ptr<float>() : nullptr);
    });
    at::bmm_out(dq, d, k);
    at::bmm_out(dk, d.transpose(1, 2), q);
    const at::Tensor to = part.of(d_parts);
    to.copy_(gradients.view(to.sizes()));
  });
  return d_qkv;
}

struct SelfAttention : torch::autograd::Function<SelfAttention> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv, const std::optional<at::Tensor>& bias,
                            int64_t heads) {
    const at::Tensor b = bias.value_or(at::Tensor());
    ctx->save_for_backward({qkv, b});
    ctx->saved_data["heads"] = heads;
    return forward_of(qkv, Shape(qkv, heads), b);
  }

  static variable_list backward(AutogradContext* ctx, variable_list& grad_outputs) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "self_attention has no second derivative");
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &qkv = saved[0], &bias = saved[1], dy = grad_outputs[0].to(qkv.scalar_type()).contiguous();
    at::Tensor d_bias;
    if (bias.defined() && ctx->needs_input_grad(1)) d_bias = at::zeros_like(bias);
    return {backward_of(dy, qkv, Shape(qkv, ctx->saved_data["heads"].toInt()), bias, d_bias), d_bias, {}};
  }
};

}  // namespace

bool attention_suits(size_t address) {
  const at::Tensor& qkv = tensor(address);
  return qkv.device().is_cpu() && qkv.layout() == at::kStrided && qkv.dim() == 3 && qkv.numel() > 0 &&
         (qkv.scalar_type() == at::kFloat || qkv.scalar_type() == at::kBFloat16);
}

size_t self_attention(size_t qkv_address, int64_t heads, size_t bias_address) {
  RECORD_FUNCTION("heterodyne::self_attention", c10::ArrayRef<const c10::IValue>{});
  const at::Tensor& unordered = tensor(qkv_address);
  TORCH_CHECK(attention_suits(qkv_address),
              "attention needs queries, keys and values (B,N,3D), float or bfloat16 on a CPU, got ",
              unordered.scalar_type(), " ", unordered.sizes());
  const at::Tensor qkv = unordered.contiguous();
  const int64_t n = qkv.size(1);
  TORCH_CHECK(heads >= 1 && qkv.size(2) % (3 * heads) == 0, "queries, keys and values ", qkv.sizes(),
              " cannot be split into ", heads, " heads");
  std::optional<at::Tensor> bias;
  if (bias_address) {
    const at::Tensor& given = tensor(bias_address);
    TORCH_CHECK(given.scalar_type() == at::kFloat && given.device().is_cpu() && given.dim() == 4 &&
                    given.size(0) >= 1 && qkv.size(0) % given.size(0) == 0 && given.size(1) == heads &&
                    given.size(2) == n && given.size(3) == n,
                "a bias for ", qkv.sizes(), " in ", heads, " heads is float (G,", heads, ",", n, ",", n,
                ") with G a divisor of ", qkv.size(0), ", got ", given.scalar_type(), " ", given.sizes());
    bias = given.contiguous();
  }
  return give(SelfAttention::apply(qkv, bias, heads));
}

}  // namespace heterodyne::attention
