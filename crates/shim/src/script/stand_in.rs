//! Compiled packages depend on `libtorch.so`. In PyTorch's wheel that is an empty library that depends on the CUDA
//! half, which a machine without a GPU lacks. Everything that a package calls is in `libtorch_cpu.so`, which this
//! process has loaded.
use std::{fs::File, io::Write, os::fd::AsRawFd, sync::OnceLock};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use rustix::fs::{MemfdFlags, memfd_create};

/// An empty library of that name (build.rs).
static EMPTY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libtorch.so"));

/// Makes sure that `libtorch.so` is loaded, once per process: the real one if possible, else an empty one.
pub fn load() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(|| open("libtorch.so").or_else(|_| open_empty())).clone()
}

fn open(name: &str) -> Result<(), String> {
    // SAFETY: the library has no initialisers of its own; those of libtorch may run at any time.
    let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }.map_err(|e| e.to_string())?;
    // A library that a package is linked to stays loaded.
    std::mem::forget(library);
    Ok(())
}

/// Loads from memory, so no file is left behind.
fn open_empty() -> Result<(), String> {
    let descriptor = memfd_create("libtorch.so", MemfdFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let mut file = File::from(descriptor);
    file.write_all(EMPTY).map_err(|e| e.to_string())?;
    open(&format!("/proc/self/fd/{}", file.as_raw_fd()))
}
