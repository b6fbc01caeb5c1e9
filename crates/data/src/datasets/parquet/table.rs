//! Rows of images and labels in Parquet files, as Hugging Face's `datasets` writes them: an image column {bytes, path},
//! a label column of integers or text, and the class names in the file's metadata.
use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use heterodyne_nn::{Error, Result, catch};
use parquet::{
    column::reader::ColumnReader,
    data_type::ByteArray,
    file::{
        reader::{FileReader, RowGroupReader},
        serialized_reader::SerializedFileReader,
    },
};
use rayon::prelude::*;
use serde_json::Value;

use crate::files;

/// The files `split*.parquet` of a folder in the order of their shard numbers, checked against the total in their
/// names.
pub(super) fn shards(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::file(folder, e))? {
        let path = entry.map_err(|e| Error::file(folder, e))?.path();
        let rest = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(split)?.strip_suffix(".parquet"));
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
            found.push(path);
        }
    }
    found.sort();
    whole(folder, split, &found)?;
    Ok(found)
}

/// Rejects an incomplete set of shards.
pub(super) fn whole(folder: &Path, split: &str, found: &[PathBuf]) -> Result<()> {
    // train-00001-of-00003.parquet
    let total =
        found.iter().filter_map(|path| path.file_stem()?.to_str()?.rsplit_once("-of-")?.1.parse::<usize>().ok()).max();
    match total.filter(|total| *total != found.len()) {
        Some(total) => Err(Error::file(
            folder,
            format!("holds {} of the {total} files {split}-*-of-{total:05}.parquet; fetch the others", found.len()),
        )),
        None => Ok(()),
    }
}

/// The requested columns, preferred ones first: image columns without `.bytes`, and label columns. Empty if the file
/// itself must identify them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns<'a> {
    pub image: &'a [&'a str],
    pub label: &'a [&'a str],
}

/// The rows of a split.
#[derive(Debug)]
pub(super) struct Rows {
    /// Encoded images.
    pub images: Vec<ByteArray>,
    pub labels: Labels,
    /// Class names by number, if the metadata has them.
    pub names: Option<Vec<String>>,
    /// The files, each with the number of its first row.
    starts: Vec<(usize, PathBuf)>,
}

/// Labels as they are stored.
#[derive(Debug)]
pub(super) enum Labels {
    Numbers(Vec<i64>),
    Texts(Vec<String>),
}

impl Labels {
    fn append(&mut self, other: Self) -> bool {
        match (self, other) {
            (Self::Numbers(all), Self::Numbers(more)) => all.extend(more),
            (Self::Texts(all), Self::Texts(more)) => all.extend(more),
            _ => return false,
        }
        true
    }
}

impl Rows {
    /// Reads all rows of all files; the images stay encoded.
    ///
    /// # Errors
    /// A file is damaged, lacks a column, or has a row without image or label; the files name different classes or hold
    /// no rows.
    pub fn read(paths: &[PathBuf], columns: Columns) -> Result<Self> {
        let shards = paths.iter().map(|path| Shard::open(path, columns)).collect::<Result<Vec<_>>>()?;
        let bytes: u64 = shards.iter().map(Shard::image_bytes).sum();
        if let Some(free) = free_memory().filter(|free| bytes > *free) {
            return Err(Error::file(
                &paths[0],
                format!(
                    "the images of this split take {:.1} GB, but only {:.1} GB of memory are free: write them into \
                     class folders (dataset `folder`), which are read on demand",
                    bytes as f64 / 1e9,
                    free as f64 / 1e9
                ),
            ));
        }
        let mut names: Option<Vec<String>> = None;
        for shard in &shards {
            if let Some(own) = shard.class_names()?
                && names.get_or_insert_with(|| own.clone()) != &own
            {
                return Err(Error::file(shard.path, format!("has other classes than {}", shards[0].path.display())));
            }
        }
        let mut groups = Vec::new();
        for shard in &shards {
            let mut row = 0;
            for group in 0..shard.reader.num_row_groups() {
                let rows = usize::try_from(shard.reader.metadata().row_group(group).num_rows())
                    .map_err(|e| Error::file(shard.path, e))?;
                groups.push((shard, group, row, rows));
                row += rows;
            }
        }
        let read = groups.into_par_iter().map(|(shard, group, first, rows)| {
            let context = || format!("{}: rows from {first}", shard.path.display());
            catch(context, || shard.read_group(group, first, rows))
                .map(|(images, labels)| (shard.path, first, images, labels))
        });
        let mut all = Self { images: Vec::new(), labels: Labels::Numbers(Vec::new()), names, starts: Vec::new() };
        for (path, first, images, labels) in read.collect::<Result<Vec<_>>>()? {
            if first == 0 {
                all.starts.push((all.images.len(), path.to_owned()));
            }
            if all.images.is_empty() {
                all.labels = labels;
            } else if !all.labels.append(labels) {
                return Err(Error::file(path, "has labels of another type than the files before it"));
            }
            all.images.extend(images);
        }
        if all.images.is_empty() {
            return Err(Error::file(&paths[0], "the files hold no rows"));
        }
        Ok(all)
    }

