//! Loads CUDA at run time. The binary links only libtorch's CPU half; the other half registers its kernels when it is
//! loaded, so one binary serves machines with and without a GPU.
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// Why CUDA cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CudaError {
    /// libtorch's CUDA half or one of the libraries it needs is missing.
    #[error(
        "libtorch's CUDA libraries cannot be loaded ({0}); on a machine with an NVIDIA driver `make libtorch` \
         installs them"
    )]
    Library(String),
    /// The libraries are present, but there is no device.
    #[error("libtorch finds no CUDA device (driver missing or too old, or CUDA_VISIBLE_DEVICES empty)")]
    Device,
}

/// Loads libtorch's CUDA half, once per process.
pub fn load_cuda() -> Result<(), CudaError> {
    static LOADED: OnceLock<Result<(), CudaError>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            // SAFETY: loading runs the library's static initialisers, which register kernels and may run at any time.
            let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
            // The kernels stay registered until the process ends.
            std::mem::forget(library.map_err(|e| CudaError::Library(e.to_string()))?);
            if tch::Cuda::is_available() { Ok(()) } else { Err(CudaError::Device) }
        })
        .clone()
}
