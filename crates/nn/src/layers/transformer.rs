//! The pre-norm transformer block (Dosovitskiy et al. 2021), with timm's parameter names and initialisers.
use heterodyne_shim::packed::{self, Post};
use tch::Tensor;

use super::{LayerNorm, Linear, frozen::sure};
use crate::{Error, Init, Result, Scope};

const WEIGHT: Init = Init::TruncNormal { std: 0.02 };
const ZERO: Option<Init> = Some(Init::Const(0.0));
const EPS: f64 = 1e-6;

/// Multi-head self-attention.
#[derive(Debug)]
pub struct Attention {
    qkv: Linear,
    proj: Linear,
    num_heads: i64,
}

impl Attention {
    /// `qkv` and `proj` of width `d`, which `num_heads` must divide.
    pub fn new(scope: &Scope, d: i64, num_heads: i64) -> Result<Self> {
        if num_heads < 1 || d % num_heads != 0 {
            return Err(Error::invalid(format!(
                "an attention of width {d} cannot be split into {num_heads} heads: the width must be a multiple"
            )));
        }
        Ok(Self {
            qkv: Linear::with(&scope.sub("qkv"), d, 3 * d, WEIGHT, ZERO)?,
            proj: Linear::with(&scope.sub("proj"), d, d, WEIGHT, ZERO)?,
            num_heads,
        })
    }

    /// (B,N,D) to (B,N,D).
    pub fn forward(&self, x_bnd: &Tensor) -> Tensor {
        self.forward_first(x_bnd, x_bnd.size()[1], Post::None)
    }

    /// What [`Attention::forward`] gives for the first `queries` tokens, and `post` of it: (B,N,D) to (B,queries,D). All tokens are
    /// attended to.
    pub fn forward_first(&self, x_bnd: &Tensor, queries: i64, post: Post) -> Tensor {
        let [_, n, d] = x_bnd.size()[..] else { panic!("attention wants (B,N,D), got {:?}", x_bnd.size()) };
        let attended = if queries == n {
            let qkv = self.qkv.forward(x_bnd).split(d, 2);
            self.attend(&qkv[0], &qkv[1], &qkv[2])
        } else {
            let q = self.qkv.forward_part(&x_bnd.narrow(1, 0, queries), 0, d);
            let kv = self.qkv.forward_part(x_bnd, d, 2 * d).split(d, 2);
            self.attend(&q, &kv[0], &kv[1])
        };
        self.proj.forward_post(&attended, post)
    }

    /// softmax(q k^T / sqrt(d)) v in each head: (B,M,D), (B,N,D) and (B,N,D) to (B,M,D).
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        if self.qkv.packed().is_some() {
            return sure(packed::attention(q, k, v, self.num_heads));
        }
        let [q, k, v] = [q, k, v].map(|x| x.unflatten(2, [self.num_heads, -1]).transpose(1, 2));
        Tensor::scaled_dot_product_attention::<Tensor>(&q, &k, &v, None, 0.0, false, None, false).transpose(1, 2).flatten(2, 3)
    }
}

/// Two linear maps with a GELU between them.
#[derive(Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// `fc1` (d -> hidden) and `fc2` (hidden -> d) with the given initialisers of weight and bias.
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

    /// As [`Mlp::forward`], and `post` of it.
    pub fn forward_post(&self, x: &Tensor, post: Post) -> Tensor {
        match (self.fc1.packed(), self.fc2.packed()) {
            (Some(fc1), Some(fc2)) => sure(packed::mlp(&fc1, &fc2, x, post)),
            _ => self.fc2.forward_post(&self.fc1.forward_post(x, Post::Gelu), post),
        }
    }

    /// `shortcut` + the MLP on the second last dimension: (B,D,W) and (B,D,W) to (B,D,W).
    pub fn mix_add(&self, x: &Tensor, shortcut: &Tensor) -> Tensor {
        match (self.fc1.packed(), self.fc2.packed()) {
            (Some(fc1), Some(fc2)) => sure(packed::mix_mlp(&fc1, &fc2, x, Post::Add(shortcut))),
            _ => shortcut + self.forward(&x.transpose(1, 2)).transpose(1, 2),
        }
    }
}

/// Attention and MLP, each behind a layer norm and around a shortcut.
#[derive(Debug)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    /// A block of width `d` with an MLP four times as wide.
    pub fn new(scope: &Scope, d: i64, num_heads: i64) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(&scope.sub("norm1"), d, EPS)?,
            attn: Attention::new(&scope.sub("attn"), d, num_heads)?,
            norm2: LayerNorm::new(&scope.sub("norm2"), d, EPS)?,
            mlp: Mlp::new(&scope.sub("mlp"), d, 4 * d, WEIGHT, Init::Const(0.0))?,
        })
    }

    /// (B,N,D) to (B,N,D).
    pub fn forward(&self, x_bnd: &Tensor) -> Tensor {
        self.forward_first(x_bnd, x_bnd.size()[1])
    }

    /// What [`Block::forward`] gives for the first `tokens` tokens: (B,N,D) to (B,tokens,D). The others are attended to and cost no more
    /// than that.
    pub fn forward_first(&self, x_bnd: &Tensor, tokens: i64) -> Tensor {
        let shortcut = x_bnd.narrow(1, 0, tokens);
        let x = self.attn.forward_first(&self.norm1.forward(x_bnd), tokens, Post::Add(&shortcut));
        self.mlp.forward_post(&self.norm2.forward(&x), Post::Add(&x))
    }
}
