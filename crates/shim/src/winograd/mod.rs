//! 3x3 convolutions with fewer multiplications on CPUs: Winograd's minimal filtering F(4x4, 3x3) as in Lavin and Gray
//! 2015, "Fast algorithms for convolutional neural networks", arXiv 1509.09308.
//!
//! Maps are float32, or bfloat16 under autocast; the arithmetic between reading and writing them is float32, and so are
//! the weights. The largest error of an output is about twice that of the direct convolution in float32: 0.5e-5 to 3e-5
//! of the outputs' root mean square for 16 to 512 channels.
mod ffi;

use tch::Tensor;

use crate::{Result, address, take};
use ffi::bridge;

/// `x` (B,C,H,W) convolved with `weight` (N,C,3,3), stride 1 and padding 1, to (B,N,H,W): `torch.nn.functional.conv2d`.
///
/// Differentiable in both arguments, and saves only these for the backward pass. If [`suits`] is false, this is
/// libtorch's own convolution, with its errors. Otherwise the result has its channels innermost in memory, an `x` with
/// another layout is copied, and the weight's gradient has the strides of the weight. That gradient's rounding depends
/// on the number of threads; nothing depends on their timing.
pub fn conv3x3(x_bchw: &Tensor, weight: &Tensor) -> Result<Tensor> {
    // SAFETY: both tensors outlive the call and their addresses are those of live at::Tensor objects.
    Ok(take(unsafe { bridge::conv3x3(address(x_bchw), address(weight)) }?))
}

/// Whether [`conv3x3`] is faster than libtorch for these arguments. It needs a CPU, a float32 weight, and a map in
/// float32 with autocast off, or in bfloat16 under autocast to bfloat16 if the CPU has no matrix instructions for it.
/// It also needs channels in multiples of 16, at least 16 tiles of 4x4 in the batch, and maps that fill their tiles
/// enough to halve the multiplications.
#[must_use]
pub fn suits(x_bchw: &Tensor, weight: &Tensor) -> bool {
    // SAFETY: as in `conv3x3`.
    unsafe { bridge::suits(address(x_bchw), address(weight)) }.unwrap_or(false)
}
