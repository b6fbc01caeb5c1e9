//! Files for the tests.
use std::{
    fs::OpenOptions,
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

use heterodyne_pickle::{Checkpoint, Error, read};
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

/// A file of `tests/goldens`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// A folder in which one file is overwritten repeatedly.
pub struct Scratch {
    _folder: TempDir,
    path: PathBuf,
}

impl Scratch {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pt");
        Self { _folder: folder, path }
    }

    pub fn read(&self, bytes: &[u8]) -> Result<Checkpoint, Error> {
        // Overwritten in place, because some file systems wait for the disk after truncating a file.
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path).unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        read(&self.path)
    }

    /// The error from reading the bytes, then their default section.
    pub fn error(&self, bytes: &[u8]) -> String {
        match self.read(bytes).and_then(|file| file.section(None).map(drop)) {
            Ok(()) => panic!("read without an error"),
            Err(error) => error.to_string(),
        }
    }

    /// Reads everything that can be read, down to the last tensor; errors do not matter.
    pub fn exhaust(&self, bytes: &[u8]) -> bool {
        let Ok(file) = self.read(bytes) else { return false };
        for place in file.sections() {
            for tensor in file.section(Some(&place.place)).iter().flat_map(|section| section.tensors.values()) {
                assert_eq!(tensor.bytes().len(), tensor.numel() * tensor.dtype.size());
            }
        }
        true
    }
}

/// A zip archive of a pickle and storages, in torch.save's layout.
pub fn archive(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut record = |name: &str, bytes: &[u8]| {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(format!("x/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    record("data.pkl", pickle);
    record("byteorder", b"little");
    for (key, bytes) in storages {
        record(&format!("data/{key}"), bytes);
    }
    zip.finish().unwrap().into_inner()
}

/// The old container with a pickle and one storage of 32-bit floats.
pub fn legacy(pickle: &[u8], key: &str, values: &[f32]) -> Vec<u8> {
    let mut file =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\x0d\0\0\0little_endian\x88s.".to_vec();
    file.extend(pickle);
    file.extend(b"\x80\x02]");
    if !values.is_empty() {
        file.extend(text(key));
        file.push(b'a');
    }
    file.push(b'.');
    if !values.is_empty() {
        file.extend((values.len() as u64).to_le_bytes());
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    file
}

/// Opcodes that push a text.
pub fn text(value: &str) -> Vec<u8> {
    [b"X", &(value.len() as u32).to_le_bytes()[..], value.as_bytes()].concat()
}

/// Opcodes that push a class or function.
pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// Opcodes that push a 64-bit integer.
pub fn int(value: i64) -> Vec<u8> {
    [b"\x8a\x08", &value.to_le_bytes()[..]].concat()
}

/// Opcodes that push a tuple of the parts' values.
pub fn tuple(parts: &[Vec<u8>]) -> Vec<u8> {
    [b"(".to_vec(), parts.concat(), b"t".to_vec()].concat()
}

/// Opcodes that push a storage of `count` 32-bit floats.
pub fn storage(key: &str, count: i64) -> Vec<u8> {
    [tuple(&[text("storage"), global("torch", "FloatStorage"), text(key), text("cpu"), int(count)]), b"Q".to_vec()]
        .concat()
}

/// Opcodes that push a tensor over the value of `storage`.
pub fn tensor(storage: Vec<u8>, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let sizes = |values: &[i64]| tuple(&values.iter().map(|&value| int(value)).collect::<Vec<_>>());
    let args = tuple(&[storage, int(offset), sizes(shape), sizes(strides), b"\x89".to_vec(), b"}".to_vec()]);
    [global("torch._utils", "_rebuild_tensor_v2"), args, b"R".to_vec()].concat()
}

/// A pickle of a dictionary with one entry.
pub fn dictionary(key: &str, value: &[u8]) -> Vec<u8> {
    [b"\x80\x02}".to_vec(), text(key), value.to_vec(), b"s.".to_vec()].concat()
}
