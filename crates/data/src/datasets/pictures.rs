//! Photographs in individual files, decoded on request.
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use heterodyne_nn::{Error, Result};

use super::walk::{self, LeftOut};
use crate::{
    Dataset, Image, Stored,
    decode::{Decode, decode},
    files,
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
    /// A path does not exist or is not a file, or a folder holds images of unsupported formats or no images.
    pub fn open(paths: &[PathBuf], decode: Decode) -> Result<Self> {
        let mut found = Vec::new();
        let mut left = LeftOut::default();
        for path in paths {
            let about = std::fs::metadata(path).map_err(|_| Error::file(path, "does not exist"))?;
            if about.is_dir() {
                let pictures = walk::pictures(path, &mut left)?;
                if pictures.is_empty() {
                    return Err(Error::file(
                        path,
                        format!("holds no {} file{}", crate::decode::FORMATS, left.text(path)),
                    ));
                }
                found.extend(pictures);
            } else if about.is_file() {
                found.push(path.clone());
            } else {
                return Err(Error::file(path, format!("is {}, not a picture", files::what(about.file_type()))));
            }
        }
        Ok(Self { paths: found, classes: ["image".to_owned()], decode, left_out: left.text(Path::new("")) })
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
