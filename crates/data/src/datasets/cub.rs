//! CUB-200-2011 (Wah et al. 2011): lists of images, classes and splits, numbered from 1.
use std::{collections::HashMap, path::Path, sync::Arc};

use heterodyne_nn::{Error, Result};

use super::{Source, pictures::Pictures};
use crate::{Splits, files};

const FOLDER: &str = "CUB_200_2011";

pub(super) fn open(source: &Source) -> Result<Splits> {
    let given = source.folder("the folder CUB_200_2011, with images.txt and images/")?;
    let root = [given.to_owned(), given.join(FOLDER)].into_iter().find(|folder| folder.join("images.txt").is_file());
    let root =
        root.ok_or_else(|| Error::file(given, "holds no images.txt; give the folder CUB_200_2011 of the archive"))?;
    let images = pairs(&root.join("images.txt"))?;
    let labels: HashMap<u64, String> = pairs(&root.join("image_class_labels.txt"))?.into_iter().collect();
    let training: HashMap<u64, String> = pairs(&root.join("train_test_split.txt"))?.into_iter().collect();
    let classes = pairs(&root.join("classes.txt"))?;
    let places: HashMap<u64, usize> = classes.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
    let names: Arc<[String]> = classes.into_iter().map(|(_, name)| name).collect();
    let mut samples = [Vec::new(), Vec::new()];
    for (id, file) in images {
        let unknown = |list: &str| Error::file(root.join(list), format!("has no entry for image {id}, {file}"));
        let label = labels
            .get(&id)
            .and_then(|label| places.get(&label.parse().ok()?))
            .ok_or_else(|| unknown("image_class_labels.txt"))?;
        let split = match training.get(&id).map(String::as_str) {
            Some("1") => 0,
            Some("0") => 1,
            _ => return Err(unknown("train_test_split.txt")),
        };
        samples[split].push((root.join("images").join(file), *label));
    }
    let mut splits = Splits::photographs();
    let [train, test] = samples;
    for (name, samples, place) in [("train", train, &mut splits.train), ("test", test, &mut splits.test)] {
        if let Some((first, _)) = samples.first().filter(|(first, _)| !first.is_file()) {
            return Err(Error::file(first, "does not exist; are the images unpacked?"));
        }
        let title = format!("CUB-200-2011 {name}");
        let (root, classes) = (root.join("images"), Arc::clone(&names));
        *place = Some(Arc::new(Pictures { title, root, classes, samples, decode: source.reading.decode }));
    }
    Ok(splits)
}

/// Reads lines of a number and its value.
fn pairs(path: &Path) -> Result<Vec<(u64, String)>> {
    let text = files::text(path)?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let pairs = lines.map(|(number, line)| {
        let pair = line.trim().split_once(' ').and_then(|(id, what)| Some((id.parse().ok()?, what.trim().to_owned())));
        pair.ok_or_else(|| Error::file(path, format!("line {number} is not a number and a name: `{line:.100}`")))
    });
    pairs.collect()
}
