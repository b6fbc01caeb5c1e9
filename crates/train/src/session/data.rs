//! Translates a recipe's data settings for the data crate.
use heterodyne_data::{Decode, Reading, Splits};
use heterodyne_run::recipe::schema::{ClassList, Data};

use crate::Result;

/// Opens the dataset of a recipe.
///
/// # Errors
/// As [`heterodyne_data::open`], or the list of classes cannot be read.
pub fn open(data: &Data) -> Result<Splits> {
    Ok(heterodyne_data::open(&data.name, data.path.as_deref(), &reading(data)?)?)
}

/// Like [`open`], but files and folders that cannot be taken are the splits' faults.
///
/// # Errors
/// As [`heterodyne_data::examine`], or the list of classes cannot be read.
pub fn examine(data: &Data) -> Result<Splits> {
    Ok(heterodyne_data::examine(&data.name, data.path.as_deref(), &reading(data)?)?)
}

/// The settings for reading the files.
///
/// # Errors
/// The list of classes cannot be read.
pub fn reading(data: &Data) -> Result<Reading> {
    let classes = match &data.classes {
        None => None,
        Some(ClassList::Names(names)) => Some(names.clone()),
        Some(ClassList::File(path)) => Some(heterodyne_data::classes::read(path)?),
    };
    Ok(Reading {
        train: data.train.clone(),
        val: data.val.clone(),
        test: data.test.clone(),
        classes,
        labels: data.labels.clone(),
        image_column: data.image_column.clone(),
        label_column: data.label_column.clone(),
        empty_classes: data.empty_classes,
        one_class: data.one_class,
        decode: Decode { exif: data.exif, max_pixels: data.max_pixels },
    })
}
