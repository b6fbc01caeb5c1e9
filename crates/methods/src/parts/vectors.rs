//! Vectors compared by their direction.
use tch::Tensor;

use super::ops::TensorExt;

/// Inside the square root of a norm, so that a vector of zeros has a gradient.
const EPS: f64 = 1e-12;

/// Unit vectors along the last dimension: `x / sqrt(|x|^2 + eps)`.
pub fn normalize(x: &Tensor) -> Tensor {
    x * (x.square().sum_keepdim(-1) + EPS).rsqrt()
}
