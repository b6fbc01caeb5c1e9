//! The folder of one run: its file names, its lock, and atomic file replacement.
//!
//! ```text
//! plan.json             the resolved recipe, enough to repeat the run
//! manifest.json         what it is computed from and with: hashes of the inputs, versions, machine
//! metrics.jsonl         one measurement per line, written during the run
//! checkpoint/           everything that the run needs to continue, with a checksum; removed at the end
//! weights/              last, best and, with weight averaging, ema; each a .safetensors file
//! summary.json          how the run ended, and the extent of the metrics
//! similarity.json       similarity of the two networks' features, if it was measured
//! .lock                 held by the process that writes here; the system releases it when the process ends
//! ```
//!
//! The JSON files carry a checksum as their first key ([`heterodyne_files::checksum`]).
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use heterodyne_files::{
    atomic::{self, UNFINISHED},
    checksum::{self, Text},
    own,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Error, Result, Status, Summary, recipe::places};

const LOCK: &str = ".lock";
const PLAN: &str = "plan.json";
const MANIFEST: &str = "manifest.json";
const METRICS: &str = "metrics.jsonl";
const SUMMARY: &str = "summary.json";
const EVENTS: &str = "events";
/// Subfolders that may hold unfinished files.
const ROOMS: [&str; 2] = ["checkpoint", "weights"];
/// The latest checkpoint.
const STATE: &str = "state.safetensors";
/// How the names of older checkpoints begin.
const STEP: &str = "step-";
/// What a run that was killed before its first checkpoint leaves behind. None of it is needed to start again.
const BEGUN: [&str; 5] = [PLAN, MANIFEST, METRICS, SUMMARY, EVENTS];

/// The folder of one run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// The lock, if this process writes the folder; held until this value is dropped.
    _lock: Option<Lock>,
}

impl RunFolder {
    /// Creates the folder (and its parents) for a new run and takes its lock. A folder that is not empty is rejected,
    /// unless it holds a run that has saved nothing to continue from; that is removed.
    pub fn create(path: &Path) -> Result<Self> {
        Self::check_free(path)?;
        fs::create_dir_all(path).map_err(|e| Error::new(path, format!("the run folder cannot be created ({e})")))?;
        let folder = Self { path: path.to_owned(), _lock: lock(path)? };
        // Another process may have used the folder between the check and the lock.
        Self::check_free(path)?;
        for name in BEGUN {
            let begun = path.join(name);
            let removed = if begun.is_dir() { fs::remove_dir_all(&begun) } else { fs::remove_file(&begun) };
            removed
                .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
                .map_err(|e| Error::new(&begun, format!("cannot be removed ({e})")))?;
        }
        folder.make_rooms()?;
        Ok(folder)
    }

    /// Checks that `path` is free for [`RunFolder::create`]: absent, without files, or with a run that was killed
    /// before its first checkpoint and evaluation.
    pub fn check_free(path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        if !path.is_dir() {
            return Err(Error::new(path, "is a file, but a run needs a folder"));
        }
        let saved = if Self::is_one(path) { Self::has_saved(path) } else { holds_files(path, &[]) };
        if saved.map_err(|e| Error::new(path, e))? {
            let advice = if path.join(PLAN).is_file() {
                "choose another folder, or continue it with --resume"
            } else {
                "choose another folder"
            };
            let what = if path.join(PLAN).is_file() { "already holds a run" } else { "exists and is not empty" };
            return Err(Error::new(path, format!("{what}: {advice}")));
        }
        Ok(())
    }

    /// Whether `path` is the folder of a run.
    #[must_use]
    pub fn is_one(path: &Path) -> bool {
        path.join(PLAN).is_file()
    }

    /// Whether the run in `path` has saved anything that a new start would lose: everything but [`BEGUN`].
    fn has_saved(path: &Path) -> io::Result<bool> {
        let finished =
            read_json::<Summary>(&path.join(SUMMARY)).is_ok_and(|summary| summary.status == Status::Finished);
        Ok(finished || holds_files(path, &BEGUN)?)
    }

    /// The last weights of a finished run.
    ///
    /// # Errors
    /// The run has not finished, or its weights are missing.
    pub fn finished_weights(&self) -> Result<PathBuf> {
        let status = self.read_summary()?.status;
        if status != Status::Finished {
            return Err(Error::new(
                &self.path,
                format!(
                    "the run has not finished (status: {}): continue it with --resume, or name its weights file, {}",
                    status.name(),
                    self.weights("last").display()
                ),
            ));
        }
        let weights = self.weights("last");
        if weights.is_file() { Ok(weights) } else { Err(Error::new(&weights, "the run's weights are missing")) }
    }

    /// The folder at `path` that another process of the same run writes.
    #[must_use]
    pub fn of_another(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }

