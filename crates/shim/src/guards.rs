//! Thread state that is restored when a guard goes out of scope, even while unwinding.
use std::marker::PhantomData;

use tch::{Device, Kind};

use crate::{Error, Result, device_code, ffi::bridge};

/// A guard belongs to the thread whose state it changed.
type ThreadBound = PhantomData<*const ()>;

/// Runs eligible operations in bfloat16 or float16 while it lives (PyTorch's `torch.autocast(device, dtype)`).
#[must_use = "autocast ends when the guard is dropped"]
pub struct Autocast {
    device: u8,
    before: u8,
    _thread: ThreadBound,
}

/// The formats of the bridge, by number.
const FORMATS: [Option<Kind>; 3] = [None, Some(Kind::BFloat16), Some(Kind::Half)];

impl Autocast {
    /// Switches autocast to bfloat16 on `device` on or off until the guard is dropped.
    pub fn new(device: Device, enabled: bool) -> Result<Self> {
        Self::to(device, enabled.then_some(Kind::BFloat16))
    }

    /// Switches autocast on `device` to a format, [`Kind::BFloat16`] or [`Kind::Half`], or off, until the guard is
    /// dropped.
    pub fn to(device: Device, format: Option<Kind>) -> Result<Self> {
        let number = FORMATS.iter().position(|known| *known == format);
        let number = number.ok_or_else(|| Error(format!("autocast to {format:?} is not possible")))?;
        let device = device_code(device);
        let before = bridge::autocast_format(device)?;
        bridge::autocast_set(device, number as u8)?;
        bridge::autocast_enter();
        Ok(Self { device, before, _thread: PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        bridge::autocast_leave();
        // The same call succeeded in `new`; a destructor cannot report errors.
        let _ = bridge::autocast_set(self.device, self.before);
    }
}

/// Whether autocast is on for `device` on this thread.
pub fn autocast_enabled(device: Device) -> Result<bool> {
    Ok(autocast_format(device)?.is_some())
}

/// The format of autocast for `device` on this thread; `None` if it is off.
pub fn autocast_format(device: Device) -> Result<Option<Kind>> {
    Ok(FORMATS[usize::from(bridge::autocast_format(device_code(device))?)])
}

/// Records no graph while it lives (PyTorch's `torch.no_grad()`).
#[must_use = "gradients are recorded again when the guard is dropped"]
pub struct NoGrad {
    before: bool,
    _thread: ThreadBound,
}

impl NoGrad {
    /// Stops recording until the guard is dropped.
    pub fn new() -> Self {
        let before = bridge::grad_mode();
        bridge::grad_mode_set(false);
        Self { before, _thread: PhantomData }
    }
}

impl Default for NoGrad {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for NoGrad {
    fn drop(&mut self) {
        bridge::grad_mode_set(self.before);
    }
}

/// Whether operations on this thread are recorded for the backward pass.
#[must_use]
pub fn grad_enabled() -> bool {
    bridge::grad_mode()
}
