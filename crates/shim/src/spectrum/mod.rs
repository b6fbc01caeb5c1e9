//! The distance of standardised spectra from a target, for float spectra on a CPU: a sample is read from memory once
//! forward and once backward, and nothing of its size is written but its gradient.
mod ffi;

use tch::Tensor;

use crate::{Result, address, take};
use ffi::bridge;

/// `share * mean((z - target)^2)`, a scalar, differentiable once in `x_bnc`, of each sample's
///
/// ```text
/// d = weight x - mean direction,   mean = sum(direction weight x) / sum(direction^2)
/// z = d / sqrt(share * mean(d^2) + eps)
/// ```
///
/// `x_bnc` and `target` are (B,N,C) float, `weight` and `direction` (N) float. Sums over a row of C numbers are float,
/// all others double, in an order that does not depend on the number of threads. Saved for the backward pass: the
/// arguments and five numbers per sample.
pub fn standard_mse(
    x_bnc: &Tensor,
    weight: &Tensor,
    direction: &Tensor,
    target: &Tensor,
    share: f64,
    eps: f64,
) -> Result<Tensor> {
    let [x, weight, direction, target] = [x_bnc, weight, direction, target].map(address);
    // SAFETY: all tensors outlive the call and their addresses are those of live at::Tensor objects.
    Ok(take(unsafe { bridge::standard_mse(x, weight, direction, target, share, eps) }?))
}

/// Whether [`standard_mse`] takes these spectra: (B,N,C) float on a CPU.
#[must_use]
pub fn standard_suits(x_bnc: &Tensor) -> bool {
    // SAFETY: as in `standard_mse`.
    unsafe { bridge::standard_suits(address(x_bnc)) }
}
