//! Images of any kind in Parquet files.
mod table;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use heterodyne_nn::{Error, Result, catch};
use parquet::data_type::ByteArray;
use rayon::prelude::*;

use self::table::{Columns, Labels, Rows};
use super::{
    Source,
    labels::Classes,
    split::{Split, Wanted},
};
use crate::{
    Dataset, Image, Reading, Splits, Stored,
    dataset::Raster,
    decode::{self, Decode, decode},
};

/// Images that are all square, of one size and no larger than this are decoded once, on opening.
const SMALL: u32 = 64;
/// Maximum depth of folders in which files are searched.
const MAX_DEPTH: usize = 3;

pub(super) fn open(source: &Source) -> Result<Splits> {
    let given =
        source.path("a folder with train-*.parquet and test-*.parquet or validation-*.parquet, or one such file")?;
    let reading = source.reading;
    let parts =
        if given.is_dir() { in_folder(given, reading)? } else { vec![(one(given, reading), vec![given.to_owned()])] };
    let (image, label) = (reading.image_column.as_deref(), reading.label_column.as_deref());
    let columns = Columns { image: image.as_slice(), label: label.as_slice() };
    let parts = parts.into_iter().map(|(split, files)| Ok((split, files[0].clone(), Rows::read(&files, columns)?)));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let numbering = Numbering::of(&parts, reading)?;
    let mut splits = Splits::photographs();
    splits.side = common_side(&parts, &reading.decode)?;
    for (split, file, rows) in parts {
        let labels = numbering.numbers(&rows, &file)?;
        let title = format!("parquet {} ({})", file.parent().unwrap_or(given).display(), split.key());
        let classes = Arc::clone(&numbering.classes.names);
        let dataset: Arc<dyn Dataset> = match splits.side {
            Some(side) => {
                let raster = raster(&rows, side, &reading.decode, title, labels, classes)?;
                if split == Split::Train {
                    (splits.mean, splits.std) = raster.statistics();
                }
                Arc::new(raster)
            }
            None => Arc::new(Encoded { title, rows, labels, classes, decode: reading.decode }),
        };
        split.fill(&mut splits, dataset);
    }
    Ok(splits)
}

/// The split of a single file.
fn one(file: &Path, reading: &Reading) -> Split {
    let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let named = |split: &Split| matches!(split.wanted(reading), Wanted::Named(_)) || belongs(stem, *split, reading);
    Split::ALL.into_iter().find(named).unwrap_or(Split::Train)
}

/// Whether the name of a file or folder assigns it to a split.
fn belongs(name: &str, split: Split, reading: &Reading) -> bool {
    split.is(name, reading) || name.split_once(['-', '_', '.']).is_some_and(|(first, _)| split.is(first, reading)) || {
        let Wanted::Named(wanted) = split.wanted(reading) else { return false };
        name.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'))
    }
}

/// The files of every split.
fn in_folder(root: &Path, reading: &Reading) -> Result<Vec<(Split, Vec<PathBuf>)>> {
    let mut files = Vec::new();
    collect(root, 0, &mut files)?;
    files.sort();
    let mut parts = Vec::new();
    for split in Split::ALL {
        let of_split = |file: &&PathBuf| {
            let below = file.strip_prefix(root).unwrap_or(file);
            let whole = below.to_str().unwrap_or_default();
            if split.is(whole, reading) {
                return true;
            }
            let mut names = below.iter().filter_map(|part| part.to_str());
            let stem = names.next_back().and_then(|name| name.strip_suffix(".parquet")).unwrap_or_default();
            belongs(stem, split, reading) || names.any(|folder| split.is(folder, reading))
        };
        let found: Vec<PathBuf> = files.iter().filter(of_split).cloned().collect();
        if let (Wanted::Named(name), true) = (split.wanted(reading), found.is_empty()) {
            return Err(Error::file(
                root,
                format!("holds no {name}-*.parquet (data.{}); found {}", split.key(), listed(&files, root)),
            ));
        }
        if !found.is_empty() {
            table::whole(root, split.key(), &found)?;
            parts.push((split, found));
        }
    }
    if parts.is_empty() {
        let message = if files.is_empty() {
            "holds no Parquet files".to_owned()
        } else {
            format!(
                "holds {}, whose names match no split: name one in data.train, data.val or data.test",
                listed(&files, root)
            )
        };
        return Err(Error::file(root, message));
    }
    Ok(parts)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|e| Error::file(folder, e))? {
        let path = entry.map_err(|e| Error::file(folder, e))?.path();
        if path.is_dir() && depth < MAX_DEPTH {
            collect(&path, depth + 1, files)?;
        } else if path.extension().is_some_and(|e| e == "parquet") && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn listed(files: &[PathBuf], root: &Path) -> String {
    let names: Vec<String> =
        files.iter().take(4).map(|file| file.strip_prefix(root).unwrap_or(file).display().to_string()).collect();
    if files.is_empty() { "no Parquet files".to_owned() } else { names.join(", ") }
}

/// Maps stored labels to class numbers.
struct Numbering {
    classes: Classes,
    /// Stored numbers are class numbers; otherwise labels are looked up as text.
    direct: bool,
}

impl Numbering {
    fn of(parts: &[(Split, PathBuf, Rows)], reading: &Reading) -> Result<Self> {
        let (_, first, rows) = &parts[0];
        for (_, file, other) in parts {
            if other.names != rows.names {
                return Err(Error::file(file, format!("has other classes than {}", first.display())));
            }
        }
        if let (Some(names), Labels::Numbers(_)) = (&rows.names, &rows.labels) {
            return Ok(Self { classes: Classes::listed(names.clone()), direct: true });
        }
        let learned = parts.iter().find(|(split, ..)| *split == Split::Train).map_or(parts, std::slice::from_ref);
        let texts: HashSet<String> = learned.iter().flat_map(|(.., rows)| texts(&rows.labels)).collect();
        Ok(Self { classes: Classes::of(texts.iter().map(String::as_str), reading), direct: false })
    }

    fn numbers(&self, rows: &Rows, file: &Path) -> Result<Vec<u16>> {
        let classes = self.classes.names.len();
        if classes > usize::from(u16::MAX) {
            return Err(Error::file(file, format!("has {classes} classes; is the label column the right one?")));
        }
        if self.direct {
            return rows.numbers(classes);
        }
        let texts = texts(&rows.labels);
        texts
            .enumerate()
            .map(|(row, label)| Ok(self.classes.number(&label, || rows.error(row, "").to_string())? as u16))
            .collect()
    }
}

/// Labels as text.
fn texts(labels: &Labels) -> Box<dyn Iterator<Item = String> + '_> {
    match labels {
        Labels::Numbers(numbers) => Box::new(numbers.iter().map(i64::to_string)),
        Labels::Texts(texts) => Box::new(texts.iter().cloned()),
    }
}

