//! The processes that train together, as seen by a method.
use std::ops::Range;

use heterodyne_nn::Result;
use tch::Tensor;

/// Processes that share every batch in equal parts and average their gradients.
pub trait Ranks: std::fmt::Debug {
    /// Number of processes.
    fn size(&self) -> i64;

    /// Index of this process, from 0.
    fn rank(&self) -> i64;

    /// Concatenates the rows (B,..) of all processes to (size * B,..), in the order of their ranks. All processes must
    /// call it equally often, with equal shapes. The gradient of a process's rows is the sum of their gradients from
    /// the losses of all processes.
    ///
    /// # Errors
    /// Another process cannot be reached.
    fn gather(&self, rows: &Tensor) -> Result<Tensor>;

    /// The sum of `x` over all processes, without a graph. All processes must call it equally often, with equal shapes.
    ///
    /// # Errors
    /// Another process cannot be reached.
    fn sum(&self, x: &Tensor) -> Result<Tensor>;

    /// This process's part of `n` rows that the processes share.
    fn part(&self, n: i64) -> Range<i64> {
        n * self.rank() / self.size()..n * (self.rank() + 1) / self.size()
    }
}

/// A single process.
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

    fn sum(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.detach())
    }
}
