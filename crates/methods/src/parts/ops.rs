//! Reductions as the papers write them.
use tch::{Kind, Tensor};

/// Added to the square of a norm.
const EPS: f64 = 1e-12;

/// tch's reductions without the unused arguments.
pub trait TensorExt {
    /// The sum over `dim`, which is dropped.
    fn sum_over(&self, dim: i64) -> Tensor;
    /// The sum over `dim`, which stays with size 1.
    fn sum_keepdim(&self, dim: i64) -> Tensor;
    /// The mean over `dims`, which are dropped.
    fn mean_over(&self, dims: &[i64]) -> Tensor;
    /// The mean over `dims`, which stay with size 1.
    fn mean_keepdim(&self, dims: &[i64]) -> Tensor;
    /// The sum of all elements.
    fn sum_all(&self) -> Tensor;
    /// The mean of all elements.
    fn mean_all(&self) -> Tensor;
    /// `sqrt(|x|^2 + eps)` over `dim`, which stays with size 1; eps keeps the gradient of a vector of zeros finite.
    fn norm_keepdim(&self, dim: i64) -> Tensor;
}

impl TensorExt for Tensor {
    fn sum_over(&self, dim: i64) -> Tensor {
        self.sum_dim_intlist([dim].as_slice(), false, None::<Kind>)
    }

    fn sum_keepdim(&self, dim: i64) -> Tensor {
        self.sum_dim_intlist([dim].as_slice(), true, None::<Kind>)
    }

    fn mean_over(&self, dims: &[i64]) -> Tensor {
        self.mean_dim(dims, false, None::<Kind>)
    }

    fn mean_keepdim(&self, dims: &[i64]) -> Tensor {
        self.mean_dim(dims, true, None::<Kind>)
    }

    fn sum_all(&self) -> Tensor {
        self.sum(None::<Kind>)
    }

    fn mean_all(&self) -> Tensor {
        self.mean(None::<Kind>)
    }

    fn norm_keepdim(&self, dim: i64) -> Tensor {
        (self.square().sum_keepdim(dim) + EPS).sqrt()
    }
}
