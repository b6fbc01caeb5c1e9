//! Comparison of vectors by direction.
use tch::Tensor;

use super::ops::TensorExt;

/// Added inside the square root of a norm, to give a zero vector a finite gradient.
const EPS: f64 = 1e-12;

/// Unit vectors along the last dimension: `x / sqrt(|x|^2 + eps)`.
pub fn normalize(x: &Tensor) -> Tensor {
    x * (x.square().sum_keepdim(-1) + EPS).rsqrt()
}
