//! FGVC-Aircraft (Maji et al. 2013): lists of images with their variant, family or manufacturer.
use std::{path::Path, sync::Arc};

use heterodyne_nn::{Error, Result};

use super::{
    Source,
    labels::Classes,
    pictures::Pictures,
    split::{Split, Wanted},
};
use crate::{Dataset, Splits, files};

/// The levels of labels, each with the file that lists its classes.
const LEVELS: [(&str, &str); 3] =
    [("variant", "variants.txt"), ("family", "families.txt"), ("manufacturer", "manufacturers.txt")];
const FOLDERS: [&str; 3] = ["", "data", "fgvc-aircraft-2013b/data"];

pub(super) fn open(source: &Source) -> Result<Splits> {
    let given = source.folder("the folder fgvc-aircraft-2013b, with data/variants.txt and data/images/")?;
    let data = FOLDERS.iter().map(|sub| given.join(sub)).find(|folder| folder.join(LEVELS[0].1).is_file());
    let data = data.ok_or_else(|| {
        Error::file(given, "holds no variants.txt; give the folder fgvc-aircraft-2013b of the archive")
    })?;
    let level = source.reading.label_column.as_deref().unwrap_or(LEVELS[0].0);
    let Some((level, list)) = LEVELS.iter().find(|(name, _)| *name == level) else {
        return Err(Error::invalid(format!(
            "data.label_column = \"{level}\" is not a label of FGVC-Aircraft; use variant, family or manufacturer"
        )));
    };
    let names = lines(&data.join(list))?;
    let classes = Classes::listed(names);
    let mut splits = Splits::photographs();
    for split in Split::ALL {
        // As in the paper and the work since: train on both, report on test. For model selection, train and val can be
        // named.
        let name = match (split.wanted(source.reading), split) {
            (Wanted::Nothing, _) => continue,
            (Wanted::Named(name), _) => name,
            (Wanted::Usual(_), Split::Train) => "trainval",
            (Wanted::Usual(_), Split::Val) => continue,
            (Wanted::Usual(_), Split::Test) => "test",
        };
        let path = data.join(format!("images_{level}_{name}.txt"));
        let mut samples = Vec::new();
        for line in lines(&path)? {
            let (id, class) =
                line.split_once(' ').ok_or_else(|| Error::file(&path, format!("has no class in `{line:.100}`")))?;
            let number = classes.number(class.trim(), || path.display().to_string())?;
            samples.push((data.join("images").join(format!("{id}.jpg")), number));
        }
        if let Some((first, _)) = samples.first().filter(|(first, _)| !first.is_file()) {
            return Err(Error::file(first, "does not exist; are the images unpacked?"));
        }
        let title = format!("FGVC-Aircraft {name} ({level})");
        let (root, classes) = (data.join("images"), Arc::clone(&classes.names));
        let dataset: Arc<dyn Dataset> =
            Arc::new(Pictures { title, root, classes, samples, decode: source.reading.decode });
        split.fill(&mut splits, dataset);
    }
    Ok(splits)
}

fn lines(path: &Path) -> Result<Vec<String>> {
    Ok(files::text(path)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
