//! A bound on the work and memory that a file may need.
use crate::Fault;

/// Maximum expansion of a file, in multiples of its size: names and bytes of tensors, each tensor counted once per
/// name. Honest files stay far below it, even if dozens of names share a layer or the archive was compressed.
const EXPANSION: u64 = 32;

/// The allowance of every file, however small: 64 MiB.
const BASE: u64 = 1 << 26;

/// The rest of a file's allowance, in bytes.
#[derive(Debug)]
pub struct Budget(u64);

impl Budget {
    /// The allowance of a file of `length` bytes.
    pub fn new(length: u64) -> Self {
        Self(length.saturating_mul(EXPANSION).saturating_add(BASE))
    }

    /// Takes `bytes` from the allowance.
    pub fn spend(&mut self, bytes: u64) -> Result<(), Fault> {
        let message = || {
            Fault::Limit(format!(
                "its contents expand to more than {EXPANSION} times its size; was it made to exhaust the memory?"
            ))
        };
        self.0 = self.0.checked_sub(bytes).ok_or_else(message)?;
        Ok(())
    }
}
