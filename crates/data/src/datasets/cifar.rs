//! CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the official binary files, the official python files or Parquet.
use std::{path::Path, sync::Arc};

use heterodyne_nn::{Error, Result};

use heterodyne_pickle::plain::{self, Value};

use super::{Source, names, parquet};
use crate::{Splits, dataset::Raster, files};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;

/// What differs between the two datasets.
struct Variant {
    name: &'static str,
    title: &'static str,
    class_names: &'static [&'static str],
    /// Columns that may hold the label, the preferred one first.
    label_columns: &'static [&'static str],
    /// Sub-folders in which archives and mirrors keep the files.
    folders: &'static [&'static str],
    train_files: &'static [&'static str],
    test_file: &'static str,
    names_file: &'static str,
    python: Python,
    /// Label bytes before the pixels; the last one is used.
    label_bytes: usize,
    mean: [f64; 3],
    std: [f64; 3],
}

/// The python files: pickled dictionaries.
struct Python {
    folder: &'static str,
    train_files: &'static [&'static str],
    test_file: &'static str,
    meta_file: &'static str,
    /// Keys of the labels in the files, and of the names in the meta file.
    label_key: &'static str,
    names_key: &'static str,
}

const CIFAR10: Variant = Variant {
    name: "cifar10",
    title: "CIFAR-10",
    class_names: &names::CIFAR10,
    label_columns: &["label"],
    folders: &["cifar-10-batches-bin", "plain_text"],
    train_files: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test_file: "test_batch.bin",
    names_file: "batches.meta.txt",
    python: Python {
        folder: "cifar-10-batches-py",
        train_files: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
        test_file: "test_batch",
        meta_file: "batches.meta",
        label_key: "labels",
        names_key: "label_names",
    },
    label_bytes: 1,
    mean: [0.491_401, 0.482_159, 0.446_531],
    std: [0.247_032, 0.243_485, 0.261_588],
};

const CIFAR100: Variant = Variant {
    name: "cifar100",
    title: "CIFAR-100",
    class_names: &names::CIFAR100,
    label_columns: &["fine_label", "label"],
    folders: &["cifar-100-binary", "cifar100"],
    train_files: &["train.bin"],
    test_file: "test.bin",
    names_file: "fine_label_names.txt",
    python: Python {
        folder: "cifar-100-python",
        train_files: &["train"],
        test_file: "test",
        meta_file: "meta",
        label_key: "fine_labels",
        names_key: "fine_label_names",
    },
    label_bytes: 2,
    mean: [0.507_075_16, 0.486_548_87, 0.440_917_84],
    std: [0.267_334_29, 0.256_438_46, 0.276_150_47],
};

pub(super) fn open10(source: &Source) -> Result<Splits> {
    open(&CIFAR10, source)
}

pub(super) fn open100(source: &Source) -> Result<Splits> {
    open(&CIFAR100, source)
}

fn open(variant: &Variant, source: &Source) -> Result<Splits> {
    let what = format!(
        "the folder with {} and {}, with {} and {}, or with train-*.parquet and test-*.parquet",
        variant.train_files[0], variant.test_file, variant.python.train_files[0], variant.python.test_file
    );
    let given = source.path(&what)?;
    // A file means the folder that contains it.
    let root = if given.is_file() {
        given.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    } else {
        given
    };
    let folders = variant.folders.iter().chain([&variant.python.folder]);
    for folder in std::iter::once(root.to_owned()).chain(folders.map(|sub| root.join(sub))) {
        let names = (variant.label_columns, variant.class_names);
        if let Some([train, test]) = parquet::pair(&folder, variant.title, SIDE as u32, names, &source.reading.decode)?
        {
            return Ok(splits(variant, train, test));
        }
        if variant.train_files.iter().any(|name| folder.join(name).is_file()) {
            return from_binary(variant, &folder);
        }
        if variant.python.train_files.iter().any(|name| folder.join(name).is_file())
            && folder.join(variant.python.meta_file).is_file()
        {
            return from_python(variant, &folder);
        }
    }
    Err(Error::file(given, format!("holds no {} files; give {what}", variant.name)))
}

fn splits(variant: &Variant, train: Raster, test: Raster) -> Splits {
    let (mean, std) = (variant.mean, variant.std);
    Splits {
        train: Some(Arc::new(train)),
        test: Some(Arc::new(test)),
        side: Some(SIDE as u32),
        mean,
        std,
        ..Splits::photographs()
    }
}

fn from_binary(variant: &Variant, folder: &Path) -> Result<Splits> {
    let classes: Arc<[String]> = class_names(variant, &folder.join(variant.names_file))?.into();
    let read = |name: &str, files: &[&str]| {
        gather(variant, folder, format!("{} {name} (binary)", variant.title), files, &classes, read_records)
    };
    Ok(splits(variant, read("train", variant.train_files)?, read("test", &[variant.test_file])?))
}

