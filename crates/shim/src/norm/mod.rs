//! Training kernels for the memory-bound layers of convolutional networks: batch norm with the operations after it, and
//! depthwise convolution. They take channels-last float and bfloat16 on a CPU; ATen's operators do everything else.
#[expect(clippy::too_many_arguments, reason = "one to one with batch norm's inputs")]
mod ffi;

use tch::Tensor;

use crate::{Result, address, take};
use ffi::bridge;

/// The activation after the norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// No activation.
    None,
    /// max(v, 0).
    Relu,
    /// min(max(v, 0), 6).
    Relu6,
}

impl Activation {
    fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Relu => 1,
            Self::Relu6 => 2,
        }
    }
}

/// The address of an optional tensor; 0 means none.
fn address_or_none(t: Option<&Tensor>) -> usize {
    t.map_or(0, address)
}

/// act(batch_norm(`x`) + `residual`) with the statistics of the batch, as in `torch.nn.BatchNorm2d` in training (Ioffe
/// and Szegedy, 2015), differentiable once in `x`, `weight`, `bias` and `residual`.
///
/// `x` (B,C,H,W) or (B,C); `weight`, `bias`, `running_mean` and `running_var` (C) are float; the last two move towards
/// the batch's mean and unbiased variance by `momentum`. `residual` and the result are like `x`. bfloat16 is only
/// stored; the arithmetic is float. One value per channel is an error.
///
/// Memory saved for the backward pass: `x`, and one bit per element if there are both a residual and an activation.
#[expect(clippy::too_many_arguments, reason = "batch norm's inputs")]
pub fn batch_norm_act(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    momentum: f64,
    eps: f64,
    residual: Option<&Tensor>,
    act: Activation,
) -> Result<Tensor> {
    let [x, weight, bias, running_mean, running_var] = [x, weight, bias, running_mean, running_var].map(address);
    // SAFETY: the tensors outlive the call and the addresses are those of live at::Tensor objects, or 0 for no
    // residual.
    let y = unsafe {
        bridge::batch_norm_act(
            x,
            weight,
            bias,
            running_mean,
            running_var,
            momentum,
            eps,
            address_or_none(residual),
            act.code(),
        )
    }?;
    Ok(take(y))
}

/// Convolution of each channel of `x_bchw` (B,C,H,W) with its own kernel, `weight` (C,1,k,k), padding k/2, plus `bias`
/// (C); (B,C,⌈H/stride⌉,⌈W/stride⌉) of `x_bchw`'s type, differentiable once in all three.
///
/// The kernels cover k 3, 5 and 7 with stride 1 and 2. Under autocast a float `x_bchw` becomes bfloat16; the weight
/// stays float.
pub fn depthwise_conv(x_bchw: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: i64) -> Result<Tensor> {
    // SAFETY: as in `batch_norm_act`.
    let y = unsafe { bridge::depthwise_conv(address(x_bchw), address(weight), address_or_none(bias), stride) }?;
    Ok(take(y))
}

/// Whether [`depthwise_conv`] has its own kernel for these arguments; at stride 1 and 2 it is faster than `conv2d`'s.
#[must_use]
pub fn depthwise_suits(x: &Tensor, weight: &Tensor) -> bool {
    // SAFETY: as in `batch_norm_act`.
    unsafe { bridge::depthwise_suits(address(x), address(weight)) }
}
