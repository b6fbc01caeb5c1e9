//! A bound on the work that a pickle may cause.
use crate::Fault;

/// Maximum number of opcodes and copied elements in a pickle.
const STEPS: u64 = 1 << 25;

/// Counts work: opcodes and copied elements.
#[derive(Debug, Default)]
pub struct Steps(u64);

impl Steps {
    /// Adds `steps`.
    pub fn count(&mut self, steps: u64) -> Result<(), Fault> {
        self.0 += steps;
        if self.0 > STEPS {
            return Err(Fault::Limit(format!("its pickle takes more than {STEPS} steps; save only the weights")));
        }
        Ok(())
    }
}
