//! Photographs in class folders.
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use heterodyne_nn::{Error, Result};
use heterodyne_settings::did_you_mean;

use super::{
    Source,
    labels::{Classes, Labels},
    pictures::Pictures,
    split::{Split, Wanted},
    walk::{self, Entry, LeftOut, plural},
};
use crate::{Dataset, Reading, Splits, classes, decode};

pub(super) fn open(source: &Source) -> Result<Splits> {
    let root = source.folder("the folder with train/CLASS/ and val/CLASS/")?;
    let labels = source.reading.labels.as_deref().map(|list| Labels::read(list, source.reading)).transpose()?;
    splits(root, &places(root, source.reading)?, source.reading, labels.as_ref())
}

/// The splits of a root, with their folders.
pub(super) type Places = Vec<(Split, PathBuf)>;

/// Finds the folders of the splits.
pub(super) fn places(root: &Path, reading: &Reading) -> Result<Places> {
    let mut found = Places::new();
    for split in Split::ALL {
        found.extend(place(root, split, reading)?.map(|folder| (split, folder)));
    }
    if found.is_empty() {
        return Err(Error::file(root, nothing_found(root)?));
    }
    for (split, folder) in &found {
        if let Some((other, inner)) = found.iter().find(|(other, inner)| other != split && inner.starts_with(folder)) {
            return Err(Error::file(
                inner,
                format!(
                    "data.{} is inside {} (data.{}); the same images would be in both",
                    other.key(),
                    folder.display(),
                    split.key()
                ),
            ));
        }
    }
    Ok(found)
}

fn place(root: &Path, split: Split, reading: &Reading) -> Result<Option<PathBuf>> {
    let usual = match split.wanted(reading) {
        Wanted::Nothing => return Ok(None),
        Wanted::Named(name) => {
            let folder = if name == "." { root.to_owned() } else { root.join(name) };
            let known = || walk::folders(root).map(|folders| names(&folders).join(", ")).unwrap_or_default();
            let missing = || {
                Error::file(
                    &folder,
                    format!("is not a folder (data.{} = \"{name}\"); the folders are {}", split.key(), known()),
                )
            };
            return if folder.is_dir() { Ok(Some(folder)) } else { Err(missing()) };
        }
        Wanted::Usual(usual) => usual,
    };
    let named = |folder: &&PathBuf| usual.contains(&name(folder).to_lowercase().as_str());
    let folders = walk::folders(root)?;
    let found: Vec<&PathBuf> = folders.iter().filter(named).collect();
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [..] => Err(Error::file(
            root,
            format!(
                "has {} for one split: choose one with data.{}",
                names(found.iter().copied()).join(" and "),
                split.key()
            ),
        )),
    }
}

/// Describes a root without splits, and what to do about it.
fn nothing_found(root: &Path) -> Result<String> {
    let usual = "has no folder train, val (valid, validation) or test";
    let folders = walk::folders(root)?;
    for folder in &folders {
        let inner = walk::folders(folder)?;
        if let Some(split) =
            inner.iter().find(|path| Split::ALL.iter().any(|s| s.usual().contains(&name(path).to_lowercase().as_str())))
        {
            return Ok(format!("{usual}, but {} has one ({}): give that path", folder.display(), name(split)));
        }
    }
    if folders.is_empty() {
        return Ok(format!(
            "{usual}; put the photographs of class c into train/c/, or list files and classes in a CSV file (dataset \
             `list`)"
        ));
    }
    Ok(format!(
        "{usual}, but {} (the first are {}): move the training images below train/ and the validation images below \
         val/. If the folders are the classes of one split, `data.test = \".\"` evaluates on them and `data.train = \
         \".\"` with `data.holdout` trains on them; if they are splits, name them in data.train, data.val and \
         data.test",
        format_args!("{} {}", folders.len(), plural(folders.len(), "folder")),
        names(folders.iter().take(3)).join(", ")
    ))
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn names<'a>(folders: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
    folders.into_iter().map(|folder| name(folder)).collect()
}

/// The contents of a split's folder.
struct Found {
    split: Split,
    root: PathBuf,
    /// Name and pictures of each sub-folder.
    folders: Vec<(String, Vec<PathBuf>)>,
    /// Pictures outside the sub-folders.
    loose: Vec<PathBuf>,
    left: LeftOut,
}

impl Found {
    fn look(split: Split, root: &Path) -> Self {
        let mut found =
            Self { split, root: root.to_owned(), folders: Vec::new(), loose: Vec::new(), left: LeftOut::default() };
        for entry in walk::list(root, &mut found.left) {
            match entry {
                Entry::Picture(path) => found.loose.push(path),
                Entry::Folder(path) => match path.file_name().and_then(|name| name.to_str()) {
                    Some(name) => found.folders.push((name.to_owned(), walk::pictures(&path, &mut found.left))),
                    None => {
                        let message = "has a name that is not UTF-8 and cannot be a class; rename it";
                        found.left.faults.push(Error::file(&path, message));
                    }
                },
            }
        }
        found
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.folders.iter().map(|(name, _)| name)
    }

