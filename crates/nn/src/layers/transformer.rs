//! The pre-norm transformer block (Dosovitskiy et al. 2021), with timm's parameter names and initialisers.
use heterodyne_shim::packed::{self, Post};
use tch::Tensor;

use super::{Attention, LayerNorm, Linear, attention::WEIGHT, frozen::sure};
use crate::{Init, Result, Scope};

/// Two linear maps with a GELU between them.
#[derive(Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// Creates `fc1` (d -> hidden) and `fc2` (hidden -> d) with the given initialisers of weight and bias.
    pub fn new(scope: &Scope, d: i64, hidden: i64, weight: Init, bias: Init) -> Result<Self> {
        Ok(Self {
            fc1: Linear::with(&scope.sub("fc1"), d, hidden, weight, Some(bias))?,
            fc2: Linear::with(&scope.sub("fc2"), hidden, d, weight, Some(bias))?,
        })
    }

    /// (.., D) to (.., D).
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_post(x, Post::None)
    }

    /// As [`Mlp::forward`], with `post` applied.
    pub fn forward_post(&self, x: &Tensor, post: Post) -> Tensor {
        match (self.fc1.packed(), self.fc2.packed()) {
            (Some(fc1), Some(fc2)) => sure(packed::mlp(&fc1, &fc2, x, post)),
            _ => self.fc2.forward_post(&self.fc1.forward_post(x, Post::Gelu), post),
        }
    }

    /// `shortcut` + the MLP on the second-last dimension: (B,D,W) and (B,D,W) to (B,D,W).
    pub fn mix_add(&self, x: &Tensor, shortcut: &Tensor) -> Tensor {
        match (self.fc1.packed(), self.fc2.packed()) {
            (Some(fc1), Some(fc2)) => sure(packed::mix_mlp(&fc1, &fc2, x, Post::Add(shortcut))),
            _ => shortcut + self.forward(&x.transpose(1, 2)).transpose(1, 2),
        }
    }
}

/// The differences between the blocks of published networks.
#[derive(Clone, Copy, Debug)]
pub struct BlockStyle {
    /// Epsilon added to the variance in both layer norms.
    pub eps: f64,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
}

impl BlockStyle {
    /// The Vision Transformer's.
    pub const VIT: Self = Self { eps: 1e-6, qkv_bias: true };
    /// The defaults of timm's `Block`: PyTorch's layer norm and no bias.
    pub const PLAIN: Self = Self { eps: 1e-5, qkv_bias: false };
}

/// Attention and MLP, each after a layer norm and with a shortcut.
#[derive(Debug)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    /// A block of width `d` with an MLP four times as wide.
    pub fn new(scope: &Scope, d: i64, num_heads: i64, style: BlockStyle) -> Result<Self> {
        let BlockStyle { eps, qkv_bias } = style;
        Ok(Self {
            norm1: LayerNorm::new(&scope.sub("norm1"), d, eps)?,
            attn: Attention::new(&scope.sub("attn"), d, num_heads, qkv_bias)?,
            norm2: LayerNorm::new(&scope.sub("norm2"), d, eps)?,
            mlp: Mlp::new(&scope.sub("mlp"), d, 4 * d, WEIGHT, Init::Const(0.0))?,
        })
    }

    /// (B,N,D) to (B,N,D).
    pub fn forward(&self, x_bnd: &Tensor) -> Tensor {
        self.forward_first(x_bnd, x_bnd.size()[1])
    }

    /// [`Block::forward`] for the first `tokens` tokens: (B,N,D) to (B,tokens,D). The other tokens are only attended
    /// to.
    pub fn forward_first(&self, x_bnd: &Tensor, tokens: i64) -> Tensor {
        let shortcut = x_bnd.narrow(1, 0, tokens);
        let x = self.attn.forward_first(&self.norm1.forward(x_bnd), tokens, Post::Add(&shortcut));
        self.mlp.forward_post(&self.norm2.forward(&x), Post::Add(&x))
    }
}
