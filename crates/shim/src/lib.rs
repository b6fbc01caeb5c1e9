//! Parts of libtorch's C++ interface that [`tch`] does not offer: autocast on any device, memory formats, generator
//! state, fused optimizer steps and multi-tensor operations. This is the only crate with C++ and unsafe code.
//!
//! State is bound to threads as in libtorch: gradient mode and autocast belong to the calling thread.

mod allocator;
pub mod attention;
pub mod cpu;
mod cuda;
#[expect(clippy::too_many_arguments, reason = "one to one with ATen's fused updates")]
mod ffi;
pub mod flops;
mod fused;
pub mod graph;
mod guards;
mod layout;
mod memory;
pub mod norm;
mod numerics;
pub mod packed;
pub mod profile;
pub mod ranks;
mod rng;
pub mod script;
pub mod spectrum;
mod start;
pub mod upload;
pub mod window;
pub mod winograd;

pub use allocator::keep_freed_memory;
pub use cuda::{CudaError, Gpu, load_cuda, select_gpu};
pub use fused::{AdamW, Rate, Sgd, adamw_step, grad_clear, grad_norm, grad_scale, lerp, sgd_step};
pub use guards::{Autocast, NoGrad, autocast_enabled, autocast_format, grad_enabled};
pub use layout::{channels_last, is_channels_last};
pub use memory::{peak_device, peak_rss};
pub use numerics::{AllowTf32, Tf32, deterministic, set_deterministic, tf32};
pub use rng::Rng;

use tch::{Device, Tensor};

/// The version of libtorch that this was built for.
pub const LIBTORCH: &str = include_str!("../libtorch-version").trim_ascii();

/// libtorch's message for a failed operation: its first line, without the C++ backtrace.
#[derive(Debug, thiserror::Error)]
#[error("libtorch: {0}")]
pub struct Error(String);

impl Error {
    /// The message without the engine's name.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0
    }
}

impl From<cxx::Exception> for Error {
    fn from(e: cxx::Exception) -> Self {
        let text = e.what();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let first = lines.next().unwrap_or_default();
        // In this case the program's traceback comes first and the error last.
        let said = if first.contains("failed in the TorchScript interpreter") {
            lines.next_back().unwrap_or(first)
        } else {
            first
        };
        Self(said.trim().to_owned())
    }
}

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

fn device_code(device: Device) -> u8 {
    u8::from(device.is_cuda())
}

fn address(t: &Tensor) -> usize {
    t.as_ptr() as usize
}

fn addresses(ts: &[Tensor]) -> Vec<usize> {
    ts.iter().map(address).collect()
}

/// Takes over a tensor that the bridge made.
fn take(address: usize) -> Tensor {
    // SAFETY: the bridge returns the address of a fresh heap-allocated at::Tensor and keeps no other reference to it;
    // this is the representation of tch's C_tensor, whose drop deletes it.
    unsafe { Tensor::from_ptr(address as *mut _) }
}
