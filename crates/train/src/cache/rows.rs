//! Rows of equal length in a file, each either intact or missing.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use heterodyne_data::{CachedRows, Memory};
use heterodyne_files::own;
use heterodyne_nn::{Error, Result};
use heterodyne_shim::upload;
use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use tch::{Device, Kind, Tensor};

/// The files of a cache.
#[derive(Debug)]
pub struct Rows {
    data: File,
    data_path: PathBuf,
    sums_file: File,
    sums_path: PathBuf,
    /// The CRC-32 of each row, 0 if it is missing.
    sums: Vec<AtomicU32>,
    row_bytes: usize,
    /// Number of rows that were written and could not be read back.
    damaged: AtomicUsize,
}

impl Rows {
    /// Opens or creates `rows` rows of `row_bytes` in `folder` and reserves their disk space.
    pub fn open(folder: &Path, about: &str, rows: usize, row_bytes: usize) -> Result<Self> {
        let at = |path: &Path, e: io::Error| {
            Error::invalid(format!("{}: the teacher's cache cannot be opened ({e})", path.display()))
        };
        fs::create_dir_all(folder).map_err(|e| at(folder, e))?;
        let about_path = folder.join("about.json");
        let mut file =
            own::open(&about_path, OpenOptions::new().write(true).create(true)).map_err(|e| at(&about_path, e))?;
        file.set_len(0).and_then(|()| file.write_all(about.as_bytes())).map_err(|e| at(&about_path, e))?;
        let (data_path, sums_path) = (folder.join("rows.bin"), folder.join("sums.bin"));
        let data = reserve(&data_path, (rows as u64).saturating_mul(row_bytes as u64))?;
        let mut sums_file = reserve(&sums_path, 4 * rows as u64)?;
        let mut bytes = vec![0; 4 * rows];
        sums_file.read_exact(&mut bytes).map_err(|e| at(&sums_path, e))?;
        let sums =
            bytes.chunks_exact(4).map(|b| AtomicU32::new(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect();
        Ok(Self { data, data_path, sums_file, sums_path, sums, row_bytes, damaged: AtomicUsize::new(0) })
    }

    /// Number of rows, written or not.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Size on disk.
    pub fn bytes(&self) -> u64 {
        self.len() as u64 * (self.row_bytes as u64 + 4)
    }

    /// Number of rows that are written.
    pub fn written(&self) -> usize {
        self.sums.iter().filter(|sum| sum.load(Ordering::Acquire) != 0).count()
    }

    /// Whether a row is written.
    pub fn holds(&self, row: usize) -> bool {
        self.sums[row].load(Ordering::Acquire) != 0
    }

    /// Reads the rows `numbers`; a damaged row counts as missing.
    pub fn read(&self, numbers: &[usize], memory: &dyn Memory) -> Result<CachedRows> {
        let mut rows = memory.bytes(numbers.len() * self.row_bytes)?;
        let bytes = upload::bytes_mut(&mut rows)?;
        let mut missing = Vec::new();
        for (place, (&row, target)) in numbers.iter().zip(bytes.chunks_exact_mut(self.row_bytes)).enumerate() {
            if !self.holds(row) {
                missing.push(place as i64);
                continue;
            }
            let whole = match self.data.read_exact_at(target, (row * self.row_bytes) as u64) {
                Ok(()) => sum(target) == self.sums[row].load(Ordering::Acquire),
                // The file has shrunk; rows past its end are gone.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => false,
                Err(e) => {
                    return Err(Error::invalid(format!(
                        "{}: row {row} cannot be read ({e})",
                        self.data_path.display()
                    )));
                }
            };
            if !whole {
                target.fill(0);
                self.damaged.fetch_add(1, Ordering::Relaxed);
                self.sums[row].store(0, Ordering::Release);
                missing.push(place as i64);
            }
        }
        Ok(CachedRows { rows: rows.f_view([numbers.len() as i64, self.row_bytes as i64])?, missing })
    }

    /// Number of rows found damaged since the last call.
    pub fn damaged(&self) -> usize {
        self.damaged.swap(0, Ordering::Relaxed)
    }

    /// Writes uint8 (B, row bytes) as the rows `numbers`.
    pub fn write(&self, numbers: &[usize], encoded: &Tensor) -> Result<()> {
        let encoded = encoded.f_to(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0; numbers.len() * self.row_bytes];
        if encoded.kind() != Kind::Uint8 || encoded.numel() != bytes.len() {
            return Err(Error::invalid(format!(
                "{:?} of shape {:?} is not {} rows of {} bytes",
                encoded.kind(),
                encoded.size(),
                numbers.len(),
                self.row_bytes
            )));
        }
        let length = bytes.len();
        encoded.f_copy_data_u8(&mut bytes, length)?;
        let at = |path: &Path, e: io::Error| Error::invalid(format!("{}: cannot be written ({e})", path.display()));
        for (&row, source) in numbers.iter().zip(bytes.chunks_exact(self.row_bytes)) {
            self.data.write_all_at(source, (row * self.row_bytes) as u64).map_err(|e| at(&self.data_path, e))?;
            let sum = sum(source);
            self.sums_file.write_all_at(&sum.to_le_bytes(), 4 * row as u64).map_err(|e| at(&self.sums_path, e))?;
            self.sums[row].store(sum, Ordering::Release);
        }
        Ok(())
    }
}

/// The CRC-32 of a row; never 0, which marks a missing row.
fn sum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes).max(1)
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
    let no_room = || {
        Error::invalid(format!(
            "{}: the teacher's cache needs {:.2} GB, but the disk has no room for it: use fewer views or another \
             `teacher.cache.path`",
            path.display(),
            bytes as f64 / 1e9
        ))
    };
    // Check first: if a file system cannot reserve space, any size would seem to fit.
    let disk = fstatvfs(&file).map_err(|e| failed(e.into()))?;
    if bytes - before > disk.f_bavail.saturating_mul(disk.f_frsize) {
        return Err(no_room());
    }
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::NOSPC | rustix::io::Errno::FBIG | rustix::io::Errno::DQUOT) => {
            // Release the blocks that the attempt allocated past the end.
            let _ = file.set_len(before);
            Err(no_room())
        }
        // Some file systems cannot reserve space; the file then grows as it is written.
        Err(_) => file.set_len(bytes).map(|()| file).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_beyond_64_bits_is_refused_like_one_beyond_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        for rows in [usize::MAX / 8, 1 << 45] {
            let error = Rows::open(dir.path(), "{}", rows, 1 << 20).unwrap_err().to_string();
            assert!(error.contains("no room") && error.contains("fewer views"), "{error}");
        }
    }
}
