//! What the processor can do, and how much of it is used.
//!
//! The environment variable `HETERODYNE_CPU` lowers the level of the whole process, libtorch, oneDNN and MKL included
//! (through their own variables, where those are not set): `HETERODYNE_CPU=avx2` shows on a newer machine what one
//! without AVX-512 does.
mod ffi;

use std::{fmt, marker::PhantomData};

use tch::Device;

use ffi::bridge;

/// Instructions of the processor that the kernels use; each level has what the ones before it have.
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
    /// All of them, the lowest first.
    pub const ALL: [Self; 5] = [Self::Baseline, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// As `HETERODYNE_CPU` writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["baseline", "avx2", "avx512", "avx512bf16", "amx"][self as usize]
    }

    /// What this processor has.
    #[must_use]
    pub fn found() -> Self {
        Self::of(bridge::found_code())
    }

    /// What the calling thread uses: what the processor has, no more than `HETERODYNE_CPU` and [`AtMost`] allow.
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

/// A value of `HETERODYNE_CPU` that names no level.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnknownLevel(String);

/// Whether `HETERODYNE_CPU` names a level, if it is set. Called at the start of a process, as the levels themselves
/// have no errors: they ignore such a value.
pub fn check() -> Result<(), UnknownLevel> {
    match bridge::complaint() {
        text if text.is_empty() => Ok(()),
        text => Err(UnknownLevel(text)),
    }
}

/// Holds this crate's kernels, in the calling thread and the threads that work for it, to a level until it is dropped.
/// libtorch's own stay as they are.
#[derive(Debug)]
pub struct AtMost {
    before: u8,
    /// The limit belongs to the thread that set it.
    _thread: PhantomData<*const ()>,
}

impl AtMost {
    /// Holds to `level`.
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

/// Whether bfloat16 products are much faster than float32 ones on `device`: a GPU, a CPU with matrix instructions for
/// bfloat16 (AMX), or one of AMD's with AVX512_BF16.
#[must_use]
pub fn fast_bf16(device: Device) -> bool {
    device != Device::Cpu || bridge::fast_bf16()
}