    /// Opens the folder of an existing run for reading, even while another process writes it.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::new(path, "the folder does not exist"));
        }
        if !path.is_dir() {
            return Err(Error::new(path, "is a file, not a run folder"));
        }
        if !Self::is_one(path) {
            return Err(Error::new(path, format!("is not a run folder: it has no {PLAN}")));
        }
        Ok(Self { path: path.to_owned(), _lock: None })
    }

    /// Opens the folder of an existing run to continue it, and takes its lock.
    pub fn resume(path: &Path) -> Result<Self> {
        let folder = Self { _lock: lock(&Self::open(path)?.path)?, path: path.to_owned() };
        folder.make_rooms()?;
        Ok(folder)
    }

    fn make_rooms(&self) -> Result<()> {
        for room in ROOMS {
            let room = self.path.join(room);
            own::folder(&room).map_err(|e| Error::new(&room, format!("cannot be created ({e})")))?;
        }
        self.sweep();
        Ok(())
    }

    /// Removes unfinished files of killed processes. Only the holder of the lock writes here now. A file that cannot be
    /// removed does no harm.
    fn sweep(&self) {
        for folder in ROOMS.iter().map(|room| self.path.join(room)).chain([self.path.clone()]) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Whether the run has nothing to continue from: it was killed before its first checkpoint and starts again. An
    /// error if this depends on a summary that cannot be read.
    pub fn is_fresh(&self) -> Result<bool> {
        if self.checkpoint().exists() {
            return Ok(false);
        }
        Ok(!self.summary().exists() || self.read_summary()?.status != Status::Finished)
    }

    /// Removes the summary of an earlier end: the run continues, and is unfinished until it ends again.
    pub fn reopen(&self) -> Result<()> {
        remove(&self.summary())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `plan.json`
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.path.join(PLAN)
    }

    /// `manifest.json`
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.path.join(MANIFEST)
    }

    /// `metrics.jsonl`
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// `checkpoint/state.safetensors`
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint").join(STATE)
    }

    /// Also keeps the checkpoint just written as that of `step`, and removes all but the `count` latest.
    pub fn keep_checkpoints(&self, step: u64, count: usize) -> Result<()> {
        if count > 1 {
            let (latest, own) = (self.checkpoint(), self.path.join(format!("checkpoint/{STEP}{step}.safetensors")));
            let kept = match fs::remove_file(&own) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                // A second name of the same file; a copy on file systems without links.
                _ => fs::hard_link(&latest, &own).or_else(|_| fs::copy(&latest, &own).map(|_| ())),
            };
            kept.map_err(|e| Error::new(&own, format!("cannot be written ({e})")))?;
        }
        let mut older = self.older_checkpoints();
        older.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
        let kept = if count > 1 { count } else { 0 };
        older.iter().skip(kept).try_for_each(|(_, path)| remove(path))
    }

    /// Removes all checkpoints: the run has finished.
    pub fn remove_checkpoints(&self) -> Result<()> {
        self.older_checkpoints()
            .iter()
            .map(|(_, path)| path)
            .chain([&self.checkpoint()])
            .try_for_each(|path| remove(path))
    }

    /// The checkpoints that are kept under the number of their step.
    fn older_checkpoints(&self) -> Vec<(u64, PathBuf)> {
        let numbered = |path: PathBuf| {
            let step = path.file_name()?.to_str()?.strip_prefix(STEP)?.strip_suffix(".safetensors")?.parse().ok()?;
            Some((step, path))
        };
        let entries = fs::read_dir(self.path.join("checkpoint")).into_iter().flatten().flatten();
        entries.filter_map(|entry| numbered(entry.path())).collect()
    }

    /// `weights/NAME.safetensors`, with the name `last`, `best` or `ema`.
    #[must_use]
    pub fn weights(&self, name: &str) -> PathBuf {
        self.path.join("weights").join(format!("{name}.safetensors"))
    }

    /// `summary.json`
    #[must_use]
    pub fn summary(&self) -> PathBuf {
        self.path.join(SUMMARY)
    }

    /// The folder for TensorBoard event files.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.path.join(EVENTS)
    }

    /// `similarity.json`
    #[must_use]
    pub fn similarity(&self) -> PathBuf {
        self.path.join("similarity.json")
    }

    /// Stores the resolved recipe, with the working folder, to which its relative paths belong.
    pub fn write_plan(&self, plan: &Value) -> Result<()> {
        write_json_atomic(&self.plan(), &places::started_here(plan.clone()))
    }

    /// The stored recipe. A relative path that does not exist here is looked up in the folder in which the run was
    /// started.
    pub fn read_plan(&self) -> Result<Value> {
        read_json(&self.plan()).map(places::from_start)
    }

    /// Stores how the run ended.
    pub fn write_summary(&self, summary: &Summary) -> Result<()> {
        write_json_atomic(&self.summary(), summary)
    }

    /// How the run ended. An error during the run, or after it was killed.
    pub fn read_summary(&self) -> Result<Summary> {
        let path = self.summary();
        if !path.exists() {
            return Err(Error::new(
                path,
                "does not exist: the run is still in progress, or was killed (continue it with --resume)",
            ));
        }
        read_json(&path)
    }
}

