//! Photographs in class folders, decoded when they are asked for.
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use heterodyne_nn::{Error, Result};

use super::required;
use crate::{Dataset, Image, Splits, Stored, decode::decode};

/// ImageNet's statistics, which pretrained networks expect.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

const READ: [&str; 3] = ["jpg", "jpeg", "png"];
/// Formats that other loaders take; leaving them out without a word would change the dataset.
const NOT_READ: [&str; 9] = ["webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "avif", "heic"];
const TEST_FOLDERS: [&str; 3] = ["val", "validation", "test"];
/// Deeper nesting is a loop of links.
const MAX_DEPTH: usize = 16;

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    classes: Arc<[String]>,
    /// File and class, in the order of the paths.
    samples: Vec<(PathBuf, usize)>,
}

pub(super) fn open(path: Option<&Path>) -> Result<Splits> {
    let root = required(path, "folder", "the folder with train/<class>/ and val/<class>/")?;
    let train = root.join("train");
    if !train.is_dir() {
        return Err(Error::file(train, "is not a folder; the photographs of class c belong in train/c/"));
    }
    let Some(test) = TEST_FOLDERS.iter().map(|name| root.join(name)).find(|folder| folder.is_dir()) else {
        return Err(Error::file(root, format!("has no folder {}", TEST_FOLDERS.join(" or "))));
    };
    let classes: Arc<[String]> = class_folders(&train)?.into();
    for class in class_folders(&test)? {
        if !classes.contains(&class) {
            let nearest = classes.iter().map(|known| (strsim::jaro_winkler(&class, known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
            let hint =
                nearest.filter(|(likeness, _)| *likeness > 0.85).map_or_else(String::new, |(_, near)| format!("; did you mean `{near}`?"));
            return Err(Error::file(test.join(class), format!("is a class that {} does not have{hint}", train.display())));
        }
    }
    let split =
        |root: PathBuf| Ok::<_, Error>(Arc::new(Folder { samples: samples(&root, &classes)?, root, classes: Arc::clone(&classes) }));
    Ok(Splits { train: split(train)?, test: split(test)?, side: None, mean: MEAN, std: STD })
}

/// Names of the sub-folders in code point order; hidden ones (a leading dot) are no classes.
fn class_folders(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in entries(root)? {
        if path.is_dir() {
            let name = path.file_name().and_then(|name| name.to_str());
            names.push(name.ok_or_else(|| Error::file(&path, "is a class name that is not UTF-8; rename it"))?.to_owned());
        }
    }
    if names.is_empty() {
        return Err(Error::file(root, "holds no class folders"));
    }
    Ok(names)
}

/// What a folder holds, sorted, without hidden entries.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::file(folder, e))? {
        let entry = entry.map_err(|e| Error::file(folder, e))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The files of every class that is there; a class of the train split may be missing in the test split, but none may be empty.
fn samples(root: &Path, classes: &[String]) -> Result<Vec<(PathBuf, usize)>> {
    let mut samples = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let folder = root.join(class);
        if !folder.is_dir() {
            continue;
        }
        let before = samples.len();
        collect(&folder, label, 0, &mut samples)?;
        if samples.len() == before {
            return Err(Error::file(folder, "is a class folder without a JPEG or PNG file; fill it or remove it"));
        }
    }
    Ok(samples)
}

fn collect(folder: &Path, label: usize, depth: usize, samples: &mut Vec<(PathBuf, usize)>) -> Result<()> {
    if depth == MAX_DEPTH {
        return Err(Error::file(folder, format!("lies more than {MAX_DEPTH} folders deep; is there a loop of links?")));
    }
    for path in entries(folder)? {
        if path.is_dir() {
            collect(&path, label, depth + 1, samples)?;
            continue;
        }
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).unwrap_or_default();
        if READ.contains(&extension.as_str()) {
            samples.push((path, label));
        } else if NOT_READ.contains(&extension.as_str()) {
            return Err(Error::file(path, format!("{extension} images are not read; convert it to JPEG or PNG, or remove it")));
        }
    }
    Ok(())
}

impl Dataset for Folder {
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
        read(path)
    }

    fn stored(&self, index: usize) -> Stored<'_> {
        self.samples.get(index).map_or(Stored::Elsewhere, |(path, _)| Stored::File(path, path.strip_prefix(&self.root).unwrap_or(path)))
    }

    fn describe(&self) -> String {
        format!("folder {}, {} images", self.root.display(), self.samples.len())
    }
}

/// The photograph in a file.
fn read(path: &Path) -> Result<Image> {
    let bytes = fs::read(path).map_err(|e| Error::file(path, e))?;
    decode(&bytes).map_err(|message| Error::file(path, message))
}

/// Photographs without classes: one class, "image", stands for all.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    classes: [String; 1],
}

impl Files {
    /// The files among `paths`, and all JPEG and PNG files in and below the folders among them, sorted within a folder.
    ///
    /// # Errors
    /// A path does not exist, a folder holds images of formats that are not read, or there is no image at all.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut found = Vec::new();
        for path in paths {
            if path.is_dir() {
                let before = found.len();
                collect(path, 0, 0, &mut found)?;
                if found.len() == before {
                    return Err(Error::file(path, "holds no JPEG or PNG file"));
                }
            } else if path.is_file() {
                found.push((path.clone(), 0));
            } else {
                return Err(Error::file(path, "does not exist"));
            }
        }
        Ok(Self { paths: found.into_iter().map(|(path, _)| path).collect(), classes: ["image".to_owned()] })
    }

    /// The files in the order of the samples.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
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
        let path = self.paths.get(index).ok_or_else(|| Error::invalid(format!("there is no sample {index} in {}", self.describe())))?;
        read(path)
    }

    fn describe(&self) -> String {
        format!("{} images", self.paths.len())
    }
}
