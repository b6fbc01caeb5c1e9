//! The container before zip: five pickles (magic number, version, system, the object, the storages' keys), then per
//! storage its number of elements and their bytes.
use std::io::BufReader;

use crate::{
    Fault,
    error::damaged,
    file::Reader,
    pickle::{Arena, Node, Pickle, Source, load},
};

/// The first pickle: 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The second pickle.
const VERSION: i64 = 1001;

/// An open file; `starts` has the position of each storage's bytes, in the pickle's order.
#[derive(Debug)]
pub struct Legacy {
    file: Reader,
    starts: Vec<Option<u64>>,
}

/// Opens the file and reads its pickle.
pub fn open(file: Reader) -> Result<(Legacy, Pickle), Fault> {
    let mut source = Source::new(BufReader::new(file.clone()), file.length);
    let magic = load(&mut source)?;
    if !matches!(magic.arena.node(magic.root), Node::Long(bytes) if **bytes == MAGIC) {
        return Err(Fault::Foreign(
            "a pickle that torch.save did not write; load it in Python and save the weights with torch.save".into(),
        ));
    }
    let version = load(&mut source)?;
    if !matches!(version.arena.node(version.root), Node::Int(VERSION)) {
        return damaged(format!("its format version is not {VERSION}"));
    }
    let system = load(&mut source)?;
    if system.arena.entry(system.root, "little_endian") != Some(Arena::TRUE) {
        return Err(Fault::Foreign("written on a big-endian machine; load and save it on a little-endian one".into()));
    }
    let pickle = load(&mut source)?;
    let keys = load(&mut source)?;
    let Some(list) = keys.arena.sequence(keys.root) else { return damaged("its storage keys are not a list") };
    let mut starts = vec![None; pickle.storages.len()];
    for &key in list {
        let Some((index, key, storage)) = keys.arena.text(key).and_then(|key| pickle.storages.get_full(key)) else {
            return damaged("it lists a storage that no tensor refers to");
        };
        let count = i64::from_le_bytes(source.array()?);
        if u64::try_from(count).ok().and_then(|count| count.checked_mul(storage.kind.size)) != Some(storage.bytes) {
            return damaged(format!(
                "storage `{key}` has {count} elements instead of {}",
                storage.bytes / storage.kind.size
            ));
        }
        if starts[index].replace(source.position()).is_some() {
            return damaged(format!("storage `{key}` occurs twice"));
        }
        source.skip(storage.bytes)?;
    }
    Ok((Legacy { file, starts }, pickle))
}

impl Legacy {
    /// The `size` bytes of the storage with this index in the pickle.
    pub fn storage(&self, index: usize, size: u64) -> Result<Vec<u8>, Fault> {
        match (self.starts[index], usize::try_from(size)) {
            (Some(start), Ok(size)) => self.file.bytes(start, size),
            _ => damaged("one of its storages is not in the file"),
        }
    }
}
