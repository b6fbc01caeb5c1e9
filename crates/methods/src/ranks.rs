//! The processes that train together, as far as a method needs to know of them.
use heterodyne_nn::Result;
use tch::Tensor;

/// Processes that share every batch among themselves, each with as many images as the others, and average their
/// gradients.
pub trait Ranks: std::fmt::Debug {
    /// Their number.
    fn size(&self) -> i64;

    /// This one's number, from 0.
    fn rank(&self) -> i64;

    /// Rows (B,..) of every process one behind the other, (size * B,..), those of rank 0 first. All processes call it
    /// equally often, with equal shapes. The gradient of a process' rows is the sum of what the losses of all processes
    /// say of them.
    ///
    /// # Errors
    /// The others cannot be reached.
    fn gather(&self, rows: &Tensor) -> Result<Tensor>;
}

/// One process on its own.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Ranks for Alone {
    fn size(&self) -> i64 {
        1
    }

    fn rank(&self) -> i64 {
        0
    }

    fn gather(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(rows.shallow_clone())
    }
}
