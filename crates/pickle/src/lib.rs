//! Reads the weights files of `torch.save`, zip archives as well as the older pickles, without Python and without
//! executing anything.
//!
//! A pickle is a program. Here it runs on a small machine that cannot call functions: classes and functions are only
//! names. Tensors are recognised by the names of the functions that would rebuild them; any other object is kept as a
//! class name with its attributes. So tensors can also be read from a training checkpoint with its optimiser and
//! options, or from a whole pickled module.
//!
//! The formats are those of `torch/serialization.py` (PyTorch 2.11, which also reads files back to 0.4) and of Python's
//! `pickletools`, protocols 2 to 5. Sizes and counts in a file are never trusted: work and memory are bounded by the
//! file's length.
mod archive;
mod budget;
mod error;
mod file;
mod find;
mod layout;
mod legacy;
mod pickle;
pub mod plain;
mod sniff;
mod tensor;

use std::{
    collections::HashMap,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use error::{Error, Fault, Result};
pub use find::Place;
use indexmap::IndexMap;
pub use sniff::{Content, HEAD};
pub use tensor::{Dtype, Stored};

use crate::{
    archive::Archive, budget::Budget, file::Reader, layout::Layout, legacy::Legacy, pickle::Pickle, sniff::Container,
};

/// Opens a file that `torch.save` wrote and reads its structure, but not the tensors' bytes.
///
/// Errors: another kind of file, named if it is recognised; a damaged or truncated file; a file that needs more work
/// than its size justifies.
pub fn read(path: &Path) -> Result<Checkpoint> {
    open(path).map_err(|fault| fault.at(path))
}

fn open(path: &Path) -> Result<Checkpoint, Fault> {
    let file = Reader::open(path)?;
    let mut head = Vec::new();
    file.clone().take(sniff::HEAD as u64).read_to_end(&mut head)?;
    let length = file.length;
    let (storages, pickle) = match sniff::sniff(&head, length)? {
        Container::Zip => archive::open(file).map(|(archive, pickle)| (Storages::Zip(archive), pickle)),
        Container::Legacy => legacy::open(file).map(|(legacy, pickle)| (Storages::Legacy(legacy), pickle)),
    }?;
    let places = find::places(&pickle, &mut Budget::new(length))?;
    Ok(Checkpoint { path: path.to_owned(), length, pickle, storages, places })
}

/// An open file of PyTorch.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    length: u64,
    pickle: Pickle,
    storages: Storages,
    places: Vec<Place>,
}

/// Where the tensors' bytes are.
#[derive(Debug)]
enum Storages {
    Zip(Archive),
    Legacy(Legacy),
}

/// A dictionary of tensors.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its place in the file, as in [`Place::place`].
    pub place: String,
    /// Its tensors by name, in the order of the file.
    pub tensors: IndexMap<String, Stored>,
}

impl Checkpoint {
    /// The dictionaries of tensors in the file, including pickled modules, in the order of the file.
    pub fn sections(&self) -> &[Place] {
        &self.places
    }

    /// Reads the tensors of one dictionary and skips its other values. Each storage is read once.
    ///
    /// Without a place, it reads the dictionary that timm takes: an exponential moving average of the weights
    /// (`state_dict_ema`, `model_ema`, …) before the weights (`state_dict`, `model`, …), else the dictionary with the
    /// most tensors.
    ///
    /// Errors: no such dictionary, or several candidates; the message lists the dictionaries. A tensor that is
    /// quantised, sparse, complex, without values or of a type that [`Dtype`] lacks. A tensor that exceeds its storage.
    /// A truncated file.
    pub fn section(&self, place: Option<&str>) -> Result<Section> {
        find::choose(&self.pickle, &self.places, place)
            .and_then(|place| self.load(place))
            .map_err(|fault| fault.at(&self.path))
    }

    fn load(&self, place: &Place) -> Result<Section, Fault> {
        let mut budget = Budget::new(self.length);
        let mut blocks = HashMap::new();
        let mut tensors = IndexMap::new();
        for (name, id) in find::tensors(&self.pickle.arena, place.node, &mut budget)? {
            let refused = |what| Fault::Tensor { name: name.chars().take(200).collect(), what };
            let layout = Layout::of(&self.pickle, id).map_err(refused)?;
            budget.spend(layout.bytes)?;
            let block = match blocks.get(&layout.storage) {
                Some(block) => Arc::clone(block),
                None => {
                    let block = Arc::new(self.storage(layout.storage, &mut budget)?);
                    blocks.insert(layout.storage, Arc::clone(&block));
                    block
                }
            };
            tensors.insert(name, Stored::new(layout, block));
        }
        Ok(Section { place: place.place.clone(), tensors })
    }

    fn storage(&self, index: usize, budget: &mut Budget) -> Result<Vec<u8>, Fault> {
        let (key, storage) =
            &self.pickle.storages.get_index(index).ok_or_else(|| Fault::Damaged("a storage is missing".into()))?;
        budget.spend(storage.bytes)?;
        match &self.storages {
            Storages::Zip(archive) => archive.storage(key, storage.bytes),
            Storages::Legacy(legacy) => legacy.storage(index, storage.bytes),
        }
    }
}
