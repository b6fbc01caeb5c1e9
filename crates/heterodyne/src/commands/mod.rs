//! The commands, one file each.
pub mod bench;
pub mod cache;
pub mod check;
mod closing;
pub mod compare;
pub mod data;
pub mod dataset;
pub mod demo;
pub mod eval;
pub mod export;
pub mod features;
pub mod fit;
mod heading;
pub mod init;
pub mod inspect;
pub mod list;
pub mod network;
pub mod predict;
pub mod python;
pub mod report;
pub mod reproduce;
pub mod similarity;

/// How a command ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command is complete.
    Done,
    /// Stopped by a signal; the progress is saved.
    Interrupted,
}
