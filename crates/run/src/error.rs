//! Errors of the run folder and its files.
use std::path::{Path, PathBuf};

/// A file or folder of a run that cannot be used. The message states what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct Error {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

/// The result of fallible functions on run folders.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an error about `path`.
    pub fn new(path: impl AsRef<Path>, message: impl ToString) -> Self {
        Self { path: path.as_ref().to_owned(), message: message.to_string() }
    }
}
