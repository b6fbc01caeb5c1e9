//! Downloads one file from the server into the cache.
//!
//! The client downloads into a folder of our own. A file enters the cache only after its size has been verified, and
//! its SHA-256 if the server gives one.
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hf_hub::Cache;
use hf_hub::api::sync::ApiError;
use sha2::{Digest, Sha256};

use super::remote::{Remote, is_of_disk};
use super::store::make;
use super::watch::{Lost, watched};
use crate::cache::{self, Repository};
use crate::{Error, Progress};

/// The server's description of a file.
struct Promise {
    /// The etag as the client writes it in its paths.
    etag: String,
    /// The etag without the mark of a weak one: the name of the blob.
    blob: String,
    size: u64,
}

/// The path of `file` at `commit` in the cache; downloads it if it is missing.
pub fn obtain(
    remote: &Remote<'_>,
    cache: &Repository,
    commit: &str,
    file: &str,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<PathBuf, Error> {
    if let Some(path) = cache.file(commit, file) {
        return Ok(path);
    }
    let promise = ask(remote, commit, file)?;
    let _lock = cache.lock(&promise.blob)?;
    let whole = fs::metadata(cache.blob(&promise.blob)).is_ok_and(|blob| blob.is_file() && blob.len() == promise.size);
    if !whole {
        let partial = cache.partial(&promise.blob);
        let received = download(remote, &partial, commit, file, &promise, &mut progress)?;
        if let Err(error) = verify(remote, &received, file, &promise) {
            // Resuming from wrong bytes would fail again.
            fs::remove_dir_all(&partial).map_err(cache::at(&partial))?;
            return Err(error);
        }
        cache.adopt(&received, &promise.blob)?;
        fs::remove_dir_all(&partial).map_err(cache::at(&partial))?;
        // Fails, as intended, if another file is being downloaded.
        let _ = partial.parent().map(fs::remove_dir);
    }
    cache.link(commit, file, &promise.blob)
}

/// Requests etag and size, and checks the parts that become paths before the client uses them.
fn ask(remote: &Remote<'_>, commit: &str, file: &str) -> Result<Promise, Error> {
    let client = remote.client(Cache::new(remote.settings.cache.clone()))?;
    let url = remote.at(&client, commit).url(file);
    let metadata = watched(remote.settings.timeout, 0, move |_meter| client.metadata(&url), |_| {});
    let metadata = metadata.map_err(|lost| self::lost(remote, &lost, file, 0, 0))?.map_err(|e| remote.failure(&e))?;
    if metadata.commit_hash() != commit {
        return Err(
            remote.answer(format!("{file} of commit {commit} was requested, but the answer is for another commit"))
        );
    }
    let etag = metadata.etag();
    let blob = etag.strip_prefix("W/").unwrap_or(etag);
    if !(1..=128).contains(&blob.len()) || !blob.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(remote.answer(format!("the etag of {file} is not a hash")));
    }
    Ok(Promise { etag: etag.to_owned(), blob: blob.to_owned(), size: metadata.size() as u64 })
}

/// Lets the client download into `partial`, resuming an earlier attempt.
fn download(
    remote: &Remote<'_>,
    partial: &Path,
    commit: &str,
    file: &str,
    promise: &Promise,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<PathBuf, Error> {
    make(partial)?;
    let own = Cache::new(partial.to_owned());
    let blob = own.repo(remote.repo(commit)).blob_path(&promise.etag);
    discard_overlong(&blob.with_extension("part"), promise.size)?;
    let repository = remote.at(&remote.client(own)?, commit);
    let mut done = 0;
    let result = watched(
        remote.settings.timeout,
        promise.size,
        {
            let file = file.to_owned();
            move |meter| repository.download_with_progress(&file, meter)
        },
        |bytes| {
            done = bytes;
            progress(Progress { file, done, total: promise.size });
        },
    );
    match result {
        Ok(Ok(_pointer)) => Ok(blob),
        Ok(Err(ApiError::IoError(source))) if is_of_disk(&source) => {
            Err(Error::Cache { path: partial.to_owned(), source })
        }
        Ok(Err(ApiError::IoError(e))) => Err(interrupted(remote, file, done, promise.size, e.to_string())),
        Ok(Err(ApiError::LockAcquisition(lock))) => Err(Error::Busy { lock }),
        Ok(Err(e)) => Err(remote.failure(&e)),
        Err(lost) => {
            if matches!(lost, Lost::TooLong) {
                fs::remove_dir_all(partial).map_err(cache::at(partial))?;
            }
            Err(self::lost(remote, &lost, file, done, promise.size))
        }
    }
}

/// Removes a partial file that is already as long as the file: the client would request bytes beyond its end.
fn discard_overlong(part: &Path, size: u64) -> Result<(), Error> {
    match fs::metadata(part) {
        Ok(found) if found.len() >= size => fs::remove_file(part).map_err(cache::at(part)),
        _ => Ok(()),
    }
}

/// Verifies the size and, if the etag is a SHA-256, the hash: the Hub gives it for files that it keeps outside git,
/// such as weights.
fn verify(remote: &Remote<'_>, received: &Path, file: &str, promise: &Promise) -> Result<(), Error> {
    let corrupt =
        |expected, found| Err(Error::Corrupt { name: remote.name.clone(), file: file.to_owned(), expected, found });
    let size = fs::metadata(received).map_err(cache::at(received))?.len();
    if size != promise.size {
        return corrupt(format!("{} bytes", promise.size), format!("{size} bytes"));
    }
    let is_sha256 = promise.blob.len() == 64 && promise.blob.bytes().all(|b| b.is_ascii_hexdigit());
    if is_sha256 {
        let found = sha256(received).map_err(cache::at(received))?;
        if !found.eq_ignore_ascii_case(&promise.blob) {
            return corrupt(format!("SHA-256 {}", promise.blob), format!("SHA-256 {found}"));
        }
    }
    Ok(())
}

fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn interrupted(remote: &Remote<'_>, file: &str, done: u64, total: u64, why: String) -> Error {
    Error::Interrupted { name: remote.name.clone(), file: file.to_owned(), done, total, why }
}

fn lost(remote: &Remote<'_>, lost: &Lost, file: &str, done: u64, total: u64) -> Error {
    match lost {
        Lost::Stalled => remote.stalled(&format!("sending {file} ({done} of {total} bytes)")),
        Lost::Died => remote.answer(format!("the client could not understand the answer for {file}")),
        Lost::TooLong => remote.answer(format!("it sends more than the {total} bytes that it announced for {file}")),
    }
}
