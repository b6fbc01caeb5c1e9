//! One file per command.
pub mod bench;
pub mod bench_step;
pub mod cache;
pub mod compare;
pub mod data;
pub mod demo;
pub mod eval;
pub mod export;
pub mod features;
pub mod fit;
pub mod inspect;
pub mod list;
pub mod present;
pub mod report;
pub mod select;
pub mod source;

/// How a command ended, when not with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All was done.
    Done,
    /// Ctrl-C; what was done is saved.
    Interrupted,
}
