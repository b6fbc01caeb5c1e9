//! Photographs in individual files, decoded on request.
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use heterodyne_nn::{Error, Result};

use super::walk::{self, LeftOut};
use crate::{
    Dataset, Image, Stored,
    decode::{Decode, decode},
    faults, files,
};

/// Files and their classes.
#[derive(Debug)]
pub(super) struct Pictures {
    /// A short description.
    pub title: String,
    /// The folder that the files' names are relative to.
    pub root: PathBuf,
    pub classes: Arc<[String]>,
    /// File and class, in the order of the samples.
    pub samples: Vec<(PathBuf, usize)>,
    pub decode: Decode,
}

impl Dataset for Pictures {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.samples[index].1
    }

    fn image(&self, index: usize) -> Result<Image> {
        let Some((path, _)) = self.samples.get(index) else {
            return Err(Error::invalid(format!("there is no sample {index} in {}", self.describe())));
        };
        read(path, &self.decode)
    }

    fn stored(&self, index: usize) -> Stored<'_> {
        self.samples
            .get(index)
            .map_or(Stored::Elsewhere, |(path, _)| Stored::File(path, path.strip_prefix(&self.root).unwrap_or(path)))
    }

    fn describe(&self) -> String {
        format!("{}, {} images", self.title, self.samples.len())
    }
}

/// The photograph in a file.
fn read(path: &Path, how: &Decode) -> Result<Image> {
    decode(&files::read(path)?, how).map_err(|message| Error::file(path, message))
}

/// Photographs without classes: all belong to one class, "image".
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    classes: [String; 1],
    decode: Decode,
    left_out: String,
}

impl Files {
    /// Opens the files among `paths`, and all pictures in and below the folders among them, sorted within a folder.
    ///
    /// # Errors
    /// All that [`Files::find`] returns as faults.
    pub fn open(paths: &[PathBuf], decode: Decode) -> Result<Self> {
        let (files, faults) = Self::find(paths, decode);
        faults::refuse(&faults)?;
        Ok(files)
    }

    /// Like [`Files::open`], but returns what cannot be taken, which may leave no file: a path that does not exist or
    /// is not a file, a folder without pictures, and in folders what [`folder`](crate::open) refuses.
    #[must_use]
    pub fn find(paths: &[PathBuf], decode: Decode) -> (Self, Vec<Error>) {
        let mut found = Vec::new();
        let mut left = LeftOut::default();
        for path in paths {
            match std::fs::metadata(path) {
                Err(e) if e.kind() == ErrorKind::NotFound => left.faults.push(Error::file(path, "does not exist")),
                Err(e) => left.faults.push(Error::file(path, e)),
                Ok(about) if about.is_dir() => {
                    let faults = left.faults.len();
                    let pictures = walk::pictures(path, &mut left);
                    if pictures.is_empty() && left.faults.len() == faults {
                        let message = format!("holds no {} file{}", crate::decode::FORMATS, left.text(path));
                        left.faults.push(Error::file(path, message));
                    }
                    found.extend(pictures);
                }
                Ok(about) if about.is_file() => found.push(path.clone()),
                Ok(about) => {
                    let message = format!("is {}, not a picture", files::what(about.file_type()));
                    left.faults.push(Error::file(path, message));
                }
            }
        }
        let left_out = left.text(Path::new(""));
        (Self { paths: found, classes: ["image".to_owned()], decode, left_out }, left.faults)
    }

    /// The files in the order of the samples.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Describes the files that were skipped in folders; empty if there are none.
    #[must_use]
    pub fn left_out(&self) -> &str {
        &self.left_out
    }
}

impl Dataset for Files {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, _: usize) -> usize {
        0
    }

    fn image(&self, index: usize) -> Result<Image> {
        let path = self
            .paths
            .get(index)
            .ok_or_else(|| Error::invalid(format!("there is no sample {index} in {}", self.describe())))?;
        read(path, &self.decode)
    }

    fn describe(&self) -> String {
        format!("{} images", self.paths.len())
    }
}
