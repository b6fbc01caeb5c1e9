//! How the files of a dataset are to be read.
use std::path::PathBuf;

use crate::decode::Decode;

/// How a dataset is read: keys of a recipe's `[data]` besides its name and path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Name of the training images: a folder, a list, or the start of file names. `None` looks for the usual names; an
    /// empty name leaves the split out.
    pub train: Option<String>,
    /// The same for the images to choose on.
    pub val: Option<String>,
    /// The same for the images to report on.
    pub test: Option<String>,
    /// All classes in the order of their numbers.
    pub classes: Option<Vec<String>>,
    /// A list of files and classes, for images that are not in class folders.
    pub labels: Option<PathBuf>,
    /// The column that holds images, or the names of their files.
    pub image_column: Option<String>,
    /// The column that holds classes.
    pub label_column: Option<String>,
    /// Whether a class folder may be empty.
    pub empty_classes: bool,
    /// Whether one class is enough.
    pub one_class: bool,
    /// How pictures are decoded.
    pub decode: Decode,
}

impl Reading {
    /// The given keys that not every dataset takes.
    pub(crate) fn given(&self) -> impl Iterator<Item = &'static str> {
        let keys = [
            ("train", self.train.is_some()),
            ("val", self.val.is_some()),
            ("test", self.test.is_some()),
            ("labels", self.labels.is_some()),
            ("image_column", self.image_column.is_some()),
            ("label_column", self.label_column.is_some()),
            ("empty_classes", self.empty_classes),
        ];
        keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key)
    }
}
