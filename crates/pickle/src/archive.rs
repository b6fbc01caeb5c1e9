//! The zip container: `<folder>/data.pkl`, `<folder>/data/<key>` per storage, `<folder>/byteorder`. The folder may have
//! any name.
use std::io::{self, Cursor, Read};

use zip::{
    CompressionMethod, ZipArchive,
    read::{ArchiveOffset, Config, ZipReadOptions},
    result::ZipError,
};

use crate::{
    Fault,
    error::damaged,
    file::Reader,
    pickle::{Pickle, Source, load},
};

/// Maximum size of a compressed `data.pkl`: 64 MiB. PyTorch does not compress it, but other tools may repack an
/// archive.
const PICKLE: u64 = 1 << 26;

/// An open archive.
#[derive(Debug)]
pub struct Archive {
    zip: ZipArchive<Reader>,
    /// The prefix of each record's name: the folder and a slash.
    prefix: String,
    length: u64,
}

/// Opens the archive and reads its pickle.
pub fn open(file: Reader) -> Result<(Archive, Pickle), Fault> {
    let length = file.length;
    // The file begins with the first record, so no search for an offset is needed.
    let zip = ZipArchive::with_config(Config { archive_offset: ArchiveOffset::Known(0) }, file)
        .map_err(|e| fault(e, "its end"))?;
    let names: Vec<_> = zip.file_names_raw().filter_map(|name| std::str::from_utf8(name).ok()).collect();
    if zip.has_duplicate_names() {
        return damaged("two records of the archive have the same name");
    }
    if let Some(fault) = foreign(&names) {
        return Err(fault);
    }
    let prefix = prefix(&names)?.to_owned();
    let archive = Archive { zip, prefix, length };
    if let Some(order) = archive.index("byteorder") {
        match archive.record(order, 16)?.trim_ascii() {
            b"little" => {}
            b"big" => {
                return Err(Fault::Foreign(
                    "written on a big-endian machine; load and save it on a little-endian one".into(),
                ));
            }
            _ => return damaged("its byteorder is neither little nor big"),
        }
    }
    let Some(index) = archive.index("data.pkl") else { return damaged("its data.pkl has vanished") };
    let pickle = archive.record(index, PICKLE)?;
    let pickle = load(&mut Source::new(Cursor::new(&pickle), pickle.len() as u64))?;
    Ok((archive, pickle))
}

/// Recognises the archives of other programs.
fn foreign(names: &[&str]) -> Option<Fault> {
    let has = |end: &str| {
        names.iter().any(|name| name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('/')))
    };
    if has("constants.pkl") {
        Some(Fault::Program { what: "a TorchScript archive (torch.jit.save)" })
    } else if has("archive_format") || has("serialized_exported_program.json") {
        Some(Fault::Program { what: "a PT2 package (torch.export or AOTInductor)" })
    } else if has(".data/python_version") || has(".data/extern_modules") {
        Some(Fault::Foreign("a torch.package archive; save the model's `state_dict()` with torch.save".into()))
    } else if names.iter().any(|name| name.ends_with(".npy")) {
        Some(Fault::Foreign("an archive of NumPy arrays (npz), not a PyTorch file".into()))
    } else {
        None
    }
}

/// The folder of the outermost `data.pkl`, with its slash.
fn prefix<'a>(names: &[&'a str]) -> Result<&'a str, Fault> {
    let folders = names
        .iter()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|folder| folder.is_empty() || folder.ends_with('/'));
    let depth = |folder: &&str| folder.matches('/').count();
    let mut folders: Vec<_> = folders.collect();
    folders.sort_by_key(depth);
    match folders[..] {
        [] => Err(Fault::Foreign(
            "a zip archive without data.pkl, which torch.save writes; is it a packed folder of weights?".into(),
        )),
        [first, second, ..] if depth(&first) == depth(&second) => {
            damaged(format!("two files in one archive: `{first}` and `{second}`"))
        }
        [first, ..] => Ok(first),
    }
}

impl Archive {
    /// The bytes of a storage, which must have `size` bytes.
    pub fn storage(&self, key: &str, size: u64) -> Result<Vec<u8>, Fault> {
        let name = format!("data/{key}");
        let Some(index) = self.index(&name) else { return damaged(format!("the archive has no record {name}")) };
        let bytes = self.record(index, size)?;
        if bytes.len() as u64 != size {
            return damaged(format!("record {name} has {} bytes instead of {size}", bytes.len()));
        }
        Ok(bytes)
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.zip.index_for_name_raw(format!("{}{name}", self.prefix).as_bytes())
    }

    /// A record's contents. Stored ones are bounded by the file's size, compressed ones by `limit` bytes.
    fn record(&self, index: usize, limit: u64) -> Result<Vec<u8>, Fault> {
        let mut zip = self.zip.clone();
        let (name, checksum, size, method) = {
            let entry = zip.by_index_data(index).map_err(|e| fault(e, "a record"))?;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            (name, entry.crc32(), entry.size(), entry.compression())
        };
        let limit = if method == CompressionMethod::Stored { self.length } else { limit };
        if size > limit {
            return damaged(format!("record {name} claims {size} bytes"));
        }
        // PyTorch writes zero for every checksum if checksums are turned off.
        let options = ZipReadOptions::new().ignore_crc32(checksum == 0);
        let mut entry = zip.by_index_with_options(index, options).map_err(|e| fault(e, &name))?;
        let mut bytes = Vec::with_capacity(size as usize);
        entry.read_to_end(&mut bytes).map_err(|e| fault(e.into(), &name))?;
        if bytes.len() as u64 != size {
            return damaged(format!("record {name} has {} bytes instead of {size}", bytes.len()));
        }
        Ok(bytes)
    }
}

/// Turns an error of the zip reader while reading `what` into a fault.
fn fault(error: ZipError, what: &str) -> Fault {
    match error {
        ZipError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Fault::Short(format!("{what} continues beyond the end of the file"))
        }
        ZipError::Io(e)
            if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other) =>
        {
            Fault::Damaged(format!("{what}: {e}; copy or download it again"))
        }
        ZipError::Io(e) => Fault::Io(e),
        ZipError::InvalidArchive(e) => Fault::Short(format!("zip archive: {e}")),
        other => Fault::Damaged(format!("{what}: {other}; repack it without compression or password")),
    }
}
