//! Vectors compared by their direction.
use tch::{Kind, Tensor};

/// Inside the square root of a norm, so that a vector of zeros has a gradient.
const EPS: f64 = 1e-12;

/// Unit vectors along the last dimension: `x / sqrt(|x|^2 + eps)`.
pub fn unit(x: &Tensor) -> Tensor {
    x * (x.square().sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>) + EPS).rsqrt()
}
