//! Compiled packages name `libtorch.so` as what they need. In PyTorch's wheel that is an empty library that needs the
//! CUDA half, which is not there on a machine without a GPU; everything that a package calls is in `libtorch_cpu.so`,
//! which this process has loaded.
use std::{fs::File, io::Write, os::fd::AsRawFd, sync::OnceLock};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use rustix::fs::{MemfdFlags, memfd_create};

/// An empty library of that name (build.rs).
static EMPTY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libtorch.so"));

/// Makes sure that `libtorch.so` is loaded, once per process: the real one where it can be, else an empty one.
pub fn load() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(|| open("libtorch.so").or_else(|_| open_empty())).clone()
}

fn open(name: &str) -> Result<(), String> {
    // SAFETY: the library has no initialisers of its own; those of libtorch are made to run at any time.
    let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }.map_err(|e| e.to_string())?;
    // What a package has been linked to stays.
    std::mem::forget(library);
    Ok(())
}

/// From memory, so that no file is left behind.
fn open_empty() -> Result<(), String> {
    let descriptor = memfd_create("libtorch.so", MemfdFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let mut file = File::from(descriptor);
    file.write_all(EMPTY).map_err(|e| e.to_string())?;
    open(&format!("/proc/self/fd/{}", file.as_raw_fd()))
}
