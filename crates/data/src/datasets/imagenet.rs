//! ImageNet-1K (Russakovsky et al. 2015): training folders by WordNet id; validation in folders, or flat with the
//! development kit's ground truth or with a list of files and classes.
use std::path::{Path, PathBuf};

use heterodyne_nn::{Error, Result};

use super::{
    Source, folder,
    labels::Labels,
    mat,
    split::Split,
    walk::{self, Entry, LeftOut},
};
use crate::{Splits, faults, files};

/// Folders in which archives and Kaggle keep the images, below the root.
const IMAGES: [&str; 4] = ["", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC"];
/// Lists of the validation files, below the root.
const LISTS: [&str; 5] =
    ["LOC_val_solution.csv", "val.txt", "val.csv", "val_labels.csv", "ILSVRC2012_validation_labels.csv"];
/// Folders that may hold the development kit, below the root.
const KITS: [&str; 4] = ["ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12", "devkit/data", "data"];
const TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
const SYNSETS: &str = "meta.mat";

pub(super) fn open(source: &Source) -> Result<Splits> {
    let root = source.folder("the folder with train/WNID/ and val/")?;
    let reading = source.reading;
    let images = IMAGES
        .iter()
        .map(|sub| root.join(sub))
        .find(|folder| Split::ALL.iter().any(|split| has(folder, *split, source)));
    let images = images.unwrap_or_else(|| root.to_owned());
    let mut places = folder::places(&images, reading)?;
    // Its test images have no public labels.
    if reading.test.is_none() {
        places.retain(|(split, _)| *split != Split::Test);
    }
    let given = reading.labels.clone().or_else(|| beside(root, &LISTS));
    let flat = places.iter().find(|(split, folder)| *split != Split::Train && is_flat(folder));
    let labels = match (flat, given) {
        (None, None) => None,
        (None, Some(_)) if reading.labels.is_none() => None,
        (_, Some(list)) => Some(read(&list, flat.map(|(_, folder)| folder.as_path()), source)?),
        (Some((_, folder)), None) => {
            match KITS.iter().map(|kit| root.join(kit).join(TRUTH)).find(|truth| truth.is_file()) {
                Some(truth) => Some(ground_truth(&truth, folder)?),
                None => {
                    return Err(Error::file(
                        folder,
                        format!(
                            "holds pictures but no class folders: sort them into folders by WordNet id, put the \
                             development kit (ILSVRC2012_devkit_t12/data/{TRUTH} and {SYNSETS}) or Kaggle's \
                             LOC_val_solution.csv into {}, or give a list of files and classes with data.labels",
                            root.display()
                        ),
                    ));
                }
            }
        }
    };
    folder::splits(&images, &places, reading, labels.as_ref())
}

fn has(folder: &Path, split: Split, source: &Source) -> bool {
    let folders = walk::folders(folder).unwrap_or_default();
    folders.iter().filter_map(|path| path.file_name()?.to_str()).any(|name| split.is(name, source.reading))
}

fn beside(root: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().map(|name| root.join(name)).find(|path| path.is_file())
}

/// Whether a folder holds pictures but no sub-folders.
fn is_flat(folder: &Path) -> bool {
    let entries = walk::list(folder, &mut LeftOut::default());
    !entries.is_empty() && entries.iter().all(|entry| matches!(entry, Entry::Picture(_)))
}

/// The labels that `data.labels` names: a list of files and classes, or the ground truth of the development kit.
fn read(list: &Path, flat: Option<&Path>, source: &Source) -> Result<Labels> {
    let is_truth = list.file_name().is_some_and(|name| name == TRUTH);
    match flat {
        Some(folder) if is_truth => ground_truth(list, folder),
        _ => Labels::read(list, source.reading),
    }
}

/// The development kit's ground truth: line i is the class number (ILSVRC2012_ID, from 1) of the i-th validation image
/// in the order of names. meta.mat beside it maps the numbers to WordNet ids.
fn ground_truth(path: &Path, val: &Path) -> Result<Labels> {
    let meta = path.with_file_name(SYNSETS);
    let synsets = mat::structs(&meta, "synsets", &["ILSVRC2012_ID", "WNID"])?;
    let mut wnids = std::collections::HashMap::new();
    for row in &synsets {
        let [mat::Value::Number(id), mat::Value::Text(wnid)] = &row[..] else {
            return Err(Error::file(meta, "does not give each synset a number and a WordNet id"));
        };
        wnids.insert(*id as i64, wnid.clone());
    }
    let text = files::text(path)?;
    let numbers: Vec<&str> = text.split_whitespace().collect();
    let mut left = LeftOut::default();
    let pictures = walk::pictures(val, &mut left);
    faults::refuse(&left.faults)?;
    if numbers.len() != pictures.len() {
        return Err(Error::file(
            path,
            format!(
                "has {} numbers for the {} pictures in {}; the counts must agree",
                numbers.len(),
                pictures.len(),
                val.display()
            ),
        ));
    }
    let mut pairs = Vec::with_capacity(pictures.len());
    for ((line, number), picture) in (1..).zip(numbers).zip(pictures) {
        let wnid = number.parse::<i64>().ok().and_then(|number| wnids.get(&number));
        let wnid = wnid.ok_or_else(|| {
            Error::file(path, format!("line {line} is `{number:.40}`, which is not in {}", meta.display()))
        })?;
        pairs.push((picture.file_name().unwrap_or_default().to_string_lossy().into_owned(), wnid.clone()));
    }
    Labels::of(path, pairs)
}
