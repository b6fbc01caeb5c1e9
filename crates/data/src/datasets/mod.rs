//! The datasets that can be opened by name.
mod aircraft;
mod cifar;
mod cub;
mod digits;
mod folder;
mod idx;
mod imagenet;
mod labels;
mod list;
mod mat;
mod names;
#[cfg_attr(not(feature = "parquet"), path = "no_parquet.rs")]
mod parquet;
mod pictures;
mod split;
mod walk;

use std::path::Path;

pub use pictures::Files;

use heterodyne_nn::{Error, Result, error::missing};
use heterodyne_settings::{Named, Registry};

use crate::{Reading, Splits, classes, faults};

/// A dataset in the registry.
#[derive(Debug)]
pub struct Entry {
    /// Its name in recipes.
    pub name: &'static str,
    /// One sentence for help and reference pages.
    pub summary: &'static str,
    /// Side of its images; `None` for photographs of varying size, and if only the files determine it.
    pub side: Option<u32>,
    /// Whether only the files determine the side.
    pub side_in_files: bool,
    /// Keys of `[data]` that it takes, besides those of all datasets.
    pub keys: &'static [&'static str],
    open: fn(&Source) -> Result<Splits>,
}

/// What to open.
struct Source<'a> {
    name: &'static str,
    path: Option<&'a Path>,
    reading: &'a Reading,
}

static DATASETS: Registry<Entry> = Registry::new("dataset", &[ENTRIES]);

const ENTRIES: &[Entry] = &[
    Entry {
        name: "digits",
        summary: "Handwritten digits, 10 classes, 8 x 8 pixels, 1297 + 500 images; built in, needs no path",
        side: Some(8),
        side_in_files: false,
        keys: &[],
        open: digits::open,
    },
    Entry {
        name: "cifar10",
        summary: "CIFAR-10, 10 classes, 32 x 32 pixels, 50000 + 10000 images; the official binary or python files, or \
            Parquet",
        side: Some(32),
        side_in_files: false,
        keys: &[],
        open: cifar::open10,
    },
    Entry {
        name: "cifar100",
        summary: "CIFAR-100, 100 classes, 32 x 32 pixels, 50000 + 10000 images; the official binary or python files, \
            or Parquet",
        side: Some(32),
        side_in_files: false,
        keys: &[],
        open: cifar::open100,
    },
    Entry {
        name: "mnist",
        summary: "MNIST, 10 classes, 28 x 28 pixels, grey, 60000 + 10000 images; IDX files, plain or .gz; also \
            EMNIST's and QMNIST's",
        side: Some(28),
        side_in_files: false,
        keys: &["train", "val", "test"],
        open: idx::mnist,
    },
    Entry {
        name: "fashion_mnist",
        summary: "Fashion-MNIST, 10 classes, 28 x 28 pixels, grey, 60000 + 10000 images; IDX files, plain or .gz",
        side: Some(28),
        side_in_files: false,
        keys: &["train", "val", "test"],
        open: idx::fashion,
    },
    Entry {
        name: "kmnist",
        summary: "Kuzushiji-MNIST, 10 classes, 28 x 28 pixels, grey, 60000 + 10000 images; IDX files, plain or .gz",
        side: Some(28),
        side_in_files: false,
        keys: &["train", "val", "test"],
        open: idx::kuzushiji,
    },
    Entry {
        name: "folder",
        summary: "Photographs in class folders: train/CLASS/*, and val/CLASS/* or test/CLASS/* or both",
        side: None,
        side_in_files: false,
        keys: &["train", "val", "test", "labels", "image_column", "label_column", "empty_classes"],
        open: folder::open,
    },
    Entry {
        name: "imagenet",
        summary: "ImageNet-1K: train/WNID/*; val/WNID/*, or val/* with the devkit's ground truth or a list of files \
            and classes",
        side: None,
        side_in_files: false,
        keys: &["train", "val", "test", "labels", "image_column", "label_column", "empty_classes"],
        open: imagenet::open,
    },
    Entry {
        name: "cub200",
        summary: "CUB-200-2011, 200 classes of birds, 5994 + 5794 photographs; the folder CUB_200_2011 with images.txt",
        side: None,
        side_in_files: false,
        keys: &[],
        open: cub::open,
    },
    Entry {
        name: "aircraft",
        summary: "FGVC-Aircraft, 100 variants, 6667 + 3333 photographs; the folder fgvc-aircraft-2013b; trainval and \
            test",
        side: None,
        side_in_files: false,
        keys: &["train", "val", "test", "label_column"],
        open: aircraft::open,
    },
    Entry {
        name: "list",
        summary: "Photographs named by CSV or text files of file and class: train.csv, val.csv, test.csv, or one file \
            with a column `split`",
        side: None,
        side_in_files: false,
        keys: &["train", "val", "test", "image_column", "label_column"],
        open: list::open,
    },
    Entry {
        name: "parquet",
        summary: "Images in Parquet as Hugging Face's `datasets` writes them: train-*.parquet, validation-*.parquet, \
            test-*.parquet, also in data/",
        side: None,
        side_in_files: true,
        keys: &["train", "val", "test", "image_column", "label_column"],
        open: parquet::open,
    },
];

