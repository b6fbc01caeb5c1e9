//! In place of `online` in a build without the feature `download`: the cache is all there is.
use crate::cache::Repository;
use crate::{Error, Files, Name, Progress, Settings};

/// The revision's files in the cache.
pub fn fetch(
    _settings: &Settings,
    cache: &Repository,
    name: &Name,
    _progress: impl FnMut(Progress<'_>),
) -> Result<Files, Error> {
    crate::offline(cache, name).map_err(|e| match e {
        Error::NotCached { name, looked_for, repository } => Error::NoDownload { name, looked_for, repository },
        other => other,
    })
}