    /// An error about a row; it names the file and the row's number in it.
    pub fn error(&self, row: usize, message: &str) -> Error {
        let (first, path) = &self.starts[self.starts.partition_point(|(first, _)| *first <= row).saturating_sub(1)];
        Error::file(path, format!("row {}: {message}", row - first))
    }

    /// The class numbers, which must be in `0..classes`.
    ///
    /// # Errors
    /// The labels are not integers, or one is out of range.
    pub fn numbers(&self, classes: usize) -> Result<Vec<u16>> {
        let Labels::Numbers(labels) = &self.labels else {
            return Err(Error::file(&self.starts[0].1, "the label column does not hold integers"));
        };
        let number = |(row, &label): (usize, &i64)| match u16::try_from(label) {
            Ok(small) if usize::from(small) < classes => Ok(small),
            _ => Err(self.error(
                row,
                &format!("has label {label}; there are {classes} classes").replacen("has label", "label", 1),
            )),
        };
        labels.iter().enumerate().map(number).collect()
    }
}

/// Bytes of memory available without swapping; `None` if the system does not report it.
fn free_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// One opened file and the positions of its columns.
struct Shard<'a> {
    path: &'a Path,
    reader: SerializedFileReader<Bytes>,
    image: usize,
    label: usize,
}

/// The type that `datasets` gives a column of images or of classes.
const IMAGE_TYPE: &str = "Image";
const CLASS_TYPE: &str = "ClassLabel";

impl<'a> Shard<'a> {
    fn open(path: &'a Path, columns: Columns) -> Result<Self> {
        let bytes = Bytes::from(files::read(path)?);
        let whole = |e: &dyn std::fmt::Display| {
            Error::file(path, format!("not a whole Parquet file ({e}); was the download or the copy cut short?"))
        };
        let context = || format!("{}: reading the Parquet footer", path.display());
        let reader = catch(context, || SerializedFileReader::new(bytes).map_err(|e| whole(&e)))?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let leaves: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
        let mut shard = Self { path, reader, image: 0, label: 0 };
        let features = shard.features()?;
        shard.image =
            choose("image", &image_columns(&leaves, &features), columns.image, &leaves).map_err(|e| shard.error(e))?;
        shard.label =
            choose("label", &label_columns(&leaves, &features), columns.label, &leaves).map_err(|e| shard.error(e))?;
        Ok(shard)
    }

    fn error(&self, message: impl ToString) -> Error {
        Error::file(self.path, message)
    }

    /// The columns as described by the metadata under `huggingface`; null without such metadata.
    fn features(&self) -> Result<Value> {
        let metadata = self.reader.metadata().file_metadata().key_value_metadata();
        let Some(text) = metadata.and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface")?.value.as_ref())
        else {
            return Ok(Value::Null);
        };
        let parsed: Value = serde_json::from_str(text)
            .map_err(|e| self.error(format!("metadata `huggingface` is not valid JSON ({e})")))?;
        Ok(parsed["info"]["features"].clone())
    }

    /// The class names of the label column in the metadata.
    fn class_names(&self) -> Result<Option<Vec<String>>> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let names = &self.features()?[schema.column(self.label).name()]["names"];
        Ok(names
            .as_array()
            .map(|names| names.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect()))
    }

    /// Bytes of the encoded images.
    fn image_bytes(&self) -> u64 {
        let groups = self.reader.metadata().row_groups().iter();
        groups.map(|group| u64::try_from(group.column(self.image).uncompressed_size()).unwrap_or(0)).sum()
    }

    /// Reads one row group. `first` is the file's row number of its first row.
    fn read_group(&self, group: usize, first: usize, rows: usize) -> Result<(Vec<ByteArray>, Labels)> {
        let group = self.reader.get_row_group(group).map_err(|e| self.error(format!("rows from {first}: {e}")))?;
        let labels = self.labels(&*group, first, rows)?;
        Ok((self.images(&*group, first, rows)?, labels))
    }

    fn labels(&self, group: &dyn RowGroupReader, first: usize, rows: usize) -> Result<Labels> {
        let failed = |e: parquet::errors::ParquetError| self.error(format!("labels of the rows from {first}: {e}"));
        let mut levels = Vec::new();
        let mut wide = Vec::new();
        let reader = group.get_column_reader(self.label).map_err(failed)?;
        let labels = match reader {
            ColumnReader::Int64ColumnReader(mut reader) => {
                reader.read_records(rows, Some(&mut levels), None, &mut wide).map_err(failed)?;
                Labels::Numbers(wide)
            }
            ColumnReader::Int32ColumnReader(mut reader) => {
                let mut narrow = Vec::new();
                reader.read_records(rows, Some(&mut levels), None, &mut narrow).map_err(failed)?;
                Labels::Numbers(narrow.into_iter().map(i64::from).collect())
            }
            ColumnReader::BoolColumnReader(mut reader) => {
                let mut bits = Vec::new();
                reader.read_records(rows, Some(&mut levels), None, &mut bits).map_err(failed)?;
                Labels::Numbers(bits.into_iter().map(i64::from).collect())
            }
            ColumnReader::ByteArrayColumnReader(mut reader) => {
                let mut texts = Vec::new();
                reader.read_records(rows, Some(&mut levels), None, &mut texts).map_err(failed)?;
                let text = |t: ByteArray| {
                    String::from_utf8(t.data().to_vec())
                        .map_err(|_| self.error("the label column holds bytes that are not text"))
                };
                Labels::Texts(texts.into_iter().map(text).collect::<Result<_>>()?)
            }
            _ => return Err(self.error("the label column holds neither integers nor text")),
        };
        let count = match &labels {
            Labels::Numbers(all) => all.len(),
            Labels::Texts(all) => all.len(),
        };
        self.check_rows("label", &levels, self.label, count, first, rows)?;
        Ok(labels)
    }

    fn images(&self, group: &dyn RowGroupReader, first: usize, rows: usize) -> Result<Vec<ByteArray>> {
        let failed = |e: parquet::errors::ParquetError| self.error(format!("images of the rows from {first}: {e}"));
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let ColumnReader::ByteArrayColumnReader(mut reader) = group.get_column_reader(self.image).map_err(failed)?
        else {
            return Err(self.error("the image column does not hold bytes"));
        };
        reader.read_records(rows, Some(&mut levels), None, &mut values).map_err(failed)?;
        self.check_rows("image", &levels, self.image, values.len(), first, rows)?;
        Ok(values)
    }

    /// Every row must have a value. A definition level below the column's largest marks a row without one.
    fn check_rows(
        &self,
        what: &str,
        levels: &[i16],
        column: usize,
        values: usize,
        first: usize,
        rows: usize,
    ) -> Result<()> {
        let defined = self.reader.metadata().file_metadata().schema_descr().column(column).max_def_level();
        if let Some(row) = levels.iter().position(|&level| level < defined) {
            let hint = if what == "image" { " in the file (only the name of an external file?)" } else { "" };
            return Err(self.error(format!("row {} has no {what}{hint}", first + row)));
        }
        if values == rows {
            Ok(())
        } else {
            Err(self.error(format!("rows from {first}: {values} {what}s for {rows} rows")))
        }
    }
}

