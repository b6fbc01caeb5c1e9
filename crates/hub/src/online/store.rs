//! Writes into a repository's folder in the cache, as Python's `huggingface_hub` does.
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;
use crate::cache::{Repository, at};

/// How long to wait for another process that downloads the same file.
const LOCK_PATIENCE: Duration = Duration::from_secs(3600);

impl Repository {
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The folder in which the file with this etag is downloaded until it is complete.
    pub fn partial(&self, etag: &str) -> PathBuf {
        self.folder.join(".partial").join(etag)
    }

    /// Acquires the lock that Python takes for the same file, waiting if necessary.
    pub fn lock(&self, etag: &str) -> Result<File, Error> {
        let locks = self.folder.with_file_name(".locks").join(self.folder.file_name().unwrap_or_default());
        make(&locks)?;
        let path = locks.join(format!("{etag}.lock"));
        let file = File::options().create(true).write(true).truncate(false).open(&path).map_err(at(&path))?;
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_PATIENCE => {
                    thread::sleep(Duration::from_millis(100))
                }
                Err(TryLockError::WouldBlock) => return Err(Error::Busy { lock: path }),
                Err(TryLockError::Error(source)) => return Err(Error::Cache { path, source }),
            }
        }
    }

    /// Moves the complete file `from` to the blob of `etag`.
    pub fn adopt(&self, from: &Path, etag: &str) -> Result<(), Error> {
        let blob = self.blob(etag);
        make(&self.folder.join("blobs"))?;
        fs::rename(from, &blob).map_err(at(&blob))
    }

    /// Links `snapshots/<commit>/<file>` to the blob.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf, Error> {
        let path = self.snapshot(commit, file);
        make(&self.folder.join("snapshots").join(commit))?;
        replace(&path, |new| link_blob(&self.blob(etag), etag, new))?;
        Ok(path)
    }

    /// Records the commit that `revision` refers to; a full commit needs no record.
    pub fn refer(&self, revision: &str, commit: &str) -> Result<(), Error> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.reference(revision);
        path.parent().map_or(Ok(()), make)?;
        replace(&path, |new| fs::write(new, commit))
    }
}

/// Creates a folder and its parents.
pub fn make(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(at(folder))
}

/// Writes beside `path` and renames, so readers see the old file or the new one.
fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}.new", process::id()));
    let new = PathBuf::from(new);
    fs::remove_file(&new)
        .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
        .map_err(at(&new))?;
    write(&new).and_then(|()| fs::rename(&new, path)).map_err(at(path))
}

/// A relative link, so the cache can be moved.
#[cfg(unix)]
fn link_blob(_blob: &Path, etag: &str, new: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), new)
}

/// On other systems symbolic links need privileges.
#[cfg(not(unix))]
fn link_blob(blob: &Path, _etag: &str, new: &Path) -> io::Result<()> {
    fs::hard_link(blob, new)
}
