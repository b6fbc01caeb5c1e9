//! Memory formats of image tensors.
use tch::Tensor;

use crate::{Result, address, ffi::bridge, take};

/// `x` (B,C,H,W) with channels innermost in memory; no copy if it already is.
pub fn channels_last(x: &Tensor) -> Result<Tensor> {
    // SAFETY: `x` outlives the call and its address is that of a live at::Tensor.
    Ok(take(unsafe { bridge::channels_last(address(x)) }?))
}

/// Whether `x` is a 4-d tensor whose channels are innermost in memory.
#[must_use]
pub fn is_channels_last(x: &Tensor) -> bool {
    // SAFETY: as in `channels_last`.
    unsafe { bridge::is_channels_last(address(x)) }
}
