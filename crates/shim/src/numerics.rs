//! Settings of the whole process: how exact products are on a GPU, and whether results may depend on timing.
use crate::{Result, ffi::bridge};

/// Where a GPU may round the factors of products to TF32, which has 10 bits of mantissa. Nothing changes on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tf32 {
    /// Nowhere.
    Off = 0,
    /// In convolutions.
    Convolutions = 2,
    /// In convolutions and matrix products.
    Everywhere = 3,
}

/// Allows TF32 while it lives.
#[must_use = "the setting ends when the guard is dropped"]
pub struct AllowTf32 {
    before: u8,
}

impl AllowTf32 {
    /// Sets where TF32 is allowed until the guard is dropped.
    pub fn new(place: Tf32) -> Result<Self> {
        let before = bridge::tf32()?;
        bridge::set_tf32(place as u8)?;
        Ok(Self { before })
    }
}

impl Drop for AllowTf32 {
    fn drop(&mut self) {
        // The same call succeeded in `new`; a destructor cannot report errors.
        let _ = bridge::set_tf32(self.before);
    }
}

/// Where TF32 is allowed now.
pub fn tf32() -> Result<Tf32> {
    Ok(match bridge::tf32()? {
        0 => Tf32::Off,
        2 => Tf32::Convolutions,
        _ => Tf32::Everywhere,
    })
}

/// The settings with which a GPU starts: float32 means float32 (libtorch allows TF32 in convolutions), and cuDNN may
/// choose its fastest operations unless [`set_deterministic`] forbids it.
pub(crate) fn start() -> Result<()> {
    bridge::set_tf32(Tf32::Off as u8)?;
    set_deterministic(deterministic())
}

/// Whether operations whose result does not depend on timing are required ([`set_deterministic`]).
#[must_use]
pub fn deterministic() -> bool {
    bridge::deterministic()
}

/// Requires operations whose result does not depend on timing (`torch.use_deterministic_algorithms`), or lets cuDNN
/// choose its fastest ones by measuring. Call it before [`crate::load_cuda`]. An operation that has no such form fails
/// by name.
pub fn set_deterministic(required: bool) -> Result<()> {
    Ok(bridge::set_deterministic(required)?)
}
