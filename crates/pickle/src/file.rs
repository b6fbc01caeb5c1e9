//! A file read by position, so several readers share one handle but not a cursor.
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use crate::Fault;

/// A reader with its own position; clones share the handle. It reads with system calls, so a file that shrinks
/// meanwhile just ends early.
#[derive(Clone, Debug)]
pub struct Reader {
    file: Arc<File>,
    position: u64,
    /// The file's length when it was opened, in bytes.
    pub length: u64,
}

impl Reader {
    /// Opens a regular file.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        // Checked before opening, because opening a named pipe would wait for its other end.
        let kind = fs::metadata(path)?;
        if kind.is_dir() {
            return Err(Fault::Foreign("a folder; name the weights file in it".into()));
        }
        if !kind.is_file() {
            return Err(Fault::Foreign("not a regular file; copy the weights to one first".into()));
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), position: 0, length })
    }

    /// `size` bytes from `position`. The caller has checked that they are within the file.
    pub fn bytes(&self, position: u64, size: usize) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; size];
        match self.file.read_exact_at(&mut bytes, position) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Fault::Short("it shrank while it was read".into()))
            }
            result => Ok(result.map(|()| bytes)?),
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        // The system's positions are signed 64-bit numbers.
        self.position = target.filter(|&p| i64::try_from(p).is_ok()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
