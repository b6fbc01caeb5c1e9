//! The folder of a repository in the cache, laid out as Python's `huggingface_hub` lays it out:
//! `refs/<revision>` holds a commit, `snapshots/<commit>/<file>` links to `blobs/<etag>`, which holds the bytes.
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::Error;

/// The folder of one repository.
pub struct Repository {
    pub folder: PathBuf,
}

impl Repository {
    pub fn new(cache: &Path, repo: &str) -> Self {
        Self { folder: cache.join(format!("models--{}", repo.replace('/', "--"))) }
    }

    /// The commit that `revision` referred to when it was last fetched.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let mut commit = String::new();
        File::open(self.reference(revision)).ok()?.take(256).read_to_string(&mut commit).ok()?;
        let commit = commit.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// The path of a commit's file, if it is in the cache.
    pub fn file(&self, commit: &str, file: &str) -> Option<PathBuf> {
        let path = self.snapshot(commit, file);
        path.is_file().then_some(path)
    }

    pub fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    pub fn snapshot(&self, commit: &str, file: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit).join(file)
    }
}

/// Whether `revision` is a full commit hash, which never moves.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A system error with its path.
pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Cache { path: path.to_owned(), source }
}
