//! Weights by name from the Hugging Face Hub, through its client for Rust.
//!
//! A name is `hf-hub:owner/name`, as timm writes it, optionally with `@revision`. [`fetch`] returns the paths of its configuration and weights
//! on this machine, and downloads what is missing into the cache that Python's `huggingface_hub` uses too, so that neither downloads what the
//! other has. [`Settings::from_env`] lists the variables of the environment. Nothing here is touched, and nothing is sent, unless a name begins
//! with the prefix and [`fetch`] is called with it.
//!
//! Each fetch asks the server once which commit the revision is and which files it has, and downloads the files of that commit. Nothing is
//! asked for a full commit of which everything is in the cache, nor offline.
mod cache;
mod error;
mod name;
mod remote;
mod settings;
mod transfer;
mod watch;

use std::path::PathBuf;

pub use error::Error;
pub use name::{Name, is_name};
pub use settings::{Settings, Token};

use cache::Repository;
use remote::Remote;

/// The configuration of timm's models.
const CONFIG: &str = "config.json";

/// The weights, the better format first.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// The files of a model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `config.json`, where the repository has one (offline: where it is in the cache).
    pub config: Option<PathBuf>,
    /// `model.safetensors`, else `pytorch_model.bin`.
    pub weights: PathBuf,
    /// The commit that both are of, 40 hexadecimal digits.
    pub commit: String,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file in the repository.
    pub file: &'a str,
    /// Bytes that are here, those of an earlier attempt among them.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// The files of a model, downloaded where they are missing, with the settings of the environment.
///
/// `progress` is called for each few kilobytes that arrive, and not at all where nothing is downloaded.
///
/// # Errors
/// See [`Error`]. Whatever the error, the cache holds whole files only; what has arrived of a file is kept for the next attempt, unless it is
/// known to be wrong.
pub fn fetch(name: &Name, progress: impl FnMut(Progress<'_>)) -> Result<Files, Error> {
    fetch_with(&Settings::from_env()?, name, progress)
}

/// As [`fetch`], with given settings.
///
/// # Errors
/// As there.
pub fn fetch_with(settings: &Settings, name: &Name, mut progress: impl FnMut(Progress<'_>)) -> Result<Files, Error> {
    name.check()?;
    let cache = Repository::new(&settings.cache, &name.repo);
    if settings.offline {
        return offline(&cache, name);
    }
    if let Some(files) = complete(&cache, name) {
        return Ok(files);
    }
    let remote = Remote::new(settings, name);
    let listing = remote.list()?;
    let Some(weights) = WEIGHTS.into_iter().find(|file| listing.has(file)) else {
        return Err(Error::NoWeights { name: name.clone(), commit: listing.commit });
    };
    let mut get = |file| transfer::obtain(&remote, &cache, &listing.commit, file, &mut progress);
    let config = if listing.has(CONFIG) { Some(get(CONFIG)?) } else { None };
    let weights = get(weights)?;
    cache.refer(name.revision(), &listing.commit)?;
    Ok(Files { config, weights, commit: listing.commit })
}

/// Everything of a full commit, where the cache has it: the server could say nothing new.
fn complete(cache: &Repository, name: &Name) -> Option<Files> {
    let commit = name.revision.clone().filter(|revision| cache::is_commit(revision))?;
    let config = Some(cache.file(&commit, CONFIG)?);
    let weights = cache.file(&commit, WEIGHTS[0])?;
    Some(Files { config, weights, commit })
}

/// What the cache has of the revision.
fn offline(cache: &Repository, name: &Name) -> Result<Files, Error> {
    let missing = |looked_for: String| Error::NotCached { name: name.clone(), looked_for, repository: cache.folder.clone() };
    let revision = name.revision();
    let commit = cache.commit(revision).ok_or_else(|| missing(format!("refs/{revision}, the commit of {revision},")))?;
    let weights = WEIGHTS.iter().find_map(|file| cache.file(&commit, file));
    let weights = weights.ok_or_else(|| missing(format!("{} of commit {commit}", WEIGHTS.join(" or "))))?;
    Ok(Files { config: cache.file(&commit, CONFIG), weights, commit })
}
