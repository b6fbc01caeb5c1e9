//! CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the official binary files or from Parquet.
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use heterodyne_nn::{Error, Result};

use super::{names, required, table};
use crate::{Splits, dataset::Raster};

pub(super) const SIDE: usize = 32;
pub(super) const PIXELS: usize = SIDE * SIDE;

/// What tells the two datasets apart.
pub(super) struct Variant {
    name: &'static str,
    /// Titles of the splits by source: (train, test) of the binary files, (train, test) of Parquet.
    titles: [[&'static str; 2]; 2],
    pub(super) class_names: &'static [&'static str],
    /// Columns that may hold the label, the preferred one first.
    pub(super) label_columns: &'static [&'static str],
    /// Sub-folders in which archives and mirrors keep the files.
    folders: &'static [&'static str],
    train_files: &'static [&'static str],
    test_file: &'static str,
    names_file: &'static str,
    /// Label bytes before the pixels; the last one is used.
    label_bytes: usize,
    mean: [f64; 3],
    std: [f64; 3],
}

const CIFAR10: Variant = Variant {
    name: "cifar10",
    titles: [["CIFAR-10 train (binary)", "CIFAR-10 test (binary)"], ["CIFAR-10 train (parquet)", "CIFAR-10 test (parquet)"]],
    class_names: &names::CIFAR10,
    label_columns: &["label"],
    folders: &["cifar-10-batches-bin", "plain_text"],
    train_files: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test_file: "test_batch.bin",
    names_file: "batches.meta.txt",
    label_bytes: 1,
    mean: [0.491_401, 0.482_159, 0.446_531],
    std: [0.247_032, 0.243_485, 0.261_588],
};

const CIFAR100: Variant = Variant {
    name: "cifar100",
    titles: [["CIFAR-100 train (binary)", "CIFAR-100 test (binary)"], ["CIFAR-100 train (parquet)", "CIFAR-100 test (parquet)"]],
    class_names: &names::CIFAR100,
    label_columns: &["fine_label", "label"],
    folders: &["cifar-100-binary", "cifar100"],
    train_files: &["train.bin"],
    test_file: "test.bin",
    names_file: "fine_label_names.txt",
    label_bytes: 2,
    mean: [0.507_075_16, 0.486_548_87, 0.440_917_84],
    std: [0.267_334_29, 0.256_438_46, 0.276_150_47],
};

pub(super) fn open10(path: Option<&Path>) -> Result<Splits> {
    open(&CIFAR10, path)
}

pub(super) fn open100(path: Option<&Path>) -> Result<Splits> {
    open(&CIFAR100, path)
}

fn open(variant: &Variant, path: Option<&Path>) -> Result<Splits> {
    let what = format!(
        "the folder with {} and {}, or with train-*.parquet and test-*.parquet",
        variant.train_files.first().unwrap_or(&""),
        variant.test_file
    );
    let given = required(path, variant.name, &what)?;
    // A file stands for the folder that it lies in.
    let root = if given.is_file() { given.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")) } else { given };
    for folder in std::iter::once(root.to_owned()).chain(variant.folders.iter().map(|sub| root.join(sub))) {
        let train = table::shards(&folder, "train")?;
        if !train.is_empty() {
            let test = table::shards(&folder, "test")?;
            if test.is_empty() {
                return Err(Error::file(folder, "holds train-*.parquet, but no test-*.parquet"));
            }
            return from_tables(variant, &train, &test);
        }
        if variant.train_files.iter().any(|name| folder.join(name).exists()) {
            return from_binary(variant, &folder);
        }
    }
    Err(Error::file(given, format!("holds no {}; give {what}", variant.name)))
}

fn splits(variant: &Variant, train: Raster, test: Raster) -> Splits {
    Splits { train: Arc::new(train), test: Arc::new(test), side: Some(SIDE as u32), mean: variant.mean, std: variant.std }
}

fn from_tables(variant: &Variant, train: &[PathBuf], test: &[PathBuf]) -> Result<Splits> {
    let train = table::read(variant, train, variant.titles[1][0])?;
    let test_split = table::read(variant, test, variant.titles[1][1])?;
    if train.classes != test_split.classes {
        return Err(Error::file(&test[0], "names other classes than the train split; the files belong to different datasets"));
    }
    Ok(splits(variant, train, test_split))
}

fn from_binary(variant: &Variant, folder: &Path) -> Result<Splits> {
    let classes: Arc<[String]> = class_names(variant, &folder.join(variant.names_file))?.into();
    let [train_title, test_title] = variant.titles[0];
    let read = |title, files: &[&str]| {
        let mut split = Raster { title, side: SIDE, rgb: Vec::new(), labels: Vec::new(), classes: Arc::clone(&classes) };
        let mut records = None;
        for name in files {
            let path = folder.join(name);
            let count = read_records(variant, &path, &mut split)?;
            // The official files of a split are of one size: another one was cut between two records.
            if *records.get_or_insert(count) != count {
                return Err(Error::file(
                    path,
                    format!("holds {count} images, where {} holds {}; was the copy cut short?", files[0], records.unwrap_or(0)),
                ));
            }
        }
        Ok(split)
    };
    Ok(splits(variant, read(train_title, variant.train_files)?, read(test_title, &[variant.test_file])?))
}

/// The names in the file beside the data, one a line; the built-in ones if there is no such file.
fn class_names(variant: &Variant, path: &Path) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(variant.class_names.iter().map(|&name| name.to_owned()).collect());
    }
    let text = fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if names.len() != variant.class_names.len() {
        return Err(Error::file(path, format!("names {} classes; {} has {}", names.len(), variant.name, variant.class_names.len())));
    }
    Ok(names)
}

/// Appends the records of one file: label bytes, then 1024 red, 1024 green and 1024 blue levels.
fn read_records(variant: &Variant, path: &Path, split: &mut Raster) -> Result<usize> {
    let bytes = fs::read(path).map_err(|e| Error::file(path, e))?;
    let size = variant.label_bytes + 3 * PIXELS;
    let count = bytes.len() / size;
    if bytes.is_empty() {
        return Err(Error::file(path, "the file is empty"));
    }
    if bytes.len() % size != 0 {
        return Err(Error::file(
            path,
            format!("cut short in record {count}: {} bytes are no whole number of records of {size} bytes", bytes.len()),
        ));
    }
    split.rgb.reserve(count * 3 * PIXELS);
    for (row, record) in bytes.chunks_exact(size).enumerate() {
        let (labels, planes) = record.split_at(variant.label_bytes);
        let label = labels[variant.label_bytes - 1];
        if usize::from(label) >= split.classes.len() {
            return Err(Error::file(path, format!("record {row} has label {label}; there are {} classes", split.classes.len())));
        }
        split.labels.push(u16::from(label));
        let (red, rest) = planes.split_at(PIXELS);
        let (green, blue) = rest.split_at(PIXELS);
        split.rgb.extend(red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]));
    }
    Ok(count)
}
