//! Weights files (safetensors): validated when read, replaced atomically.
use std::{
    collections::{BTreeMap, HashMap},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use heterodyne_files::{
    atomic::{self, Unfinished},
    checksum,
};
use heterodyne_pickle::{Content, HEAD};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result, Tensors};

const KINDS: [(Dtype, Kind); 9] = [
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];

/// Reads all tensors of a safetensors file onto the CPU, with the file's text metadata. If the file has a checksum, it
/// must match.
pub fn read(path: &Path) -> Result<(Tensors, HashMap<String, String>)> {
    let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
    let broken = |e: &dyn std::fmt::Display| {
        let message = match Content::begins(&bytes[..bytes.len().min(HEAD)], bytes.len() as u64) {
            Content::Safetensors | Content::Unknown => {
                format!("not a complete safetensors file ({e}); was the download or the copy cut short?")
            }
            Content::Empty => "is empty; was the download or the copy cut short?".to_owned(),
            other => format!("is {other}; a safetensors file is expected"),
        };
        Error::file(path, message)
    };
    let (head, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(&e))?;
    let mut metadata = header.metadata().clone().unwrap_or_default();
    if let Some(claimed) = metadata.remove(checksum::KEY)
        && !checksum::holds(&bytes, 8 + head, &claimed)
    {
        return Err(Error::file(
            path,
            "is damaged: its contents do not match its checksum. Take another copy; if another program changed the \
             file on purpose, remove `checksum` from its metadata",
        ));
    }
    let parsed = SafeTensors::deserialize(&bytes).map_err(|e| broken(&e))?;
    let mut tensors = Tensors::new();
    let mut views = parsed.tensors();
    views.sort_by_key(|(_, view)| view.data().as_ptr() as usize);
    for (name, view) in views {
        let Some((_, kind)) = KINDS.iter().find(|(dtype, _)| *dtype == view.dtype()) else {
            return Err(Error::file(
                path,
                format!("tensor `{name}` has type {:?}, which is not supported", view.dtype()),
            ));
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        tensors.insert(name, Tensor::f_from_data_size(view.data(), &shape, *kind)?);
    }
    Ok((tensors, metadata))
}

/// Writes tensors and text metadata. The old file stays until the new one is complete on disk. Equal contents give
/// equal bytes.
pub fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let mut parts = Vec::new();
    for (name, tensor) in tensors {
        let Some((dtype, kind)) = KINDS.iter().find(|(_, kind)| *kind == tensor.kind()) else {
            return Err(Error::file(
                path,
                format!("tensor `{name}` has type {:?}, which cannot be written", tensor.kind()),
            ));
        };
        let tensor = tensor.detach().f_to(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        let place = Place { name, dtype: *dtype, shape: tensor.size(), bytes: bytes.len() as u64 };
        parts.push((kind.elt_size_in_bytes(), place, bytes));
    }
    // Wide elements first, so each is aligned to a multiple of its size.
    parts.sort_by_key(|(size, ..)| std::cmp::Reverse(*size));
    let (places, blobs): (Vec<_>, Vec<_>) = parts.into_iter().map(|(_, place, bytes)| (place, bytes)).unzip();
    let mut head = head(&places, &metadata).ok_or_else(|| Error::file(path, "the tensors are too large for a file"))?;
    checksum::seal(&mut head, blobs.iter().map(Vec::as_slice));
    let parts = std::iter::once(&head).chain(&blobs).map(Vec::as_slice);
    atomic::replace(path, parts).map_err(|e| unwritten(path, &e))
}

/// A tensor to be written to a file.
struct Place<'a> {
    name: &'a str,
    dtype: Dtype,
    shape: Vec<i64>,
    bytes: u64,
}

