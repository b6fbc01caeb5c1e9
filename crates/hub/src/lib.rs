//! Weights by name from the Hugging Face Hub, through its client for Rust.
//!
//! A name is `hf-hub:owner/name`, as timm writes it, optionally with `@revision`. [`fetch`] returns the local paths of
//! its configuration and weights, and downloads missing files into the cache of Python's `huggingface_hub`, so neither
//! downloads a file that the other has. [`Settings::from_env`] lists the environment variables. Nothing is read or sent
//! unless [`fetch`] is called with a name that begins with the prefix.
//!
//! Each fetch asks the server once for the revision's commit and its list of files, and downloads the files of that
//! commit. It sends no request offline, nor for a full commit whose files are all in the cache. Without the feature
//! `download` it only reads the cache.
mod cache;
mod error;
mod name;
#[cfg_attr(not(feature = "download"), path = "no_download.rs")]
mod online;
mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

pub use error::Error;
pub use name::{Name, is_name};
pub use settings::{Settings, Token};

use cache::Repository;
use serde::Deserialize;

/// The configuration of timm's and of transformers' models.
const CONFIG: &str = "config.json";

/// transformers' description of a model's images.
const PROCESSOR: &str = "preprocessor_config.json";

/// The weights files, preferred formats first; an index lists the shards of weights that are split into several files.
pub const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// The files of a model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `config.json`, if the repository has one (offline: if it is in the cache).
    pub config: Option<PathBuf>,
    /// `preprocessor_config.json`, likewise.
    pub processor: Option<PathBuf>,
    /// The first of [`WEIGHTS`] that exists; the shards of an index are beside it.
    pub weights: PathBuf,
    /// The commit of all files, 40 hexadecimal digits.
    pub commit: String,
}

/// The progress of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file in the repository.
    pub file: &'a str,
    /// Bytes received, including those of an earlier attempt.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// Returns the files of a model, downloading missing ones, with the settings of the environment.
///
/// `progress` is called every few kilobytes, and not at all if nothing is downloaded.
///
/// # Errors
/// See [`Error`]. After any error the cache holds only complete files. A partly received file is kept for the next
/// attempt, unless it is known to be wrong.
pub fn fetch(name: &Name, progress: impl FnMut(Progress<'_>)) -> Result<Files, Error> {
    fetch_with(&Settings::from_env()?, name, progress)
}

/// As [`fetch`], with given settings.
///
/// # Errors
/// As there.
pub fn fetch_with(settings: &Settings, name: &Name, progress: impl FnMut(Progress<'_>)) -> Result<Files, Error> {
    name.check()?;
    let cache = Repository::new(&settings.cache, &name.repo);
    if settings.offline {
        return offline(&cache, name);
    }
    if let Some(files) = complete(&cache, name) {
        return Ok(files);
    }
    online::fetch(settings, &cache, name, progress)
}

/// The repositories in the cache whose names begin with `prefix` (`owner/..`) and that have weights, sorted, each with
/// the commit of `main`: [`fetch`] then needs no request. Sends none.
#[must_use]
pub fn cached(settings: &Settings, prefix: &str) -> Vec<Name> {
    let repo = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let (owner, name) = name.strip_prefix("models--")?.split_once("--")?;
        Some(format!("{owner}/{name}")).filter(|repo| repo.starts_with(prefix))
    };
    let entries = fs::read_dir(&settings.cache).into_iter().flatten().flatten();
    let mut repos: Vec<String> = entries.filter_map(repo).collect();
    repos.sort();
    let pinned = |repo: String| {
        let name = Name { repo, revision: None };
        let commit = offline(&Repository::new(&settings.cache, &name.repo), &name).ok()?.commit;
        let name = Name { revision: Some(commit), ..name };
        name.check().is_ok().then_some(name)
    };
    repos.into_iter().filter_map(pinned).collect()
}

/// The files that an index lists; empty for weights in one file.
fn shards(name: &Name, path: &Path, file: &'static str) -> Result<BTreeSet<String>, Error> {
    if !file.ends_with(".index.json") {
        return Ok(BTreeSet::new());
    }
    let index = |why: String| Error::Index { name: name.clone(), index: file, why };
    let text = fs::read_to_string(path).map_err(cache::at(path))?;
    let json: Index = serde_json::from_str(&text).map_err(|e| index(e.to_string()))?;
    let files: BTreeSet<String> = json.weight_map.into_values().collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match files.iter().find(|file| file.starts_with('.') || !file.chars().all(plain)) {
        Some(file) => Err(index(format!("`{file}` is not the name of a file beside it"))),
        None => Ok(files),
    }
}

/// The file of each tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files of a full commit, if the cache has all of them: the server would have nothing new.
fn complete(cache: &Repository, name: &Name) -> Option<Files> {
    let commit = name.revision.clone().filter(|revision| cache::is_commit(revision))?;
    let config = Some(cache.file(&commit, CONFIG)?);
    let weights = cache.file(&commit, WEIGHTS[0])?;
    let processor = cache.file(&commit, PROCESSOR);
    // It may be missing because it was never requested; timm's models have none.
    let transformers = fs::read_to_string(config.as_ref()?).is_ok_and(|text| text.contains("\"model_type\""));
    (processor.is_some() || !transformers).then_some(Files { config, processor, weights, commit })
}

/// The revision's files in the cache.
fn offline(cache: &Repository, name: &Name) -> Result<Files, Error> {
    let missing =
        |looked_for: String| Error::NotCached { name: name.clone(), looked_for, repository: cache.folder.clone() };
    let revision = name.revision();
    let commit =
        cache.commit(revision).ok_or_else(|| missing(format!("refs/{revision}, the commit of {revision},")))?;
    let found = WEIGHTS.iter().find_map(|file| Some((*file, cache.file(&commit, file)?)));
    let whole = WEIGHTS.iter().filter(|file| !file.ends_with(".json")).copied().collect::<Vec<_>>().join(" or ");
    let (file, weights) = found.ok_or_else(|| missing(format!("{whole} of commit {commit}")))?;
    for shard in shards(name, &weights, file)? {
        cache.file(&commit, &shard).ok_or_else(|| missing(format!("{shard} of commit {commit}")))?;
    }
    Ok(Files { config: cache.file(&commit, CONFIG), processor: cache.file(&commit, PROCESSOR), weights, commit })
}