/// Names and positions of the image columns: those that the metadata declares, else all with nested bytes.
fn image_columns(leaves: &[String], features: &Value) -> Vec<(String, usize)> {
    let all = leaves.iter().enumerate().map(|(at, leaf)| (leaf.strip_suffix(".bytes").unwrap_or(leaf).to_owned(), at));
    let nested: Vec<_> = all.filter(|(name, at)| leaves[*at].len() > name.len()).collect();
    let typed: Vec<_> =
        nested.iter().filter(|(name, _)| features[name.as_str()]["_type"] == IMAGE_TYPE).cloned().collect();
    if typed.is_empty() { nested } else { typed }
}

/// Names and positions of the label columns: those that the metadata declares, else one with a usual name, else the
/// only one besides the images.
fn label_columns(leaves: &[String], features: &Value) -> Vec<(String, usize)> {
    const USUAL: [&str; 8] =
        ["label", "labels", "class", "fine_label", "target", "category", "class_label", "label_name"];
    let all: Vec<_> = leaves.iter().cloned().enumerate().map(|(at, leaf)| (leaf, at)).collect();
    let typed: Vec<_> =
        all.iter().filter(|(name, _)| features[name.as_str()]["_type"] == CLASS_TYPE).cloned().collect();
    if !typed.is_empty() {
        return typed;
    }
    let usual = USUAL.iter().find_map(|usual| all.iter().find(|(name, _)| name.to_lowercase() == *usual));
    let images: Vec<String> = image_columns(leaves, features).into_iter().map(|(name, _)| format!("{name}.")).collect();
    let beside: Vec<_> = all.iter().filter(|(name, _)| !images.iter().any(|image| name.starts_with(image))).collect();
    usual.into_iter().chain(beside.into_iter().filter(|_| usual.is_none())).cloned().collect()
}

/// The requested column, or the only candidate.
fn choose(what: &str, candidates: &[(String, usize)], wanted: &[&str], leaves: &[String]) -> Result<usize, String> {
    let place = |wanted: &&str| {
        let leaf = leaves.iter().position(|leaf| leaf == &format!("{wanted}.bytes"));
        leaf.filter(|_| what == "image").or_else(|| leaves.iter().position(|leaf| leaf == wanted))
    };
    let all = leaves.join(", ");
    if !wanted.is_empty() {
        return wanted.iter().find_map(place).ok_or_else(|| {
            let suffix = if what == "image" { ".bytes" } else { "" };
            let names: Vec<String> = wanted.iter().map(|name| format!("{name}{suffix}")).collect();
            format!("has no {what} column ({}); its columns are {all}", names.join(" or "))
        });
    }
    match candidates {
        [(_, at)] => Ok(*at),
        [] => Err(format!("has no known {what} column; name it with data.{what}_column: the columns are {all}")),
        [..] => {
            let names: Vec<&str> = candidates.iter().map(|(name, _)| name.as_str()).collect();
            Err(format!("has several {what} columns ({}); choose one with data.{what}_column", names.join(", ")))
        }
    }
}