    /// All pictures, at any depth.
    fn all(&mut self) -> Vec<PathBuf> {
        let mut all = std::mem::take(&mut self.loose);
        all.extend(std::mem::take(&mut self.folders).into_iter().flat_map(|(_, pictures)| pictures));
        all.sort();
        all
    }
}

/// Reads the splits at `places`. `labels` gives the classes of pictures outside class folders. Files and folders that
/// cannot be taken are the splits' faults.
pub(super) fn splits(root: &Path, places: &Places, reading: &Reading, labels: Option<&Labels>) -> Result<Splits> {
    let found: Vec<_> = places.iter().map(|(split, folder)| Found::look(*split, folder)).collect();
    let classes = classes_of(&found, reading, labels)?;
    let mut splits = Splits::photographs();
    for mut part in found {
        let flat = labels.filter(|_| part.names().all(|name| classes.place(name).is_none()));
        let samples = match flat {
            Some(labels) => labels.number(part.all(), &part.root, root, &classes)?,
            None => in_folders(&mut part, &classes, reading)?,
        };
        if samples.is_empty() && part.left.faults.is_empty() {
            let left = part.left.text(&part.root);
            part.left.faults.push(Error::file(&part.root, format!("holds no {} file{left}", decode::FORMATS)));
        }
        splits.faults.extend(part.left.faults.iter().map(Error::to_string));
        if samples.is_empty() {
            continue;
        }
        let of_classes = samples.iter().map(|(_, class)| class).collect::<std::collections::HashSet<_>>().len();
        splits.notices.push(format!(
            "{}: {} {} in {of_classes} {}{}",
            part.split.key(),
            samples.len(),
            plural(samples.len(), "image"),
            plural(of_classes, "class").replace("classs", "classes"),
            part.left.text(&part.root)
        ));
        let dataset: Arc<dyn Dataset> = Arc::new(Pictures {
            title: format!("folder {}", part.root.display()),
            root: part.root,
            classes: Arc::clone(&classes.names),
            samples,
            decode: reading.decode,
        });
        part.split.fill(&mut splits, dataset);
    }
    Ok(splits)
}

/// The classes: the training folders, else the folders of the other splits, else those of the list.
fn classes_of(found: &[Found], reading: &Reading, labels: Option<&Labels>) -> Result<Classes> {
    let train = found.iter().find(|part| part.split == Split::Train);
    let mut names: Vec<String> = match train {
        Some(train) => train.names().cloned().collect(),
        None => found.iter().flat_map(Found::names).cloned().collect(),
    };
    names.sort();
    names.dedup();
    match labels {
        // Folders that the list does not name are not classes: Tiny ImageNet's val/images/, for example.
        Some(labels) if train.is_none_or(|train| train.folders.is_empty()) => {
            let listed = Classes::of(labels.classes(), reading);
            Ok(if names.iter().any(|name| listed.place(name).is_some()) { Classes::listed(names) } else { listed })
        }
        _ if names.is_empty() => {
            let first = &found[0];
            let pictures = match first.loose.len() {
                0 => format!("holds no class folders{}", first.left.text(&first.root)),
                n => format!("holds {n} {} and no class folders", plural(n, "picture")),
            };
            Err(Error::file(
                &first.root,
                format!(
                    "{pictures}: sort the pictures into one folder per class ({}/CLASS/x.jpg), or give a list of \
                     files and classes with data.labels; \
                     `data.{} = \"\"` leaves the split out",
                    name(&first.root),
                    first.split.key()
                ),
            ))
        }
        _ => Ok(Classes::listed(names)),
    }
}

/// The pictures of a split's class folders. A class folder that cannot be taken is a fault of the split.
///
/// # Errors
/// The split has no class folders.
fn in_folders(part: &mut Found, classes: &Classes, reading: &Reading) -> Result<Vec<(PathBuf, usize)>> {
    let mut samples = Vec::new();
    let folders = std::mem::take(&mut part.folders);
    if folders.is_empty() {
        return Err(Error::file(
            &part.root,
            format!(
                "holds {} {} and no class folders: sort them into one folder per class, give a list of files and \
                 classes with data.labels, or leave the split out with \
                 `data.{} = \"\"`",
                part.loose.len(),
                plural(part.loose.len(), "picture"),
                part.split.key()
            ),
        ));
    }
    for (name, pictures) in folders {
        let folder = part.root.join(&name);
        let Some(label) = classes.place(&name) else {
            let hint = did_you_mean(&name, classes.names.iter().map(String::as_str));
            part.left.faults.push(Error::file(
                folder,
                format!("is not a class of the training images ({}){hint}", classes::list(classes.names.iter())),
            ));
            continue;
        };
        // A folder whose only entries are faults is not empty.
        let faulty =
            part.left.faults.iter().any(|e| matches!(e, Error::File { path, .. } if path.starts_with(&folder)));
        if pictures.is_empty() && !reading.empty_classes && !faulty {
            let message = format!(
                "is a class folder without a picture{}: fill it, remove it, or keep it as an empty class with \
                 `data.empty_classes = true`",
                part.left.text(&part.root)
            );
            part.left.faults.push(Error::file(folder, message));
        }
        samples.extend(pictures.into_iter().map(|path| (path, label)));
    }
    for picture in std::mem::take(&mut part.loose) {
        part.left.file(picture);
    }
    Ok(samples)
}
