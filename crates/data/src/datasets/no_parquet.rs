//! In place of `parquet` in a build without that feature: Parquet files are refused.
use std::path::Path;

use heterodyne_nn::{Error, Result};

use super::Source;
use crate::{Decode, Splits, dataset::Raster};

pub(super) fn open(source: &Source) -> Result<Splits> {
    Err(refused(source.path("Parquet files")?))
}

/// Refuses a folder with training files in Parquet; `None` for any other.
pub(super) fn pair(
    folder: &Path,
    _title: &str,
    _side: u32,
    _names: (&[&str], &[&str]),
    _how: &Decode,
) -> Result<Option<[Raster; 2]>> {
    let is_table = |name: &str| name.starts_with("train") && name.ends_with(".parquet");
    let mut names = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.file_name());
    if names.any(|name| name.to_str().is_some_and(is_table)) { Err(refused(folder)) } else { Ok(None) }
}

fn refused(path: &Path) -> Error {
    Error::file(path, "holds Parquet, which this build cannot read: it was built without the feature `parquet`")
}
