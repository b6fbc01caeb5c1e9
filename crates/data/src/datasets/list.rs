//! Photographs that CSV or text files list, with their classes.
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use heterodyne_nn::{Error, Result};

use super::{
    Source,
    labels::{Classes, Row, Table},
    pictures::Pictures,
    split::{Split, Wanted},
    walk::plural,
};
use crate::{Dataset, Reading, Splits};

const SUFFIXES: [&str; 4] = ["csv", "tsv", "txt", "lst"];
/// The folders of images beside their list, and the suffixes of their names that the list may omit.
const BESIDE: [&str; 4] = ["", "images", "img", "imgs"];
const ENDINGS: [&str; 5] = ["", ".jpg", ".jpeg", ".png", ".JPEG"];

/// The rows of a split and the list that they come from.
struct Part {
    split: Split,
    list: PathBuf,
    rows: Vec<Row>,
    has_header: bool,
}

pub(super) fn open(source: &Source) -> Result<Splits> {
    let given = source.path("a folder with train.csv, val.csv or test.csv, or one such file")?;
    let reading = source.reading;
    let (root, parts) = match given.is_dir() {
        true => (given.to_owned(), in_folder(given, reading)?),
        false => {
            let parent = given.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (parent.to_owned(), in_file(given, reading)?)
        }
    };
    let learned = parts.iter().find(|part| part.split == Split::Train);
    let labelled = |part: &Part| part.rows.iter().map(|row| row.label.clone()).collect::<Vec<_>>();
    let labels: Vec<String> = learned.map_or_else(|| parts.iter().flat_map(labelled).collect(), labelled);
    let classes = Classes::of(labels.iter().map(String::as_str), reading);
    let mut splits = Splits::photographs();
    for part in parts {
        let samples = part.samples(&root, &classes)?;
        splits.notices.push(format!(
            "{}: {} {} in {}, of {} classes",
            part.split.key(),
            samples.len(),
            plural(samples.len(), "image"),
            part.list.display(),
            classes.names.len()
        ));
        let title = format!("list {} ({})", part.list.display(), part.split.key());
        let (root, classes) = (root.clone(), Arc::clone(&classes.names));
        let dataset: Arc<dyn Dataset> = Arc::new(Pictures { title, root, classes, samples, decode: reading.decode });
        part.split.fill(&mut splits, dataset);
    }
    Ok(splits)
}

/// One list for each split.
fn in_folder(root: &Path, reading: &Reading) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for split in Split::ALL {
        let list = match split.wanted(reading) {
            Wanted::Nothing => continue,
            Wanted::Named(name) => match root.join(name) {
                path if path.is_file() => path,
                path => {
                    return Err(Error::file(
                        path,
                        format!("is not a file; data.{} must name the list of a split", split.key()),
                    ));
                }
            },
            Wanted::Usual(names) => {
                let paths = names
                    .iter()
                    .flat_map(|name| SUFFIXES.iter().map(move |suffix| root.join(format!("{name}.{suffix}"))));
                let found: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
                match found.len() {
                    0 => continue,
                    1 => found[0].clone(),
                    _ => {
                        let message = format!(
                            "and {} are lists for one split: choose one with data.{}",
                            found[1].display(),
                            split.key()
                        );
                        return Err(Error::file(&found[0], message));
                    }
                }
            }
        };
        let Table { path, rows, has_header } = Table::read(&list, reading)?;
        parts.push(Part { split, list: path, rows, has_header });
    }
    if parts.is_empty() {
        let files: Vec<String> = fs::read_dir(root)
            .map_err(|e| Error::file(root, e))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| SUFFIXES.iter().any(|suffix| name.ends_with(suffix)))
            .collect();
        let there = if files.is_empty() { "no lists".to_owned() } else { files.join(", ") };
        return Err(Error::file(
            root,
            format!(
                "holds no list named train, val or test (.csv, .tsv, .txt; found {there}); name the lists in \
                 data.train, data.val and data.test, or give the path of one list"
            ),
        ));
    }
    Ok(parts)
}

/// One list for all splits, or for one.
fn in_file(path: &Path, reading: &Reading) -> Result<Vec<Part>> {
    let table = Table::read(path, reading)?;
    if !table.has_splits() {
        let given = |split: Split| matches!(split.wanted(reading), Wanted::Named(_));
        let split = Split::ALL.into_iter().find(|split| given(*split)).unwrap_or(Split::Train);
        return Ok(vec![Part { split, list: table.path, rows: table.rows, has_header: table.has_header }]);
    }
    let mut parts: Vec<Part> = Vec::new();
    for row in table.rows {
        let name = row.split.as_deref().unwrap_or_default();
        let Some(split) = Split::of(name, reading) else {
            if Split::ALL.into_iter().any(|split| split.usual().contains(&name.to_lowercase().as_str())) {
                // The key of this split leaves it out.
                continue;
            }
            let message = format!(
                "line {} belongs to the unknown split `{name:.60}`: name it in data.train, data.val or data.test",
                row.line
            );
            return Err(Error::file(path, message));
        };
        match parts.iter_mut().find(|part| part.split == split) {
            Some(part) => part.rows.push(row),
            None => parts.push(Part { split, list: path.to_owned(), rows: vec![row], has_header: table.has_header }),
        }
    }
    Ok(parts)
}

impl Part {
    /// The files and the numbers of their classes.
    fn samples(&self, root: &Path, classes: &Classes) -> Result<Vec<(PathBuf, usize)>> {
        let (beside, ending) = self.found(root)?;
        let mut samples = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let file = beside.join(format!("{}{ending}", row.file));
            if !file.is_file() {
                return Err(Error::file(
                    file,
                    format!("does not exist; line {} of {} names it", row.line, self.list.display()),
                ));
            }
            samples.push((file, classes.number(&row.label, || format!("{}, line {}", self.list.display(), row.line))?));
        }
        Ok(samples)
    }

    /// The folder of the list's first file, and the suffix that the list omits.
    fn found(&self, root: &Path) -> Result<(PathBuf, &'static str)> {
        let parent = self.list.parent().unwrap_or(root);
        let folders = [root, parent].into_iter().flat_map(|folder| {
            BESIDE.into_iter().chain(self.split.usual().iter().copied()).map(|sub| folder.join(sub))
        });
        let first = &self.rows[0];
        for folder in folders {
            if let Some(ending) =
                ENDINGS.into_iter().find(|ending| folder.join(format!("{}{ending}", first.file)).is_file())
            {
                return Ok((folder, ending));
            }
        }
        let header = if self.has_header {
            ""
        } else {
            "; if the first line names the columns, say which with data.image_column and data.label_column"
        };
        Err(Error::file(
            &self.list,
            format!("names `{:.200}` in line {}, which is not in {}{header}", first.file, first.line, root.display()),
        ))
    }
}
