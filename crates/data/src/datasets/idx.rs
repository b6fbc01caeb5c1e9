//! The IDX files of MNIST (LeCun et al. 1998) and of datasets in the same format, plain or compressed with gzip.
use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::read::GzDecoder;
use heterodyne_nn::{Error, Result};

use super::{
    Source,
    labels::Classes,
    split::{Split, Wanted},
};
use crate::{Splits, dataset::Raster, files};

const SIDE: usize = 28;
/// Unsigned bytes, in three and in one dimension.
const IMAGES: [u8; 4] = [0, 0, 8, 3];
const LABELS: [u8; 4] = [0, 0, 8, 1];
/// Maximum unpacked size of a file in bytes: more than EMNIST's 814,255 images.
const MAX_BYTES: u64 = 2 << 30;

/// A split's grey levels, 28 x 28 per image, and its labels.
struct Part {
    split: Split,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

/// What differs between the datasets.
struct Variant {
    title: &'static str,
    /// Sub-folders in which torchvision keeps the files.
    folders: [&'static str; 3],
    /// Class names; if the files have more classes, numbers are used instead.
    names: [&'static str; 10],
    /// Mean of the train split, rounded; used only if the split is absent.
    mean: f64,
    std: f64,
}

const MNIST: Variant = Variant {
    title: "MNIST",
    folders: ["", "raw", "MNIST/raw"],
    names: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    mean: 0.1307,
    std: 0.3081,
};
const FASHION: Variant = Variant {
    title: "Fashion-MNIST",
    folders: ["", "raw", "FashionMNIST/raw"],
    names: ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
    mean: 0.2860,
    std: 0.3530,
};
const KUZUSHIJI: Variant = Variant {
    title: "Kuzushiji-MNIST",
    folders: ["", "raw", "KMNIST/raw"],
    names: ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
    mean: 0.1918,
    std: 0.3483,
};

pub(super) fn mnist(source: &Source) -> Result<Splits> {
    open(&MNIST, source)
}

pub(super) fn fashion(source: &Source) -> Result<Splits> {
    open(&FASHION, source)
}

pub(super) fn kuzushiji(source: &Source) -> Result<Splits> {
    open(&KUZUSHIJI, source)
}

fn open(variant: &Variant, source: &Source) -> Result<Splits> {
    let given = source.path("the folder with train-images-idx3-ubyte and train-labels-idx1-ubyte, plain or .gz")?;
    let root = if given.is_file() { given.parent().unwrap_or(Path::new(".")) } else { given };
    let folders: Vec<PathBuf> = variant.folders.iter().map(|sub| root.join(sub)).collect();
    let mut parts = Vec::new();
    for split in Split::ALL {
        // MNIST's test files are named after their ten thousand images.
        let names: Vec<&str> = match (split.wanted(source.reading), split) {
            (Wanted::Nothing, _) => continue,
            (Wanted::Named(name), _) => vec![name],
            (Wanted::Usual(usual), Split::Test) => ["t10k"].iter().chain(usual).copied().collect(),
            (Wanted::Usual(usual), _) => usual.to_vec(),
        };
        let found = folders
            .iter()
            .find_map(|folder| names.iter().find_map(|name| Some((*name, folder, file(folder, name, "images", 3)?))));
        let Some((name, folder, images)) = found else {
            match split.wanted(source.reading) {
                Wanted::Named(name) => {
                    return Err(Error::file(root, format!("holds no {name}-images-idx3-ubyte (data.{})", split.key())));
                }
                _ => continue,
            }
        };
        let labels = file(folder, name, "labels", 1);
        let labels =
            labels.ok_or_else(|| Error::file(&images, format!("has no {name}-labels-idx1-ubyte beside it")))?;
        let (pixels, labels) = read(&images, &labels)?;
        parts.push(Part { split, pixels, labels });
    }
    if parts.is_empty() {
        return Err(Error::file(
            given,
            "holds no train-images-idx3-ubyte (nor .gz) and no t10k-images-idx3-ubyte; for other file names \
             (emnist-letters-train-images-idx3-ubyte) set data.train = \"emnist-letters-train\" and data.test = \
             \"emnist-letters-test\"",
        ));
    }
    splits(variant, parts, source)
}

fn splits(variant: &Variant, parts: Vec<Part>, source: &Source) -> Result<Splits> {
    let highest = parts.iter().flat_map(|part| &part.labels).max().copied().unwrap_or(0);
    let classes = if usize::from(highest) < variant.names.len() {
        Classes::listed(variant.names.iter().map(|&name| name.to_owned()).collect())
    } else {
        let numbers: Vec<String> = parts.iter().flat_map(|part| &part.labels).map(u8::to_string).collect();
        Classes::of(numbers.iter().map(String::as_str), source.reading)
    };
    let by_name = usize::from(highest) >= variant.names.len();
    let mut splits =
        Splits { side: Some(SIDE as u32), mean: [variant.mean; 3], std: [variant.std; 3], ..Splits::photographs() };
    for Part { split, pixels, labels } in parts {
        let number = |label: &u8| {
            if by_name { classes.place(&label.to_string()).unwrap_or_default() } else { usize::from(*label) }
        };
        let raster = Raster {
            title: format!("{} {}", variant.title, split.key()),
            side: SIDE,
            rgb: pixels.iter().flat_map(|&level| [level; 3]).collect(),
            labels: labels.iter().map(|label| number(label) as u16).collect(),
            classes: Arc::clone(&classes.names),
        };
        if split == Split::Train {
            (splits.mean, splits.std) = raster.statistics();
        }
        split.fill(&mut splits, Arc::new(raster));
    }
    Ok(splits)
}

/// The file of a split's images or labels, under any of the usual names.
fn file(folder: &Path, split: &str, what: &str, dimensions: u32) -> Option<PathBuf> {
    let names = [format!("{split}-{what}-idx{dimensions}-ubyte"), format!("{split}-{what}.idx{dimensions}-ubyte")];
    names.iter().flat_map(|name| [folder.join(name), folder.join(format!("{name}.gz"))]).find(|path| path.is_file())
}

/// Images and labels of a split.
fn read(images: &Path, labels: &Path) -> Result<(Vec<u8>, Vec<u8>)> {
    let (sizes, pixels) = array(images, IMAGES)?;
    let (counts, classes) = array(labels, LABELS)?;
    if sizes[1..] != [SIDE, SIDE] {
        return Err(Error::file(
            images,
            format!("holds images of {} x {} pixels; expected {SIDE} x {SIDE}", sizes[1], sizes[2]),
        ));
    }
    if sizes[0] != counts[0] || sizes[0] == 0 {
        return Err(Error::file(labels, format!("holds {} labels for {} images", counts[0], sizes[0])));
    }
    Ok((pixels, classes))
}

/// Sizes and bytes of an IDX file.
fn array(path: &Path, magic: [u8; 4]) -> Result<(Vec<usize>, Vec<u8>)> {
    let failed = |message: String| Error::file(path, message);
    let mut bytes = files::read(path)?;
    if bytes.starts_with(&[0x1F, 0x8B]) {
        let mut plain = Vec::new();
        let read = GzDecoder::new(&bytes[..]).take(MAX_BYTES).read_to_end(&mut plain);
        read.map_err(|e| failed(format!("is not a complete gzip file ({e}); was the download cut short?")))?;
        bytes = plain;
    }
    if bytes.get(..4) != Some(&magic) {
        return Err(failed(format!("is not an IDX file of {}", if magic == IMAGES { "images" } else { "labels" })));
    }
    let dimensions = usize::from(magic[3]);
    let head = 4 + 4 * dimensions;
    let sizes = bytes.get(4..head).ok_or_else(|| failed("is cut short".to_owned()))?.chunks_exact(4);
    let sizes: Vec<usize> = sizes.map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let expected = sizes.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
    if expected != Some(bytes.len() - head) {
        return Err(failed(format!(
            "has {} bytes for the sizes {sizes:?} in its header; was it cut short?",
            bytes.len() - head
        )));
    }
    bytes.drain(..head);
    Ok((sizes, bytes))
}
