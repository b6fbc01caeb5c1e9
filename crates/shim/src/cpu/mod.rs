//! What the processor supports, and how much of it is used.
//!
//! The environment variable `HETERODYNE_CPU` lowers the level of the whole process, including libtorch, oneDNN and MKL
//! (through their own variables, if these are not set): `HETERODYNE_CPU=avx2` makes a newer machine behave like one
//! without AVX-512.
mod ffi;

use std::{fmt, marker::PhantomData};

use tch::Device;

use crate::cuda;
use ffi::bridge;

/// The first compute capability with products of float16 matrices, and that with products of bfloat16 matrices.
const VOLTA: (u32, u32) = (7, 0);
const AMPERE: (u32, u32) = (8, 0);

/// Processor instructions that the kernels use; each level includes the previous ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Vectors of four floats: SSE2, which every x86-64 processor has, or NEON.
    Baseline,
    /// AVX2 and fused multiply-add.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with products of bfloat16 vectors.
    Avx512Bf16,
    /// Products of bfloat16 matrices.
    Amx,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 5] = [Self::Baseline, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// Its name in `HETERODYNE_CPU`.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["baseline", "avx2", "avx512", "avx512bf16", "amx"][self as usize]
    }

    /// The level of this processor.
    #[must_use]
    pub fn found() -> Self {
        Self::of(bridge::found_code())
    }

    /// The level of the calling thread: the processor's, limited by `HETERODYNE_CPU` and [`AtMost`].
    #[must_use]
    pub fn current() -> Self {
        Self::of(bridge::level_code())
    }

    fn of(code: u8) -> Self {
        Self::ALL[usize::from(code)]
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error for a value of `HETERODYNE_CPU` that is not a level.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnknownLevel(String);

/// Checks that `HETERODYNE_CPU` names a level, if it is set. Call it at the start of a process, because the other
/// functions ignore an invalid value.
pub fn check() -> Result<(), UnknownLevel> {
    match bridge::complaint() {
        text if text.is_empty() => Ok(()),
        text => Err(UnknownLevel(text)),
    }
}

/// Limits this crate's kernels to a level, in the calling thread and its worker threads, until it is dropped.
/// libtorch's own kernels are not affected.
#[derive(Debug)]
pub struct AtMost {
    before: u8,
    /// The limit belongs to the thread that set it.
    _thread: PhantomData<*const ()>,
}

impl AtMost {
    /// Limits to `level`.
    #[must_use]
    pub fn begin(level: Level) -> Self {
        Self { before: bridge::limit_code(level as u8), _thread: PhantomData }
    }
}

impl Drop for AtMost {
    fn drop(&mut self) {
        bridge::limit_code(self.before);
    }
}

/// Whether bfloat16 products are much faster than float32 ones on `device`: a GPU that does not emulate them (compute
/// capability 8.0), a CPU with matrix instructions for bfloat16 (AMX), or an AMD CPU with AVX512_BF16.
#[must_use]
pub fn fast_bf16(device: Device) -> bool {
    if device == Device::Cpu { bridge::fast_bf16() } else { cuda::at_least(AMPERE) }
}

/// Whether float16 products are much faster than float32 ones on `device`: a GPU with matrix instructions (compute
/// capability 7.0).
#[must_use]
pub fn fast_fp16(device: Device) -> bool {
    device != Device::Cpu && cuda::at_least(VOLTA)
}
