//! One value of every row, for example the logits, in a file of its own; each value is either intact or missing.
use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use heterodyne_files::own;
use heterodyne_nn::{Error, Result};
use rustix::fs::{FallocateFlags, fallocate};

/// The files of a column.
#[derive(Debug)]
pub struct Column {
    data: File,
    data_path: PathBuf,
    sums_file: File,
    sums_path: PathBuf,
    /// The CRC-32 of each value, 0 if it is missing.
    sums: Vec<AtomicU32>,
    /// Length of a value.
    pub bytes: usize,
}

/// Where a column is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The stem of its files.
    pub name: String,
    /// Length of a value.
    pub bytes: usize,
}

impl Place {
    /// Disk space that the column still needs for `rows` values.
    pub fn missing(&self, folder: &Path, rows: usize) -> u64 {
        let length = |path: &PathBuf| path.metadata().map_or(0, |m| m.len());
        let wanted = [(rows as u64).saturating_mul(self.bytes as u64), (rows as u64).saturating_mul(4)];
        let files = paths(folder, &self.name);
        wanted.iter().zip(&files).map(|(wanted, path)| wanted.saturating_sub(length(path))).fold(0, u64::saturating_add)
    }
}

impl Column {
    /// Opens or creates the files in `folder` for `rows` values and reserves their disk space.
    pub fn open(folder: &Path, Place { name, bytes }: &Place, rows: usize) -> Result<Self> {
        let (bytes, [data_path, sums_path]) = (*bytes, paths(folder, name));
        let data = reserve(&data_path, (rows as u64).saturating_mul(bytes as u64))?;
        let mut sums_file = reserve(&sums_path, 4 * rows as u64)?;
        let mut read = vec![0; 4 * rows];
        sums_file.read_exact(&mut read).map_err(|e| {
            Error::invalid(format!("{}: the teacher's cache cannot be opened ({e})", sums_path.display()))
        })?;
        let sums = read.chunks_exact(4).map(|b| AtomicU32::new(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect();
        Ok(Self { data, data_path, sums_file, sums_path, sums, bytes })
    }

    /// Whether a row's value is written.
    pub fn holds(&self, row: usize) -> bool {
        self.sums[row].load(Ordering::Acquire) != 0
    }

    /// Reads a row's value into `target`; false if it is damaged, and then it counts as missing.
    pub fn read(&self, row: usize, target: &mut [u8]) -> Result<bool> {
        let whole = match self.data.read_exact_at(target, (row * self.bytes) as u64) {
            Ok(()) => sum(target) == self.sums[row].load(Ordering::Acquire),
            // The file has shrunk; rows past its end are gone.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(e) => {
                return Err(Error::invalid(format!("{}: row {row} cannot be read ({e})", self.data_path.display())));
            }
        };
        if !whole {
            self.sums[row].store(0, Ordering::Release);
        }
        Ok(whole)
    }

    /// Writes a row's value, then its sum.
    pub fn write(&self, row: usize, value: &[u8]) -> Result<()> {
        let at = |path: &Path, e: io::Error| Error::invalid(format!("{}: cannot be written ({e})", path.display()));
        self.data.write_all_at(value, (row * self.bytes) as u64).map_err(|e| at(&self.data_path, e))?;
        let sum = sum(value);
        self.sums_file.write_all_at(&sum.to_le_bytes(), 4 * row as u64).map_err(|e| at(&self.sums_path, e))?;
        self.sums[row].store(sum, Ordering::Release);
        Ok(())
    }
}

/// `NAME.rows` has the values, `NAME.sums` their checksums.
fn paths(folder: &Path, name: &str) -> [PathBuf; 2] {
    ["rows", "sums"].map(|suffix| folder.join(format!("{name}.{suffix}")))
}

/// The CRC-32 of a value; never 0, which marks a missing one.
fn sum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes).max(1)
}

/// The error of a cache that needs more disk space than there is.
pub fn no_room(path: &Path, bytes: u64) -> Error {
    Error::invalid(format!(
        "{}: the teacher's cache needs {:.2} GB, but the disk has no room for it: use fewer views or another \
         `teacher.cache.path`",
        path.display(),
        bytes as f64 / 1e9
    ))
}

/// Opens a file of at least `bytes` bytes for reading and writing.
fn reserve(path: &Path, bytes: u64) -> Result<File> {
    let failed =
        |e: io::Error| Error::invalid(format!("{}: the teacher's cache cannot be created ({e})", path.display()));
    let file =
        own::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false)).map_err(failed)?;
    let before = file.metadata().map_err(failed)?.len();
    if before >= bytes {
        return Ok(file);
    }
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::NOSPC | rustix::io::Errno::FBIG | rustix::io::Errno::DQUOT) => {
            // Release the blocks that the attempt allocated past the end.
            let _ = file.set_len(before);
            Err(no_room(path, bytes))
        }
        // Some file systems cannot reserve space; the file then grows as it is written.
        Err(_) => file.set_len(bytes).map(|()| file).map_err(failed),
    }
}
