//! Multi-head self-attention that records a graph, for float and bfloat16 on a CPU: plain products of a few images at a
//! time, whose scores stay in the cache and are recomputed in the backward pass. libtorch's fused operator takes small
//! blocks of queries instead, which oneDNN multiplies slowly, especially in bfloat16.
mod ffi;

use tch::Tensor;

use crate::{Result, address, take};
use ffi::bridge;

/// softmax(q k^T / sqrt(D/heads) + bias) v in `heads` parts of the last dimension: (B,N,3D), with queries, keys and
/// values in this order, to (B,N,D). Differentiable once, in `bias` too.
///
/// `bias` is float (G,heads,N,N) with G a divisor of B; image b gets the bias b mod G. Scores are rounded to the kind
/// of `qkv_bn3d`; the softmax is computed in float32. Saved for the backward pass: both arguments.
pub fn self_attention(qkv_bn3d: &Tensor, heads: i64, bias: Option<&Tensor>) -> Result<Tensor> {
    // SAFETY: the tensors outlive the call and their addresses are those of live at::Tensor objects.
    Ok(take(unsafe { bridge::self_attention(address(qkv_bn3d), heads, bias.map_or(0, address)) }?))
}

/// Whether [`self_attention`] takes this: (B,N,3D), float or bfloat16, on a CPU.
#[must_use]
pub fn attention_suits(qkv_bn3d: &Tensor) -> bool {
    // SAFETY: as in `self_attention`.
    unsafe { bridge::attention_suits(address(qkv_bn3d)) }
}
