//! Lists everything that is wrong with a dataset at once.
use heterodyne_nn::{Error, Result};

/// Number of faults that a message names; the rest are only counted.
pub const NAMED: usize = 10;

/// The first [`NAMED`] lines, each after a line break and two spaces, and the number of the others.
#[must_use]
pub fn list(lines: impl ExactSizeIterator<Item = impl std::fmt::Display>) -> String {
    let more = lines.len().saturating_sub(NAMED);
    let mut text: String = lines.take(NAMED).map(|line| format!("\n  {line}")).collect();
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}

/// Succeeds without faults.
///
/// # Errors
/// The only fault, or the number of faults and a [`list`] of them.
pub fn refuse(faults: &[impl std::fmt::Display]) -> Result<()> {
    match faults {
        [] => Ok(()),
        [fault] => Err(Error::invalid(fault.to_string())),
        _ => Err(Error::invalid(format!("{} faults in the data:{}", faults.len(), list(faults.iter())))),
    }
}
