//! A file that takes its name once it is complete on disk. Until then an existing file of that name stays.
use std::{
    fs::{self, File},
    io::{Error, Result, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// Prefix of the names of incomplete files.
pub const UNFINISHED: &str = ".new-";

/// A file that does not have its name yet. If dropped before [`Unfinished::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Unfinished {
    file: NamedTempFile,
    path: PathBuf,
}

impl Unfinished {
    /// Creates an empty file in the folder of `path`.
    ///
    /// # Errors
    /// The folder cannot be written, or `path` is a folder, a device or a pipe, which must not be replaced.
    pub fn create(path: &Path) -> Result<Self> {
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(Error::other("it is not an ordinary file"));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(UNFINISHED);
        // A temporary file is private by default; this one becomes an ordinary file (the umask still applies).
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(Self { file: builder.tempfile_in(folder(path))?, path: path.to_owned() })
    }

    /// The file, to write to.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Flushes the file to disk and gives it its name.
    pub fn finish(self) -> Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path).map_err(|e| e.error)?;
        // The new name must survive a power cut too. Not every system can flush a folder, and the file itself is
        // complete.
        let _ = File::open(folder(&self.path)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Replaces `path` with a file that holds the concatenated `parts`.
pub fn replace<'a>(path: &Path, parts: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
    let mut new = Unfinished::create(path)?;
    parts.into_iter().try_for_each(|part| new.file().write_all(part))?;
    new.finish()
}

/// The message for a failed write: the reason, and that an existing file is unchanged.
#[must_use]
pub fn failure(path: &Path, reason: &Error) -> String {
    let old = if path.exists() { "; the existing content is unchanged" } else { "" };
    format!("cannot be written ({reason}){old}")
}
