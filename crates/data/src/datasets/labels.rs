//! Tables of files and classes in CSV and text, and the classes that they name.
use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use heterodyne_nn::{Error, Result};
use heterodyne_settings::did_you_mean;

use crate::{Reading, classes, files};

/// Usual names of the columns for files, classes and splits, in lower case.
const IMAGE: [&str; 16] = [
    "file",
    "filename",
    "file_name",
    "image",
    "img",
    "image_id",
    "imageid",
    "id",
    "path",
    "filepath",
    "file_path",
    "filepaths",
    "image_path",
    "image_name",
    "fname",
    "images",
];
const LABEL: [&str; 15] = [
    "label",
    "labels",
    "class",
    "class_name",
    "classname",
    "class_id",
    "class_index",
    "class_idx",
    "category",
    "target",
    "label_name",
    "predictionstring",
    "species",
    "breed",
    "y",
];
const SPLIT: [&str; 6] = ["split", "set", "subset", "partition", "data set", "dataset"];

/// A line of a table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub file: String,
    pub label: String,
    /// The value in the split column, if there is one.
    pub split: Option<String>,
    /// Line number, from 1.
    pub line: u64,
}

/// A table of files and classes.
#[derive(Debug)]
pub(super) struct Table {
    pub path: PathBuf,
    pub rows: Vec<Row>,
    /// Whether the first line names the columns.
    pub has_header: bool,
}

impl Table {
    /// Reads a table: columns separated by commas, semicolons or tabs (with quotes as in CSV), or a file name and a
    /// class separated by spaces.
    ///
    /// # Errors
    /// The table cannot be read, has fewer than two columns, or its columns cannot be identified.
    pub fn read(path: &Path, reading: &Reading) -> Result<Self> {
        let text = files::text(path)?;
        let failed = |message: String| Error::file(path, message);
        let first = text.lines().find(|line| !line.trim().is_empty()).ok_or_else(|| failed("is empty".to_owned()))?;
        let records = match divider(first) {
            Some(divider) => divided(&text, divider).map_err(failed)?,
            None => spaced(&text),
        };
        let columns = columns(&records[0].1, reading).map_err(failed)?;
        let has_header = columns.is_some();
        let (file, label, split) = columns.unwrap_or((0, 1, None));
        let mut rows = Vec::with_capacity(records.len());
        for (line, fields) in records.into_iter().skip(usize::from(has_header)) {
            let field = |at: usize| fields.get(at).map(|text| text.trim().to_owned());
            match (field(file), field(label)) {
                (Some(file), Some(label)) if !file.is_empty() && !label.is_empty() => {
                    rows.push(Row { file, label, split: split.and_then(field), line });
                }
                _ => {
                    return Err(failed(format!("line {line} has no file and class: `{:.100}`", fields.join(", "))));
                }
            }
        }
        if rows.is_empty() {
            return Err(failed("names no files".to_owned()));
        }
        Ok(Self { path: path.to_owned(), rows, has_header })
    }

    /// Whether a column assigns the files to splits.
    pub fn has_splits(&self) -> bool {
        self.rows.iter().any(|row| row.split.is_some())
    }
}

/// The character between the columns; `None` for spaces.
fn divider(line: &str) -> Option<u8> {
    [b'\t', b',', b';'].into_iter().find(|&divider| line.as_bytes().contains(&divider))
}

type Records = Vec<(u64, Vec<String>)>;

fn divided(text: &str, divider: u8) -> Result<Records, String> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(divider).has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut records = Records::new();
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        records.push((line, record.iter().map(str::to_owned).collect()));
    }
    Ok(records)
}

/// The last word of a line is the class; the rest is the file.
fn spaced(text: &str) -> Records {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let fields = |line: &str| match line.trim().rsplit_once(char::is_whitespace) {
        Some((file, class)) => vec![file.to_owned(), class.to_owned()],
        None => vec![line.trim().to_owned()],
    };
    lines.map(|(number, line)| (number, fields(line))).collect()
}

