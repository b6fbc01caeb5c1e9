//! A bound on the work and memory that a file may ask for.
use crate::Fault;

/// How many times its own size a file may expand to: names and bytes of tensors, each tensor counted where it is named.
/// Honest files stay far below it even where a layer is shared by dozens of names, or an archive was compressed.
const EXPANSION: u64 = 32;

/// What every file may have, however small: 64 MiB.
const BASE: u64 = 1 << 26;

/// What is left of a file's allowance, in bytes.
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
                "its contents unfold to more than {EXPANSION} times its size; is it made to fill the memory?"
            ))
        };
        self.0 = self.0.checked_sub(bytes).ok_or_else(message)?;
        Ok(())
    }
}