/// All datasets.
#[must_use]
pub fn all() -> Vec<&'static Entry> {
    DATASETS.all()
}

/// The dataset `name`; the error for an unknown one names the nearest.
pub fn find(name: &str) -> Result<&'static Entry> {
    DATASETS.find(name).map_err(Error::invalid)
}

impl Named for Entry {
    fn name(&self) -> &'static str {
        self.name
    }
}

/// Opens the dataset `name`, whose files are at `path`. Small images are all decoded here, so a broken one is found at
/// once.
///
/// # Errors
/// The name is unknown, a path is missing or superfluous, `reading` has a key that the dataset does not take, the files
/// are not as expected, or there is only one class.
pub fn open(name: &str, path: Option<&Path>, reading: &Reading) -> Result<Splits> {
    let splits = examine(name, path, reading)?;
    faults::refuse(&splits.faults)?;
    Ok(splits)
}

/// Like [`open`], but files and folders that cannot be taken do not prevent a look at the others: they are the splits'
/// [`faults`](Splits::faults), and a split that consists of them is missing.
///
/// # Errors
/// As [`open`], for everything else.
pub fn examine(name: &str, path: Option<&Path>, reading: &Reading) -> Result<Splits> {
    let entry = find(name)?;
    if let Some(key) = reading.given().find(|key| !entry.keys.contains(key)) {
        let uses = if entry.keys.is_empty() { "none of these keys".to_owned() } else { entry.keys.join(", ") };
        return Err(Error::invalid(format!("dataset `{name}` does not take data.{key} (it takes {uses}); remove it")));
    }
    let mut splits = (entry.open)(&Source { name: entry.name, path, reading })?;
    let about = |splits: &Splits| splits.all().map(|(_, split)| split.describe()).next().unwrap_or_default();
    if let [only] = splits.classes()
        && !reading.one_class
        && splits.faults.is_empty()
    {
        return Err(Error::invalid(format!(
            "{} has only one class, `{only}`: is this the wrong level of the folder? (`data.one_class = true` allows \
             it)",
            about(&splits)
        )));
    }
    match &reading.classes {
        Some(names) => classes::order(&mut splits, names)?,
        None => splits.notices.extend(classes::numbered(splits.classes())),
    }
    Ok(splits)
}

impl<'a> Source<'a> {
    /// The path of a dataset that needs one; `what` describes it.
    fn path(&self, what: &str) -> Result<&'a Path> {
        let name = self.name;
        let path = self.path.ok_or_else(|| Error::invalid(format!("dataset `{name}` needs a path: {what}")))?;
        if path.exists() {
            Ok(path)
        } else {
            Err(Error::file(path, format!("{}; dataset `{name}` needs {what}", missing(path))))
        }
    }

    /// Like [`Source::path`], for a folder.
    fn folder(&self, what: &str) -> Result<&'a Path> {
        let path = self.path(what)?;
        if path.is_dir() {
            Ok(path)
        } else {
            Err(Error::file(path, format!("is not a folder; dataset `{}` needs {what}", self.name)))
        }
    }
}
