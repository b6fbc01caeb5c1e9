//! What can go wrong, and what to do about it.
use std::path::PathBuf;
use std::time::Duration;

use crate::Name;

/// Why there are no files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name does not name a repository.
    #[error("`{name}` does not name a repository: {why}; write hf-hub:owner/name or hf-hub:owner/name@revision")]
    Name {
        /// What was given.
        name: String,
        /// The violated rule.
        why: &'static str,
    },
    /// An environment variable has an unusable value. The value of a token is not shown.
    #[error("the environment variable {variable} {why}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A file is not in the cache, in offline mode.
    #[error(
        "{name}: HF_HUB_OFFLINE is set, but {looked_for} is not in the cache ({}). Fetch it once with \
         HF_HUB_OFFLINE=0, or copy {} from a machine that has it",
        repository.display(), repository.file_name().unwrap_or_default().display()
    )]
    NotCached {
        /// The name.
        name: Name,
        /// The file that is missing.
        looked_for: String,
        /// The folder of the repository in the cache.
        repository: PathBuf,
    },
    /// A file is not in the cache, in a build without the feature `download`.
    #[error(
        "{name}: {looked_for} is not in the cache ({}), and this build cannot download: it was built without the \
         feature `hub`",
        repository.display()
    )]
    NoDownload {
        /// The name.
        name: Name,
        /// The file that is missing.
        looked_for: String,
        /// The folder of the repository in the cache.
        repository: PathBuf,
    },
    /// The repository does not exist, or the server hides it: 401 or 404.
    #[error(
        "{name}: no such repository on {host}, or it is private: set HF_TOKEN to a token that can read it (the server \
         answered {status})"
    )]
    NoRepository {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{name}: the repository on {host} has no such branch, tag or commit")]
    NoRevision {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
    },
    /// The repository exists, but the file may not be read: 401 or 403.
    #[error(
        "{name}: {host} denies access (status {status}): accept the terms on the repository's page, and set HF_TOKEN \
         to a token that can read it"
    )]
    Forbidden {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The repository has no supported weights file.
    #[error("{name}: the repository has no weights file at commit {commit}; looked for {}", crate::WEIGHTS.join(", \
        then "))]
    NoWeights {
        /// The name.
        name: Name,
        /// The commit.
        commit: String,
    },
    /// The index of shards cannot be read.
    #[error("{name}: {index} is not an index of shards: {why}")]
    Index {
        /// The name.
        name: Name,
        /// The file.
        index: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The repository lacks a file that its index lists.
    #[error("{name}: the repository has no {shard}, which its {index} lists")]
    NoShard {
        /// The name.
        name: Name,
        /// The index.
        index: &'static str,
        /// The file.
        shard: String,
    },
    /// The server cannot be reached.
    #[error(
        "{name}: cannot reach {host}: {why}. Without a network, set HF_HUB_OFFLINE=1 to use only the cache, or copy \
         the file to this machine and give its path"
    )]
    Unreachable {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
        /// The client's message.
        why: String,
    },
    /// The server has sent nothing for too long.
    #[error("{name}: {host} has sent nothing for {} s while {doing}; try again, received data are \
             kept", after.as_secs_f64())]
    Stalled {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
        /// The action in progress.
        doing: String,
        /// The time without data.
        after: Duration,
    },
    /// The server answered with an unexpected status.
    #[error("{name}: {host} answered with status {status}; try again later")]
    Status {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server's answer is not that of a Hub.
    #[error(
        "{name}: the answer of {host} is not that of a Hub: {why}. If HF_ENDPOINT is set, check that it names a Hub"
    )]
    Answer {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// The download of a file ended early.
    #[error("{name}: the download of {file} ended after {done} of {total} bytes ({why}); try again, it resumes there")]
    Interrupted {
        /// The name.
        name: Name,
        /// The file in the repository.
        file: String,
        /// Bytes received.
        done: u64,
        /// Bytes promised.
        total: u64,
        /// The client's message.
        why: String,
    },
    /// The received data do not match the file.
    #[error("{name}: {file} was received with {found} instead of {expected}; it was removed, try again")]
    Corrupt {
        /// The name.
        name: Name,
        /// The file in the repository.
        file: String,
        /// Size or hash promised.
        expected: String,
        /// Size or hash received.
        found: String,
    },
    /// Another process, or the thread of a stalled attempt, holds the file's lock.
    #[error("{}: this lock is held: another process, or an abandoned attempt, is downloading the same file; wait for \
             it, or end it", lock.display())]
    Busy {
        /// The lock.
        lock: PathBuf,
    },
    /// The cache cannot be read or written: no space, no permission, not a folder.
    #[error("{}: {source} (in the cache of Hub files; HF_HOME sets its location)", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}
