//! Rows made of columns; a row is complete if every column holds its value.
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use heterodyne_data::{CachedRows, Memory};
use heterodyne_files::own;
use heterodyne_nn::{Error, Result};
use heterodyne_shim::upload;
use rustix::fs::statvfs;
use tch::{Device, Kind, Tensor};

use super::{
    column::{Column, no_room},
    layout::Layout,
};

/// The columns that a run reads.
#[derive(Debug)]
pub struct Rows {
    /// In the order of their values in a row.
    columns: Vec<Column>,
    /// Length of a row in memory: the values one after another, and padding.
    row_bytes: usize,
    rows: usize,
    /// Number of rows that were written and could not be read back.
    damaged: AtomicUsize,
}

impl Rows {
    /// Opens or creates the columns of `layout` for `rows` rows in `folder` and reserves their disk space; `about`
    /// describes the folder for the reader.
    pub fn open(folder: &Path, about: &str, rows: usize, layout: &Layout) -> Result<Self> {
        let at = |path: &Path, e: io::Error| {
            Error::invalid(format!("{}: the teacher's cache cannot be opened ({e})", path.display()))
        };
        fs::create_dir_all(folder).map_err(|e| at(folder, e))?;
        let describe = |name: &str, text: &str| {
            let path = folder.join(format!("{name}.json"));
            let file = own::open(&path, OpenOptions::new().write(true).create(true));
            let written = file.and_then(|mut file| file.set_len(0).and_then(|()| file.write_all(text.as_bytes())));
            written.map_err(|e| at(&path, e))
        };
        describe("about", about)?;
        let places = layout.columns();
        // Check first: if a file system cannot reserve space, any size would seem to fit.
        let disk = statvfs(folder).map_err(|e| at(folder, e.into()))?;
        let missing = places.iter().map(|(place, _)| place.missing(folder, rows)).fold(0, u64::saturating_add);
        if missing > disk.f_bavail.saturating_mul(disk.f_frsize) {
            return Err(no_room(folder, missing));
        }
        let mut columns = Vec::with_capacity(places.len());
        for (place, about) in places {
            if let Some(about) = about {
                describe(&place.name, &about)?;
            }
            columns.push(Column::open(folder, &place, rows)?);
        }
        Ok(Self { columns, row_bytes: layout.row_bytes(), rows, damaged: AtomicUsize::new(0) })
    }

    /// Number of rows, complete or not.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Size on disk.
    pub fn bytes(&self) -> u64 {
        self.columns.iter().map(|column| self.rows as u64 * (column.bytes as u64 + 4)).sum()
    }

    /// Number of complete rows.
    pub fn written(&self) -> usize {
        (0..self.rows).filter(|row| self.holds(*row)).count()
    }

    /// Whether a row is complete.
    pub fn holds(&self, row: usize) -> bool {
        self.columns.iter().all(|column| column.holds(row))
    }

    /// Reads the rows `numbers`; a damaged row counts as missing.
    pub fn read(&self, numbers: &[usize], memory: &dyn Memory) -> Result<CachedRows> {
        let mut rows = memory.bytes(numbers.len() * self.row_bytes)?;
        let bytes = upload::bytes_mut(&mut rows)?;
        let mut missing = Vec::new();
        for (place, (&row, target)) in numbers.iter().zip(bytes.chunks_exact_mut(self.row_bytes)).enumerate() {
            if !self.holds(row) {
                missing.push(place as i64);
            } else if !self.read_row(row, target)? {
                target.fill(0);
                self.damaged.fetch_add(1, Ordering::Relaxed);
                missing.push(place as i64);
            }
        }
        Ok(CachedRows { rows: rows.f_view([numbers.len() as i64, self.row_bytes as i64])?, missing })
    }

    /// Reads one row; false if a value of it is damaged.
    fn read_row(&self, row: usize, mut target: &mut [u8]) -> Result<bool> {
        let mut whole = true;
        for column in &self.columns {
            let (value, rest) = target.split_at_mut(column.bytes);
            whole &= column.read(row, value)?;
            target = rest;
        }
        target.fill(0);
        Ok(whole)
    }

    /// Number of rows found damaged since the last call.
    pub fn damaged(&self) -> usize {
        self.damaged.swap(0, Ordering::Relaxed)
    }

    /// Writes uint8 (B, row bytes) as the rows `numbers`; values that another run has written stay.
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
        for (&row, mut source) in numbers.iter().zip(bytes.chunks_exact(self.row_bytes)) {
            for column in &self.columns {
                let (value, rest) = source.split_at(column.bytes);
                if !column.holds(row) {
                    column.write(row, value)?;
                }
                source = rest;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_beyond_64_bits_is_refused_like_one_beyond_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout { classes: 1 << 18, signals: Vec::new(), places: Vec::new() };
        for rows in [usize::MAX / 8, 1 << 45] {
            let error = Rows::open(dir.path(), "{}", rows, &layout).unwrap_err().to_string();
            assert!(error.contains("no room") && error.contains("fewer views"), "{error}");
        }
    }
}
