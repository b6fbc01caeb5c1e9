//! A file that takes its name once it is complete on the disk; until then whatever had the name before keeps it.
use std::{
    fs::{self, File},
    io::{Error, Result, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// How the names of files begin that are not complete yet.
pub const UNFINISHED: &str = ".new-";

/// A file on its way to its name; dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct Unfinished {
    file: NamedTempFile,
    path: PathBuf,
}

impl Unfinished {
    /// An empty file in the folder of `path`.
    ///
    /// # Errors
    /// The folder cannot be written, or `path` is a folder, a device or a pipe, which nobody wants replaced.
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

    /// To be written.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Flushes it to the disk and gives it its name.
    pub fn finish(self) -> Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path).map_err(|e| e.error)?;
        // The new name, too, is to survive a power cut. Not every system can flush a folder, and the file itself is
        // whole.
        let _ = File::open(folder(&self.path)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Replaces `path` by a file that holds `parts`, concatenated.
pub fn replace<'a>(path: &Path, parts: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
    let mut new = Unfinished::create(path)?;
    parts.into_iter().try_for_each(|part| new.file().write_all(part))?;
    new.finish()
}

/// The message for a failed write: the reason, and that an existing file is unchanged.
#[must_use]
pub fn failure(path: &Path, reason: &Error) -> String {
    let old = if path.exists() { "; what was there before is unchanged" } else { "" };
    format!("cannot be written ({reason}){old}")
}
