//! The datasets that can be opened by name.
mod cifar;
mod digits;
mod folder;
mod names;
mod table;

use std::path::Path;

pub use folder::Files;

use heterodyne_nn::{Error, Result};

use crate::Splits;

/// A dataset in the registry.
#[derive(Debug)]
pub struct Entry {
    /// What recipes call it.
    pub name: &'static str,
    /// One sentence for help and reference pages.
    pub summary: &'static str,
    /// Side of its images; `None` for photographs of many sizes.
    pub side: Option<u32>,
    open: fn(Option<&Path>) -> Result<Splits>,
}

const ALL: &[Entry] = &[
    Entry {
        name: "digits",
        summary: "Handwritten digits, 10 classes, 8 x 8 pixels, 1297 + 500 images; built in, needs no path",
        side: Some(8),
        open: digits::open,
    },
    Entry {
        name: "cifar10",
        summary: "CIFAR-10, 10 classes, 32 x 32 pixels, 50000 + 10000 images; official binary files or Parquet",
        side: Some(32),
        open: cifar::open10,
    },
    Entry {
        name: "cifar100",
        summary: "CIFAR-100, 100 classes, 32 x 32 pixels, 50000 + 10000 images; official binary files or Parquet",
        side: Some(32),
        open: cifar::open100,
    },
    Entry {
        name: "folder",
        summary: "Photographs as train/<class>/*.jpg and val/<class>/*.jpg (JPEG or PNG), such as ImageNet",
        side: None,
        open: folder::open,
    },
];

/// All datasets.
#[must_use]
pub fn all() -> &'static [Entry] {
    ALL
}

/// The dataset `name`; the error for an unknown one names the nearest.
pub fn find(name: &str) -> Result<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let nearest = ALL.iter().map(|e| (strsim::jaro_winkler(name, e.name), e.name)).max_by(|a, b| a.0.total_cmp(&b.0));
        let hint =
            nearest.filter(|(likeness, _)| *likeness > 0.6).map_or_else(String::new, |(_, near)| format!("; did you mean `{near}`?"));
        let known: Vec<&str> = ALL.iter().map(|e| e.name).collect();
        Error::invalid(format!("there is no dataset `{name}`{hint} (known: {})", known.join(", ")))
    })
}

/// Opens the dataset `name`, whose files lie at `path`. Small images are decoded here, all of them, so that a broken one is found now.
///
/// # Errors
/// The name is unknown, a path is missing or superfluous, or the files are not what they should be.
pub fn open(name: &str, path: Option<&Path>) -> Result<Splits> {
    (find(name)?.open)(path)
}

/// The path of a dataset that needs one.
fn required<'a>(path: Option<&'a Path>, name: &str, what: &str) -> Result<&'a Path> {
    let path = path.ok_or_else(|| Error::invalid(format!("dataset `{name}` needs a path: {what}")))?;
    if path.exists() { Ok(path) } else { Err(Error::file(path, format!("does not exist; dataset `{name}` needs {what}"))) }
}
