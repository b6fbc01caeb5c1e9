//! Errors about files.
use std::{
    io,
    path::{Path, PathBuf},
};

/// A file that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct Error {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

/// The result of the functions that know the file's path.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with a file; each message also says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be opened or read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is not one that `torch.save` writes on a little-endian machine.
    #[error("is {0}")]
    Foreign(String),
    /// It is a whole network: a program that other functions load.
    #[error("is {what}; save its `state_dict()` with torch.save")]
    Program {
        /// Its format.
        what: &'static str,
    },
    /// The file ends too early.
    #[error("not a complete PyTorch file ({0}); was the download cut short?")]
    Short(String),
    /// The file contradicts itself or the format.
    #[error("damaged or not written by torch.save: {0}")]
    Damaged(String),
    /// The file would need far more memory than its size justifies.
    #[error("refused: {0}")]
    Limit(String),
    /// The file has no such dictionary of tensors, or several candidates.
    #[error("{0}")]
    Section(String),
    /// A tensor of the requested dictionary cannot be read.
    #[error("tensor `{name}`: {what}")]
    Tensor {
        /// Its name in the dictionary.
        name: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Fault {
    /// The fault with the file's path.
    pub(crate) fn at(self, path: &Path) -> Error {
        Error { path: path.to_owned(), fault: self }
    }
}

/// Shorthand for [`Fault::Damaged`].
pub(crate) fn damaged<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Damaged(what.into()))
}