/// The positions of file, class and split, if the first line names the columns.
fn columns(first: &[String], reading: &Reading) -> Result<Option<(usize, usize, Option<usize>)>, String> {
    let names: Vec<String> = first.iter().map(|name| name.trim().to_lowercase()).collect();
    let usual = |usual: &[&str]| usual.iter().find_map(|name| names.iter().position(|n| n == name));
    let given = |name: &Option<String>, key: &str| {
        let Some(name) = name else { return Ok(None) };
        match first.iter().position(|n| n.trim() == name) {
            Some(at) => Ok(Some(at)),
            None => Err(format!("has no column `{name}` (data.{key}); the first line is {}", first.join(", "))),
        }
    };
    let (image, label) = (given(&reading.image_column, "image_column")?, given(&reading.label_column, "label_column")?);
    if image.is_none() && label.is_none() && usual(&IMAGE).is_none() && usual(&LABEL).is_none() {
        return if first.len() >= 2 {
            Ok(None)
        } else {
            Err(format!("has only one column (`{:.100}`); it needs a file and a class", first[0]))
        };
    }
    let missing = |key: &str| {
        format!(
            "cannot tell which column is the {key}: name it with data.{key}_column; the columns are {}",
            first.join(", ")
        )
    };
    let (image, label) = (image.or_else(|| usual(&IMAGE)), label.or_else(|| usual(&LABEL)));
    // Of two columns, the one that is not the image is the label, and vice versa.
    let other = |known: Option<usize>| known.filter(|_| names.len() == 2).map(|at| 1 - at);
    let (image, label) = (image.or_else(|| other(label)), label.or_else(|| other(image)));
    let image = image.ok_or_else(|| missing("image"))?;
    let label = label.ok_or_else(|| missing("label"))?;
    Ok(Some((image, label, usual(&SPLIT))))
}

/// The classes in tables, and their numbers.
#[derive(Debug)]
pub(super) struct Classes {
    pub names: Arc<[String]>,
    places: HashMap<String, usize>,
}

impl Classes {
    /// The classes of these labels, in numeric order if all are numbers, else in text order. If `data.classes` is given
    /// and does not name the numbers, they are indices into it.
    pub fn of<'a>(labels: impl IntoIterator<Item = &'a str>, reading: &Reading) -> Self {
        let labels: BTreeSet<&str> = labels.into_iter().collect();
        let numbers: Option<Vec<u64>> = labels.iter().map(|label| label.parse().ok()).collect();
        let given = reading.classes.as_deref().unwrap_or_default();
        let Some(mut numbers) = numbers else { return Self::listed(labels.into_iter().map(str::to_owned).collect()) };
        if !given.is_empty() && labels.iter().all(|label| !given.iter().any(|name| name == label)) {
            let names = given.to_vec();
            let places = (0..names.len()).map(|place| (place.to_string(), place)).collect();
            return Self { names: names.into(), places };
        }
        numbers.sort_unstable();
        numbers.dedup();
        let places = labels
            .iter()
            .filter_map(|label| Some(((*label).to_owned(), numbers.binary_search(&label.parse().ok()?).ok()?)));
        let places = places.collect();
        Self { names: numbers.iter().map(u64::to_string).collect(), places }
    }

    /// The classes of a list of names.
    pub fn listed(names: Vec<String>) -> Self {
        let places = names.iter().enumerate().map(|(place, name)| (name.clone(), place)).collect();
        Self { names: names.into(), places }
    }

    /// The number of the class written as `label`.
    pub fn place(&self, label: &str) -> Option<usize> {
        self.places.get(label).copied()
    }

    /// Like [`Classes::place`], with an error that starts with `context`.
    ///
    /// # Errors
    /// The training images have no such class.
    pub fn number(&self, label: &str, context: impl FnOnce() -> String) -> Result<usize> {
        self.place(label).ok_or_else(|| {
            let hint = did_you_mean(label, self.names.iter().map(String::as_str));
            Error::invalid(format!(
                "{}: the class `{label:.100}` is not among the {} known classes ({}){hint}",
                context(),
                self.names.len(),
                classes::list(self.names.iter())
            ))
        })
    }
}

