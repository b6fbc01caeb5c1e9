//! Layers of a frozen network: weights are laid out for the machine once, and the operations after a product run while
//! its result is in the cache. No graph is recorded.
//!
//! In float32 on a CPU, this crate's own kernels compute the products, MLPs and attention, and oneDNN the convolutions.
//! In all other cases ATen's operators compute, with weights converted once.
mod ffi;

use std::fmt;

use cxx::UniquePtr;
use tch::{Kind, Tensor};

use crate::{Error, Result, address, take};
use ffi::bridge;

/// The operation applied to the result of a product.
#[derive(Clone, Copy, Debug)]
pub enum Post<'a> {
    /// No operation.
    None,
    /// The exact GELU, `torch.nn.functional.gelu(approximate="none")`.
    Gelu,
    /// max(y, 0).
    Relu,
    /// min(max(y, 0), 6).
    Relu6,
    /// y + other; `other` has the result's shape.
    Add(&'a Tensor),
    /// max(y + other, 0).
    AddRelu(&'a Tensor),
}

impl Post<'_> {
    /// The number of the C++ `Post`, and the address of the addend.
    fn code(self) -> (u8, usize) {
        match self {
            Self::None => (0, 0),
            Self::Gelu => (1, 0),
            Self::Relu => (2, 0),
            Self::Relu6 => (3, 0),
            Self::Add(other) => (4, address(other)),
            Self::AddRelu(other) => (5, address(other)),
        }
    }

    /// The same on a product `y` of an operator that records a graph. `y` must be a fresh tensor that the operator does
    /// not need for its backward pass: it is changed in place if possible.
    pub fn apply(self, mut y: Tensor) -> Tensor {
        match self {
            Self::None => y,
            Self::Gelu => y.gelu("none"),
            Self::Relu => y.relu_(),
            Self::Relu6 => y.relu6_(),
            Self::Add(other) if y.kind() == other.kind() => y.g_add_(other),
            Self::Add(other) => y + other,
            Self::AddRelu(other) => Post::Relu.apply(Post::Add(other).apply(y)),
        }
    }
}

/// The number of writes to `x`; views, handles and detached tensors of one memory share the count.
pub fn version(x: &Tensor) -> Result<u64> {
    // SAFETY: `x` outlives the call and its address is that of a live at::Tensor.
    Ok(unsafe { bridge::version(address(x)) }?)
}

fn converted(x: &Tensor, kind: Kind) -> Result<Tensor> {
    let first_line = |e: tch::TchError| Error(e.to_string().lines().next().unwrap_or_default().to_owned());
    x.detach().f_to_kind(kind).map_err(first_line)
}

fn address_or_none(t: Option<&Tensor>) -> usize {
    t.map_or(0, address)
}

/// `torch.nn.Linear` for inference.
pub struct PackedLinear {
    inner: UniquePtr<bridge::Linear>,
    outputs: i64,
}

impl PackedLinear {
    /// Packs `weight` (out, in) and `bias` (out), copying them if the layout or `kind` requires it. Results are of
    /// `kind`, or of the wider kind if [`Post`] adds a tensor of another kind.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, kind: Kind) -> Result<Self> {
        let weight = converted(weight, kind)?;
        let bias = bias.map(|b| converted(b, kind)).transpose()?;
        // SAFETY: the tensors outlive the call, which takes its own handles.
        let inner = unsafe { bridge::linear_new(address(&weight), address_or_none(bias.as_ref())) }?;
        Ok(Self { inner, outputs: weight.size()[0] })
    }

    /// (.., in) to (.., out).
    pub fn forward(&self, x: &Tensor, post: Post) -> Result<Tensor> {
        self.forward_part(x, 0, self.outputs, post)
    }

    /// (.., in) to (.., count): the outputs from `from`.
    pub fn forward_part(&self, x: &Tensor, from: i64, count: i64, post: Post) -> Result<Tensor> {
        let (code, other) = post.code();
        // SAFETY: `x` and the tensor in `post` outlive the call.
        Ok(take(unsafe { bridge::linear_forward(&self.inner, address(x), code, other, from, count) }?))
    }

    /// The map on the second-last dimension: (B, in, D) to (B, out, D).
    pub fn mix(&self, x_bnd: &Tensor, post: Post) -> Result<Tensor> {
        let (code, other) = post.code();
        // SAFETY: `x_bnd` and the tensor in `post` outlive the call.
        Ok(take(unsafe { bridge::mix_forward(&self.inner, address(x_bnd), code, other) }?))
    }
}

/// post(second(gelu(first(`x`)))) on the last dimension; the hidden layer is not saved.
pub fn mlp(first: &PackedLinear, second: &PackedLinear, x: &Tensor, post: Post) -> Result<Tensor> {
    let (code, other) = post.code();
    // SAFETY: `x` and the tensor in `post` outlive the call.
    Ok(take(unsafe { bridge::mlp_forward(&first.inner, &second.inner, address(x), code, other) }?))
}

/// As [`mlp`], on the second-last dimension of `x_bnd` (B,N,D).
pub fn mix_mlp(first: &PackedLinear, second: &PackedLinear, x_bnd: &Tensor, post: Post) -> Result<Tensor> {
    let (code, other) = post.code();
    // SAFETY: `x_bnd` and the tensor in `post` outlive the call.
    Ok(take(unsafe { bridge::mix_mlp_forward(&first.inner, &second.inner, address(x_bnd), code, other) }?))
}

/// softmax(q k^T / sqrt(D / heads)) v in `heads` parts of the last dimension: `q` (B,M,D), `k` and `v` (B,N,D) to
/// (B,M,D). They may be views into one tensor.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: i64) -> Result<Tensor> {
    // SAFETY: the tensors outlive the call.
    Ok(take(unsafe { bridge::attention_forward(address(q), address(k), address(v), heads) }?))
}

/// `torch.nn.Conv2d` for inference, with a square stride and padding.
pub struct PackedConv(UniquePtr<bridge::Conv>);

impl PackedConv {
    /// Packs `weight` (out, in/groups, k, k) and `bias` (out), copying them if the layout or `kind` requires it.
    /// Results are of `kind`, with channels innermost in memory.
    pub fn new(
        weight: &Tensor,
        bias: Option<&Tensor>,
        stride: i64,
        padding: i64,
        groups: i64,
        kind: Kind,
    ) -> Result<Self> {
        let weight = converted(weight, kind)?;
        let bias = bias.map(|b| converted(b, kind)).transpose()?;
        // SAFETY: the tensors outlive the call, which takes its own handles.
        Ok(Self(unsafe {
            bridge::conv_new(address(&weight), address_or_none(bias.as_ref()), stride, padding, groups)
        }?))
    }

    /// (B,in,H,W) to (B,out,H',W').
    pub fn forward(&self, x_bchw: &Tensor, post: Post) -> Result<Tensor> {
        let (code, other) = post.code();
        // SAFETY: `x_bchw` and the tensor in `post` outlive the call.
        Ok(take(unsafe { bridge::conv_forward(&self.0, address(x_bchw), code, other) }?))
    }
}

impl fmt::Debug for PackedLinear {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("PackedLinear").field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl fmt::Debug for PackedConv {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("PackedConv").finish_non_exhaustive()
    }
}