/// Removes a file if it exists.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::new(path, format!("cannot be removed ({e})"))),
        _ => Ok(()),
    }
}

/// Whether `path` holds a file at any depth besides the lock, unfinished files of killed processes and `others`.
fn holds_files(path: &Path, others: &[&str]) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let passing = name == LOCK || name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
        if others.iter().any(|other| name == *other) {
            continue;
        }
        let holds = if entry.file_type()?.is_dir() { holds_files(&entry.path(), &[])? } else { !passing };
        if holds {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A lock that is held until this value is dropped or the process ends.
///
/// Closing the file is not enough: a child process that another thread is just starting holds a duplicate of it, and so
/// the lock, until it executes its program.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Can only fail if the file system has lost its locks; the file is closed anyway.
        let _ = self.0.unlock();
    }
}

/// Takes the lock of a folder of runs, or of one run. `None` on a file system without locks.
///
/// # Errors
/// Another process has it.
pub fn lock(folder: &Path) -> Result<Option<Lock>> {
    let path = folder.join(LOCK);
    let fail = |e: io::Error| Error::new(&path, format!("the lock cannot be taken ({e})"));
    let mut file =
        own::open(&path, OpenOptions::new().read(true).write(true).create(true).truncate(false)).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| writeln!(file, "{}", std::process::id()))
                .map_err(fail)?;
            Ok(Some(Lock(file)))
        }
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let process = match file.read_to_string(&mut owner) {
                Ok(_) if !owner.trim().is_empty() => format!("process {}", owner.trim()),
                _ => "another process".to_owned(),
            };
            Err(Error::new(
                folder,
                format!("{process} is writing this folder: wait for it to end, or choose another folder"),
            ))
        }
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(TryLockError::Error(e)) => Err(fail(e)),
    }
}

/// Writes `value` as indented JSON; an object gets a checksum as its first key. An existing file is replaced only once
/// the new one is complete on disk.
pub fn write_json_atomic<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    let mut value = serde_json::to_value(value).map_err(|e| Error::new(path, e))?;
    if let Value::Object(keys) = &mut value {
        keys.shift_insert(0, checksum::KEY.to_owned(), checksum::blank().into());
    }
    let mut bytes = serde_json::to_vec_pretty(&value).map_err(|e| Error::new(path, e))?;
    bytes.push(b'\n');
    if value.is_object() {
        checksum::seal(&mut bytes, std::iter::empty());
    }
    replace(path, &bytes)
}

/// Replaces a file with `bytes`; the old file stays until the new one is complete on disk.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    atomic::replace(path, [bytes]).map_err(|e| Error::new(path, atomic::failure(path, &e)))
}

/// Reads a JSON file as a `T`, without its checksum. A file with a checksum must agree with it; a file without one,
/// because it is older or was written by hand, is accepted unchecked.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let mut bytes = fs::read(path).map_err(|e| Error::new(path, format!("cannot be read ({e})")))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::new(path, "is empty: was the disk full, or was the copy interrupted?"));
    }
    let verdict = checksum::check(&bytes);
    if let Text::Whole(entry) = &verdict {
        blank(&mut bytes, entry.clone());
    }
    let value = parse(path, &bytes);
    // For a file that is no longer JSON, the parser's error names the position.
    match verdict {
        Text::Changed if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok() => Err(Error::new(
            path,
            "does not match its checksum: it is damaged, or was edited by hand. Restore a copy, or, if the edit is \
             intended, delete the line `\"checksum\"`",
        )),
        _ => value,
    }
}

/// Removes an entry from an object without changing line and column numbers.
fn blank(bytes: &mut [u8], entry: Range<usize>) {
    let comma =
        bytes[entry.end..].iter().position(|b| !b.is_ascii_whitespace()).filter(|&at| bytes[entry.end + at] == b',');
    let end = comma.map_or(entry.end, |at| entry.end + at + 1);
    bytes[entry.start..end].iter_mut().filter(|b| !b.is_ascii_whitespace()).for_each(|b| *b = b' ');
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let key = e.path().to_string();
        let cause = e.inner();
        let what = match cause.classify() {
            serde_json::error::Category::Eof => "is incomplete: was the disk full, or was the copy interrupted?",
            serde_json::error::Category::Data => "has unexpected content",
            _ => "is not JSON",
        };
        let key = if key == "." { String::new() } else { format!("`{key}`: ") };
        Error::new(path, format!("{what} ({key}{cause})"))
    })?;
    reader.end().map_err(|e| Error::new(path, format!("has trailing content after its end ({e})")))?;
    Ok(value)
}