/// The side that all images have, if they are square and small.
fn common_side(parts: &[(Split, PathBuf, Rows)], how: &Decode) -> Result<Option<u32>> {
    let mut side = None;
    for (.., rows) in parts {
        for (row, image) in rows.images.iter().enumerate() {
            let (width, height) = decode::size(image.data(), how).map_err(|message| rows.error(row, &message))?;
            if width != height || width > SMALL || *side.get_or_insert(width) != width {
                return Ok(None);
            }
        }
    }
    Ok(side)
}

/// The training and test images in `folder`, all of side `side`; `None` if it has no training files in Parquet. The
/// label columns that may be there, preferred ones first, and the class names if the files have none are `names`.
///
/// # Errors
/// The test files are missing, a file is damaged, or the two splits have different classes.
pub(super) fn pair(
    folder: &Path,
    title: &str,
    side: u32,
    names: (&[&str], &[&str]),
    how: &Decode,
) -> Result<Option<[Raster; 2]>> {
    let files = table::shards(folder, "train")?;
    if files.is_empty() {
        return Ok(None);
    }
    let test_files = table::shards(folder, "test")?;
    if test_files.is_empty() {
        return Err(Error::file(folder, "holds train-*.parquet but no test-*.parquet"));
    }
    let (label_columns, class_names) = names;
    let columns = Columns { image: &["img", "image"], label: label_columns };
    let read = |name: &str, paths: &[PathBuf]| {
        let rows = Rows::read(paths, columns)?;
        let own = || class_names.iter().map(|&name| name.to_owned()).collect();
        let classes: Arc<[String]> = rows.names.clone().unwrap_or_else(own).into();
        let labels = rows.numbers(classes.len())?;
        raster(&rows, side, how, format!("{title} {name} (parquet)"), labels, classes)
    };
    let (train, test) = (read("train", &files)?, read("test", &test_files)?);
    if train.classes != test.classes {
        return Err(Error::file(
            &test_files[0],
            "has other classes than the train split: the files belong to different datasets",
        ));
    }
    Ok(Some([train, test]))
}

/// Decodes images that are all of one size.
fn raster(
    rows: &Rows,
    side: u32,
    how: &Decode,
    title: String,
    labels: Vec<u16>,
    classes: Arc<[String]>,
) -> Result<Raster> {
    let side = side as usize;
    let mut rgb = vec![0u8; rows.images.len() * side * side * 3];
    rgb.par_chunks_exact_mut(side * side * 3).zip(&rows.images).enumerate().try_for_each(
        |(row, (target, encoded))| {
            let image = row_image(rows, row, encoded, how)?;
            if image.size() != (side, side) {
                let message =
                    format!("the image has {} x {} pixels; expected {side} x {side}", image.width, image.height);
                return Err(rows.error(row, &message));
            }
            target.copy_from_slice(&image.rgb);
            Ok(())
        },
    )?;
    Ok(Raster { title, side, rgb, labels, classes })
}

fn row_image(rows: &Rows, row: usize, encoded: &ByteArray, how: &Decode) -> Result<Image> {
    let failed = |message: String| rows.error(row, &message);
    catch(|| rows.error(row, "decoding").to_string(), || decode(encoded.data(), how).map_err(failed))
}

/// Photographs held encoded in memory.
struct Encoded {
    title: String,
    rows: Rows,
    labels: Vec<u16>,
    classes: Arc<[String]>,
    decode: Decode,
}

impl Dataset for Encoded {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    fn image(&self, index: usize) -> Result<Image> {
        let encoded = self.rows.images.get(index);
        let encoded =
            encoded.ok_or_else(|| Error::invalid(format!("there is no sample {index} in {}", self.describe())))?;
        row_image(&self.rows, index, encoded, &self.decode)
    }

    fn stored(&self, index: usize) -> Stored<'_> {
        self.rows.images.get(index).map_or(Stored::Elsewhere, |encoded| Stored::Memory(encoded.data()))
    }

    fn describe(&self) -> String {
        format!("{}, {} images", self.title, self.labels.len())
    }
}
