//! Multi-head attention (Vaswani et al. 2017, "Attention is all you need", equation 1).
use heterodyne_shim::{
    attention::{attention_suits, self_attention as in_parts},
    flops, grad_enabled,
    packed::{self, Post},
};
use tch::{Kind, Tensor};

use super::{Linear, frozen::sure};
use crate::{Error, Init, Result, Scope};

pub(super) const WEIGHT: Init = Init::TruncNormal { std: 0.02 };
const ZERO: Option<Init> = Some(Init::Const(0.0));

/// Multi-head self-attention.
#[derive(Debug)]
pub struct Attention {
    qkv: Linear,
    proj: Linear,
    num_heads: i64,
}

impl Attention {
    /// `qkv` and `proj` of width `d`, which `num_heads` must divide; `qkv` has a bias if `qkv_bias` is set.
    pub fn new(scope: &Scope, d: i64, num_heads: i64, qkv_bias: bool) -> Result<Self> {
        if num_heads < 1 || d % num_heads != 0 {
            return Err(Error::invalid(format!(
                "an attention of width {d} cannot be split into {num_heads} heads: the width must be a multiple of the \
                 number of heads"
            )));
        }
        Ok(Self {
            qkv: Linear::with(&scope.sub("qkv"), d, 3 * d, WEIGHT, ZERO.filter(|_| qkv_bias))?,
            proj: Linear::with(&scope.sub("proj"), d, d, WEIGHT, ZERO)?,
            num_heads,
        })
    }

    /// (B,N,D) to (B,N,D).
    pub fn forward(&self, x_bnd: &Tensor) -> Tensor {
        self.forward_first(x_bnd, x_bnd.size()[1], Post::None)
    }

    /// [`Attention::forward`] for the first `queries` tokens, with `post` applied: (B,N,D) to (B,queries,D). They
    /// attend to all tokens.
    pub fn forward_first(&self, x_bnd: &Tensor, queries: i64, post: Post) -> Tensor {
        let [_, n, d] = x_bnd.size()[..] else { panic!("attention expects (B,N,D), got {:?}", x_bnd.size()) };
        let attended = if queries == n {
            self_attention(&self.qkv.forward(x_bnd), self.num_heads, None)
        } else {
            let q = self.qkv.forward_part(&x_bnd.narrow(1, 0, queries), 0, d);
            let kv = self.qkv.forward_part(x_bnd, d, 2 * d).split(d, 2);
            attend(&q, &kv[0], &kv[1], self.num_heads, None)
        };
        self.proj.forward_post(&attended, post)
    }
}

/// softmax(q k^T / sqrt(D/heads) + bias) v in `heads` parts of the width: `qkv_bn3d` (B,N,3D), with queries, keys and
/// values in this order, to (B,N,D).
///
/// `bias` (G,heads,N,N), with G a divisor of B, is added to the scores of image b as row b mod G.
///
/// # Panics
/// If the shapes do not fit, as tch's operators do.
pub fn self_attention(qkv_bn3d: &Tensor, heads: i64, bias: Option<&Tensor>) -> Tensor {
    // Without a bias, the kernel for frozen networks is faster in float32.
    let ours = attention_suits(qkv_bn3d)
        && !flops::plain()
        && bias.is_none_or(|b| b.kind() == Kind::Float)
        && (bias.is_some() || grad_enabled() || qkv_bn3d.kind() != Kind::Float);
    if ours {
        return sure(in_parts(qkv_bn3d, heads, bias));
    }
    let [q, k, v] = parts(qkv_bn3d.chunk(3, 2));
    attend(&q, &k, &v, heads, bias)
}

/// As [`self_attention`], for queries (B,M,D), keys and values (B,N,D), to (B,M,D).
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, heads: i64, bias: Option<&Tensor>) -> Tensor {
    if bias.is_none() && !grad_enabled() && !flops::plain() {
        return sure(packed::attention(q, k, v, heads));
    }
    let [q, k, v] = [q, k, v].map(|x| x.unflatten(2, [heads, -1]).transpose(1, 2));
    let bias = bias.map(|bias| {
        let [groups, _, m, n] = bias.size()[..] else { panic!("a bias must be (G,H,M,N), got {:?}", bias.size()) };
        let images = q.size()[0];
        bias.to_kind(q.kind()).expand([images / groups, groups, heads, m, n], false).reshape([images, heads, m, n])
    });
    let out_bhmd = match bias {
        // libtorch's fused operator is slower with a trained bias.
        Some(bias) if bias.requires_grad() => {
            let scale = (q.size()[3] as f64).powf(-0.5);
            (q.matmul(&k.transpose(2, 3)) * scale + bias).softmax(-1, None::<Kind>).matmul(&v)
        }
        bias => Tensor::scaled_dot_product_attention(&q, &k, &v, bias.as_ref(), 0.0, false, None, false),
    };
    out_bhmd.transpose(1, 2).flatten(2, 3)
}

fn parts(qkv: Vec<Tensor>) -> [Tensor; 3] {
    qkv.try_into().expect("a multiple of three")
}