/// The header before the tensors: its own length, then JSON with the position of each tensor in the given order, and a
/// checksum of zeros. `None` if the total size does not fit into 64 bits.
fn head(tensors: &[Place], metadata: &HashMap<String, String>) -> Option<Vec<u8>> {
    let (mut header, mut end) = (serde_json::Map::new(), 0u64);
    // Sorted, because a hash map has a different order in each process.
    let mut sorted: BTreeMap<_, _> = metadata.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    sorted.insert(checksum::KEY, checksum::blank());
    header.insert("__metadata__".to_owned(), serde_json::json!(sorted));
    for Place { name, dtype, shape, bytes } in tensors {
        let start = end;
        end = start.checked_add(*bytes)?;
        header.insert(
            (*name).to_owned(),
            serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }),
        );
    }
    let mut text = serde_json::Value::Object(header).to_string();
    // The format requires the data to start at a multiple of eight bytes.
    text += &" ".repeat((8 - text.len() % 8) % 8);
    Some([&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat())
}

/// Writes a safetensors file of float32 tensors a few rows at a time, without holding more than those rows in memory.
#[derive(Debug)]
pub struct RowWriter {
    path: PathBuf,
    file: Unfinished,
    /// The header before the tensors.
    head: Vec<u8>,
    /// For each tensor: its start, its number of rows, and the number of values per row.
    places: HashMap<String, (u64, i64, i64)>,
}

impl RowWriter {
    /// Creates a file for tensors of these names and shapes; the first dimension counts rows. Nothing appears at `path`
    /// before [`RowWriter::finish`].
    pub fn create(path: &Path, tensors: &[(String, Vec<i64>)], metadata: HashMap<String, String>) -> Result<Self> {
        let too_large = |name: &str, shape: &[i64]| {
            Error::file(path, format!("`{name}` of {shape:?} values is too large for a file"))
        };
        let mut entries = Vec::new();
        for (name, shape) in tensors {
            let values = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(u64::try_from(n).ok()?));
            let bytes = values.and_then(|values| values.checked_mul(4)).ok_or_else(|| too_large(name, shape))?;
            entries.push(Place { name, dtype: Dtype::F32, shape: shape.clone(), bytes });
        }
        let head = head(&entries, &metadata).ok_or_else(|| too_large("the sum", &[]))?;
        let (mut places, mut start) = (HashMap::new(), head.len() as u64);
        for Place { name, shape, bytes, .. } in &entries {
            places.insert((*name).to_owned(), (start, shape[0], shape[1..].iter().product()));
            start += bytes;
        }
        let mut file = Unfinished::create(path).map_err(|e| unwritten(path, &e))?;
        file.file().write_all(&head).map_err(|e| unwritten(path, &e))?;
        Ok(Self { path: path.to_owned(), file, head, places })
    }

    /// Writes the rows of `t` (n, ...) to tensor `name`, starting at row `first`.
    pub fn write(&mut self, name: &str, first: i64, t: &Tensor) -> Result<()> {
        let wrong = || Error::invalid(format!("rows from {first} of shape {:?} do not fit `{name}`", t.size()));
        let &(start, rows, row) = self.places.get(name).ok_or_else(wrong)?;
        let shape = t.size();
        if shape.is_empty() || first < 0 || first + shape[0] > rows || shape[1..].iter().product::<i64>() != row {
            return Err(wrong());
        }
        let t = t.detach().f_to(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let mut bytes = vec![0u8; t.numel() * 4];
        t.f_copy_data_u8(&mut bytes, t.numel())?;
        let at = start + (first * row) as u64 * 4;
        let file = self.file.file();
        file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&bytes)).map_err(|e| unwritten(&self.path, &e))
    }

    /// Moves the file into place; every row must have been written.
    pub fn finish(self) -> Result<()> {
        let Self { path, mut file, head, .. } = self;
        checksum::seal_file(file.file(), head).and_then(|()| file.finish()).map_err(|e| unwritten(&path, &e))
    }
}

fn unwritten(path: &Path, e: &std::io::Error) -> Error {
    Error::file(path, atomic::failure(path, e))
}
