//! Weighted sums over the windows of a map, for float and bfloat16 maps on a CPU: each position is read once for all
//! scales, and only the map's gradient is written at the map's size.
mod ffi;

use tch::Tensor;

use crate::{Result, address, take};
use ffi::bridge;

/// `sum over the positions p in window k of weights[position of p in k, c] * x[b, c, p]`, float (B,K,C), differentiable
/// once in both.
///
/// A scale has r windows along the rows and c along the columns of `x_bchw` (B,C,H,W), those of adaptive pooling:
/// window i of s over n positions covers `floor(i n/s) .. ceil((i+1) n/s)`. The K windows are those of all `scales` in
/// order, each scale row-major. `weights` (R,C) float holds, for each scale, one kernel per window size that occurs:
/// taller before shorter, then wider before narrower, with the positions of a kernel row-major.
///
/// An `x_bchw` whose channels are not innermost in memory is copied. Saved for the backward pass: both arguments. The
/// rounding of the gradient in `weights` depends on the number of threads; nothing depends on their timing.
pub fn window_sums(x_bchw: &Tensor, weights: &Tensor, scales: &[(i64, i64)]) -> Result<Tensor> {
    let counts: Vec<i64> = scales.iter().flat_map(|&(rows, columns)| [rows, columns]).collect();
    // SAFETY: both tensors outlive the call and their addresses are those of live at::Tensor objects.
    Ok(take(unsafe { bridge::window_sums(address(x_bchw), address(weights), &counts) }?))
}

/// Whether [`window_sums`] takes this map: (B,C,H,W), float or bfloat16, on a CPU.
#[must_use]
pub fn window_suits(x: &Tensor) -> bool {
    // SAFETY: as in `window_sums`.
    unsafe { bridge::window_suits(address(x)) }
}
