//! Images in Parquet files, as Hugging Face's `datasets` writes them: an image column {bytes, path} and an integer label column, with
//! the class names in the file's metadata.
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
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

use super::cifar::{PIXELS, SIDE, Variant};
use crate::{dataset::Raster, decode::decode};

const IMAGE_COLUMNS: [&str; 2] = ["img.bytes", "image.bytes"];

/// The files `split*.parquet` of a folder in the order of their shard numbers, checked against the "of" in their names.
pub(super) fn shards(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::file(folder, e))? {
        let path = entry.map_err(|e| Error::file(folder, e))?.path();
        let rest = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(split)?.strip_suffix(".parquet"));
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
            found.push(path);
        }
    }
    found.sort();
    // train-00001-of-00003.parquet
    let total = found.iter().filter_map(|path| path.file_stem()?.to_str()?.rsplit_once("-of-")?.1.parse::<usize>().ok()).max();
    if let Some(total) = total.filter(|total| *total != found.len()) {
        return Err(Error::file(
            folder,
            format!("holds {} of the {total} files {split}-*-of-{total:05}.parquet; fetch the others", found.len()),
        ));
    }
    Ok(found)
}

/// One opened file and where its columns are.
struct Shard<'a> {
    path: &'a Path,
    reader: SerializedFileReader<Bytes>,
    image: usize,
    label: usize,
}