fn from_python(variant: &Variant, folder: &Path) -> Result<Splits> {
    let path = folder.join(variant.python.meta_file);
    let meta = unpickled(&path)?;
    let names = meta
        .get(variant.python.names_key)
        .and_then(Value::list)
        .map(|names| names.iter().filter_map(Value::text).map(str::to_owned).collect());
    let names: Vec<String> =
        names.ok_or_else(|| Error::file(&path, format!("has no list `{}`", variant.python.names_key)))?;
    let classes: Arc<[String]> = counted(variant, &path, names)?.into();
    let read = |name: &str, files: &[&str]| {
        gather(variant, folder, format!("{} {name} (python)", variant.title), files, &classes, read_pickle)
    };
    Ok(splits(variant, read("train", variant.python.train_files)?, read("test", &[variant.python.test_file])?))
}

/// Reads all files of a split. `read` appends one file and returns its number of images.
fn gather(
    variant: &Variant,
    folder: &Path,
    title: String,
    files: &[&str],
    classes: &Arc<[String]>,
    read: impl Fn(&Variant, &Path, &mut Raster) -> Result<usize>,
) -> Result<Raster> {
    let mut split = Raster { title, side: SIDE, rgb: Vec::new(), labels: Vec::new(), classes: Arc::clone(classes) };
    let mut records = None;
    for name in files {
        let path = folder.join(name);
        let count = read(variant, &path, &mut split)?;
        // The official files of a split have one size: a file of another size was cut between two records.
        if *records.get_or_insert(count) != count {
            return Err(Error::file(
                path,
                format!(
                    "holds {count} images, but {} holds {}; was the copy cut short?",
                    files[0],
                    records.unwrap_or(0)
                ),
            ));
        }
    }
    Ok(split)
}

/// The class names from the file beside the data, one per line; the built-in ones if there is no such file.
fn class_names(variant: &Variant, path: &Path) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(variant.class_names.iter().map(|&name| name.to_owned()).collect());
    }
    let text = files::text(path)?;
    counted(variant, path, text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Checks that there is one name per class.
fn counted(variant: &Variant, path: &Path, names: Vec<String>) -> Result<Vec<String>> {
    if names.len() != variant.class_names.len() {
        return Err(Error::file(
            path,
            format!("names {} classes; {} has {}", names.len(), variant.name, variant.class_names.len()),
        ));
    }
    Ok(names)
}

/// Appends the records of one file: label bytes, then 1024 red, 1024 green and 1024 blue levels.
fn read_records(variant: &Variant, path: &Path, split: &mut Raster) -> Result<usize> {
    let bytes = files::read(path)?;
    let size = variant.label_bytes + 3 * PIXELS;
    let count = bytes.len() / size;
    if bytes.is_empty() {
        return Err(Error::file(path, "the file is empty"));
    }
    if bytes.len() % size != 0 {
        return Err(Error::file(
            path,
            format!(
                "cut short in record {count}: {} bytes are not a whole number of records of {size} bytes",
                bytes.len()
            ),
        ));
    }
    split.rgb.reserve(count * 3 * PIXELS);
    for (row, record) in bytes.chunks_exact(size).enumerate() {
        let (labels, planes) = record.split_at(variant.label_bytes);
        append(path, row, i64::from(labels[variant.label_bytes - 1]), planes, split)?;
    }
    Ok(count)
}

/// Appends the images of a pickled dictionary: `data` is uint8 (N,3072), rows as in the binary files.
fn read_pickle(variant: &Variant, path: &Path, split: &mut Raster) -> Result<usize> {
    let failed = |message: String| Error::file(path, message);
    let batch = unpickled(path)?;
    let key = variant.python.label_key;
    let labels = batch.get(key).and_then(Value::list).ok_or_else(|| failed(format!("has no list `{key}`")))?;
    let Some(Value::Array { dtype, shape, bytes }) = batch.get("data") else {
        return Err(failed("has no array `data`".to_owned()));
    };
    let expected = [labels.len(), 3 * PIXELS];
    if dtype != "u1" || shape[..] != expected || bytes.len() != labels.len() * 3 * PIXELS || labels.is_empty() {
        return Err(failed(format!(
            "`data` is an array of {dtype} {shape:?}; expected bytes (u1) {expected:?} for {} labels",
            labels.len()
        )));
    }
    for (row, (label, planes)) in labels.iter().zip(bytes.chunks_exact(3 * PIXELS)).enumerate() {
        let label = label.integer().ok_or_else(|| failed(format!("label {row} is not an integer")))?;
        append(path, row, label, planes, split)?;
    }
    Ok(labels.len())
}

/// The value of a pickle from the python files; nothing in it is executed.
fn unpickled(path: &Path) -> Result<Value> {
    plain::read(path).map_err(|e| Error::file(path, e.fault))
}

/// Appends an image of 1024 red, 1024 green and 1024 blue levels.
fn append(path: &Path, row: usize, label: i64, planes: &[u8], split: &mut Raster) -> Result<()> {
    let classes = split.classes.len();
    let number = u16::try_from(label).ok().filter(|label| usize::from(*label) < classes);
    split
        .labels
        .push(number.ok_or_else(|| {
            Error::file(path, format!("record {row} has label {label}; there are {classes} classes"))
        })?);
    let (red, rest) = planes.split_at(PIXELS);
    let (green, blue) = rest.split_at(PIXELS);
    split.rgb.extend(red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]));
    Ok(())
}
