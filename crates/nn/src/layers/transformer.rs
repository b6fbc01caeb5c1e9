//! The pre-norm transformer block (Dosovitskiy et al. 2021), with timm's parameter names and initialisers.
use tch::Tensor;

use super::{LayerNorm, Linear};
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
        let [b, n, d] = x_bnd.size()[..] else { panic!("attention wants (B,N,D), got {:?}", x_bnd.size()) };
        let qkv = self.qkv.forward(x_bnd).reshape([b, n, 3, self.num_heads, d / self.num_heads]).permute([2, 0, 3, 1, 4]);
        let out_bhnd = Tensor::scaled_dot_product_attention::<Tensor>(&qkv.get(0), &qkv.get(1), &qkv.get(2), None, 0.0, false, None, false);
        self.proj.forward(&out_bhnd.transpose(1, 2).reshape([b, n, d]))
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
        self.fc2.forward(&self.fc1.forward(x).gelu("none"))
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
        let x_bnd = x_bnd + self.attn.forward(&self.norm1.forward(x_bnd));
        &x_bnd + self.mlp.forward(&self.norm2.forward(&x_bnd))
    }
}