/// The classes of files, by file name.
#[derive(Debug)]
pub(super) struct Labels {
    path: PathBuf,
    by_name: HashMap<String, String>,
}

impl Labels {
    /// Reads a table; the class in a Kaggle `PredictionString` is its first word.
    ///
    /// # Errors
    /// As [`Table::read`], or a file is named twice with different classes.
    pub fn read(path: &Path, reading: &Reading) -> Result<Self> {
        let table = Table::read(path, reading)?;
        let first_word = |label: &str| label.split_whitespace().next().unwrap_or_default().to_owned();
        // A class and the four numbers of its bounding box, for every object.
        let boxed = |label: &str| {
            let words: Vec<&str> = label.split_whitespace().collect();
            let (boxes, []) = words.as_chunks::<5>() else { return false };
            !boxes.is_empty() && boxes.iter().all(|[_, numbers @ ..]| numbers.iter().all(|n| n.parse::<f64>().is_ok()))
        };
        let pairs = table
            .rows
            .into_iter()
            .map(|row| (row.file, if boxed(&row.label) { first_word(&row.label) } else { row.label }));
        Self::of(path, pairs)
    }

    /// Makes labels from pairs of file and class.
    pub fn of(path: &Path, pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut by_name: HashMap<String, String> = HashMap::new();
        for (file, class) in pairs {
            if let Some(before) = by_name.get(&file).filter(|before| **before != class) {
                return Err(Error::file(path, format!("gives `{file}` two classes, `{before}` and `{class}`")));
            }
            by_name.insert(file, class);
        }
        Ok(Self { path: path.to_owned(), by_name })
    }

    /// All classes in the list.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        self.by_name.values().map(String::as_str)
    }

    /// The class of the file `path` in `split` below `root`: found by its path relative to either, by its name, or by
    /// its name without suffix.
    pub fn class(&self, path: &Path, split: &Path, root: &Path) -> Option<&str> {
        let relative = |to: &Path| path.strip_prefix(to).ok().and_then(Path::to_str);
        let names = [
            relative(split),
            relative(root),
            path.file_name().and_then(|n| n.to_str()),
            path.file_stem().and_then(|n| n.to_str()),
        ];
        names.into_iter().flatten().find_map(|name| self.by_name.get(name)).map(String::as_str)
    }

    /// Assigns every picture of `split` its class number.
    ///
    /// # Errors
    /// A picture is not in the list, or its class is unknown.
    pub fn number(
        &self,
        pictures: Vec<PathBuf>,
        split: &Path,
        root: &Path,
        classes: &Classes,
    ) -> Result<Vec<(PathBuf, usize)>> {
        // The list has numbers and the class folders have names: the numbers are indices into the sorted names.
        let by_place = self.classes().all(|class| {
            classes.place(class).is_none() && class.parse::<usize>().is_ok_and(|n| n < classes.names.len())
        });
        let total = pictures.len();
        let mut samples = Vec::with_capacity(total);
        let mut missing = Vec::new();
        for picture in pictures {
            match self.class(&picture, split, root) {
                None => missing.push(picture),
                Some(class) if by_place => samples.push((picture, class.parse().unwrap_or_default())),
                Some(class) => {
                    let number = classes.number(class, || format!("{}: {}", self.path.display(), picture.display()))?;
                    samples.push((picture, number));
                }
            }
        }
        match missing.first() {
            Some(first) => Err(Error::file(
                &self.path,
                format!(
                    "does not name {} of the {total} pictures in {} (the first is {})",
                    missing.len(),
                    split.display(),
                    first.display()
                ),
            )),
            None => Ok(samples),
        }
    }
}