/// Reads all rows of all files and decodes every image.
pub(super) fn read(variant: &Variant, paths: &[PathBuf], title: &'static str) -> Result<Raster> {
    let shards = paths.iter().map(|path| Shard::open(variant, path)).collect::<Result<Vec<_>>>()?;
    let mut classes: Option<Vec<String>> = None;
    for shard in &shards {
        if let Some(names) = shard.class_names()?
            && classes.get_or_insert_with(|| names.clone()) != &names
        {
            return Err(Error::file(shard.path, format!("names other classes than {}", shards[0].path.display())));
        }
    }
    let classes: Arc<[String]> = classes.unwrap_or_else(|| variant.class_names.iter().map(|&name| name.to_owned()).collect()).into();

    // Every row group decodes into its own part of the pixels.
    let mut groups = Vec::new();
    for shard in &shards {
        let mut row = 0;
        for group in 0..shard.reader.num_row_groups() {
            let rows = usize::try_from(shard.reader.metadata().row_group(group).num_rows()).map_err(|e| Error::file(shard.path, e))?;
            groups.push((shard, group, row, rows));
            row += rows;
        }
    }
    let rows: usize = groups.iter().map(|(.., rows)| rows).sum();
    if rows == 0 {
        return Err(Error::file(&paths[0], "the files hold no rows"));
    }
    let mut rgb = vec![0u8; rows * PIXELS * 3];
    let mut parts = Vec::with_capacity(groups.len());
    let mut rest = rgb.as_mut_slice();
    for (shard, group, first, rows) in groups {
        let (part, after) = rest.split_at_mut(rows * PIXELS * 3);
        parts.push((shard, group, first, rows, part));
        rest = after;
    }
    let labels = parts
        .into_par_iter()
        .map(|(shard, group, first, rows, part)| {
            let context = || format!("{}: rows from {first}", shard.path.display());
            catch(context, || shard.read_group(group, first, rows, classes.len(), part))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Raster { title, side: SIDE, rgb, labels: labels.concat(), classes })
}

impl<'a> Shard<'a> {
    fn open(variant: &Variant, path: &'a Path) -> Result<Self> {
        let bytes = Bytes::from(fs::read(path).map_err(|e| Error::file(path, e))?);
        let whole = |e: &dyn std::fmt::Display| {
            Error::file(path, format!("not a whole Parquet file ({e}); was the download or the copy cut short?"))
        };
        let context = || format!("{}: reading the Parquet footer", path.display());
        let reader = catch(context, || SerializedFileReader::new(bytes).map_err(|e| whole(&e)))?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let columns: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
        let find = |wanted: &[&str], what: &str| {
            wanted.iter().find_map(|name| columns.iter().position(|column| column == name)).ok_or_else(|| {
                Error::file(path, format!("has no {what} column ({}); its columns are {}", wanted.join(" or "), columns.join(", ")))
            })
        };
        let (image, label) = (find(&IMAGE_COLUMNS, "image")?, find(variant.label_columns, "label")?);
        Ok(Self { path, image, label, reader })
    }

    fn error(&self, message: impl ToString) -> Error {
        Error::file(self.path, message)
    }

    /// The names that the metadata under `huggingface` gives for the label column.
    fn class_names(&self) -> Result<Option<Vec<String>>> {
        let metadata = self.reader.metadata().file_metadata();
        let Some(text) =
            metadata.key_value_metadata().and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface")?.value.as_ref())
        else {
            return Ok(None);
        };
        let parsed: serde_json::Value =
            serde_json::from_str(text).map_err(|e| self.error(format!("metadata `huggingface` is no JSON ({e})")))?;
        let column = metadata.schema_descr().column(self.label);
        let names = &parsed["info"]["features"][column.name()]["names"];
        Ok(names.as_array().map(|names| names.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect()))
    }

    /// Reads one row group: the pixels into `part`, the labels as the result. `first` is the file's row number of its first row.
    fn read_group(&self, group: usize, first: usize, rows: usize, classes: usize, part: &mut [u8]) -> Result<Vec<u16>> {
        let group = self.reader.get_row_group(group).map_err(|e| self.error(format!("rows from {first}: {e}")))?;
        let labels = self.labels(&*group, first, rows, classes)?;
        let images = self.images(&*group, first, rows)?;
        part.par_chunks_exact_mut(PIXELS * 3).zip(&images).enumerate().try_for_each(|(row, (target, encoded))| {
            let failed = |message: String| self.error(format!("row {}: {message}", first + row));
            let image = catch(|| format!("{}: row {}", self.path.display(), first + row), || decode(encoded.data()).map_err(failed))?;
            if image.size() != (SIDE, SIDE) {
                return Err(failed(format!("the image has {} x {} pixels; {SIDE} x {SIDE} are expected", image.width, image.height)));
            }
            target.copy_from_slice(&image.rgb);
            Ok(())
        })?;
        Ok(labels)
    }

    fn labels(&self, group: &dyn RowGroupReader, first: usize, rows: usize, classes: usize) -> Result<Vec<u16>> {
        let failed = |e: parquet::errors::ParquetError| self.error(format!("labels of the rows from {first}: {e}"));
        let (mut levels, mut wide, mut narrow) = (Vec::new(), Vec::new(), Vec::new());
        let reader = group.get_column_reader(self.label).map_err(failed)?;
        match reader {
            ColumnReader::Int64ColumnReader(mut reader) => {
                reader.read_records(rows, Some(&mut levels), None, &mut wide).map_err(failed)?;
            }
            ColumnReader::Int32ColumnReader(mut reader) => {
                reader.read_records(rows, Some(&mut levels), None, &mut narrow).map_err(failed)?;
                wide = narrow.into_iter().map(i64::from).collect();
            }
            _ => return Err(self.error("the label column does not hold integers")),
        }
        self.check_rows("label", &levels, self.label, wide.len(), first, rows)?;
        let checked = wide.iter().enumerate().map(|(row, &label)| match u16::try_from(label) {
            Ok(small) if usize::from(small) < classes => Ok(small),
            _ => Err(self.error(format!("row {} has label {label}; there are {classes} classes", first + row))),
        });
        checked.collect()
    }

    fn images(&self, group: &dyn RowGroupReader, first: usize, rows: usize) -> Result<Vec<ByteArray>> {
        let failed = |e: parquet::errors::ParquetError| self.error(format!("images of the rows from {first}: {e}"));
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let ColumnReader::ByteArrayColumnReader(mut reader) = group.get_column_reader(self.image).map_err(failed)? else {
            return Err(self.error("the image column does not hold bytes"));
        };
        reader.read_records(rows, Some(&mut levels), None, &mut values).map_err(failed)?;
        self.check_rows("image", &levels, self.image, values.len(), first, rows)?;
        Ok(values)
    }

    /// Every row must have a value. A definition level below the column's largest marks a row without one.
    fn check_rows(&self, what: &str, levels: &[i16], column: usize, values: usize, first: usize, rows: usize) -> Result<()> {
        let defined = self.reader.metadata().file_metadata().schema_descr().column(column).max_def_level();
        if let Some(row) = levels.iter().position(|&level| level < defined) {
            return Err(self.error(format!("row {} has no {what}", first + row)));
        }
        if values == rows { Ok(()) } else { Err(self.error(format!("rows from {first}: {values} {what}s for {rows} rows"))) }
    }
}
