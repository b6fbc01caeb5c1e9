//! Peak memory of this process.
use std::fs;

use tch::Device;

use crate::{device_code, ffi::bridge};

/// The largest resident size so far, in bytes; `None` if the system does not report it (`VmHWM` on Linux).
#[must_use]
pub fn peak_rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| 1024 * kb)
}

/// The largest number of bytes that tensors have held on a GPU so far; `None` on the CPU.
#[must_use]
pub fn peak_device(device: Device) -> Option<u64> {
    if device_code(device) == 0 {
        return None;
    }
    bridge::peak_device_bytes().ok()
}
