//! What can go wrong, and what to do about it.
use std::path::PathBuf;
use std::time::Duration;

use crate::Name;

/// Why there are no files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a name of a repository.
    #[error(
        "`{name}` does not name a repository: {why}. It is written hf-hub:owner/name or hf-hub:owner/name@revision"
    )]
    Name {
        /// What was given.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A variable of the environment has a value that cannot be used. The value of a token is not shown.
    #[error("the environment variable {variable} {why}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Offline, and a file is not in the cache.
    #[error(
        "{name}: HF_HUB_OFFLINE is set and {looked_for} is not in the cache ({}). Fetch it once with \
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
    /// The server knows no such repository, or does not show it: 401 or 404.
    #[error(
        "{name}: there is no such repository on {host}, or it is private: set HF_TOKEN to a token that may read it \
         (the server answered {status})"
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
    /// The repository is there, the file may not be read: 401 or 403.
    #[error(
        "{name}: {host} does not give access (status {status}): accept the terms on the repository's page, and set \
         HF_TOKEN to a token that may read it"
    )]
    Forbidden {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The repository has no weights that can be read.
    #[error("{name}: the repository has no weights file at commit {commit}; looked for {}", crate::WEIGHTS.join(", \
        then "))]
    NoWeights {
        /// The name.
        name: Name,
        /// The commit.
        commit: String,
    },
    /// An index of shards that cannot be read.
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
    /// No connection to the server.
    #[error(
        "{name}: cannot reach {host}: {why}. Without a network, set HF_HUB_OFFLINE=1 to use the cache alone, or copy \
         the file here and give its path"
    )]
    Unreachable {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
        /// What the client says.
        why: String,
    },
    /// The server sent nothing for a while.
    #[error("{name}: {host} has sent nothing for {} s while {doing}; try again, what has arrived is \
        kept", after.as_secs_f64())]
    Stalled {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
        /// The request.
        doing: String,
        /// The time without a byte.
        after: Duration,
    },
    /// The server answered with a status that is neither success nor one of the above.
    #[error("{name}: {host} answered with status {status}; try again later")]
    Status {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server answered what a Hub does not answer.
    #[error("{name}: the answer of {host} is not one of a Hub: {why}. If HF_ENDPOINT is set, see that it names a Hub")]
    Answer {
        /// The name.
        name: Name,
        /// Host of the endpoint.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// The body of a file ended early.
    #[error(
        "{name}: the download of {file} ended after {done} of {total} bytes ({why}); try again, it goes on from there"
    )]
    Interrupted {
        /// The name.
        name: Name,
        /// The file in the repository.
        file: String,
        /// Bytes received.
        done: u64,
        /// Bytes promised.
        total: u64,
        /// What the client says.
        why: String,
    },
    /// What was received is not the file.
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
    #[error("{}: this lock is held, so the same file is being downloaded by another process or by an attempt that was \
        given up; wait for it, or end it", lock.display())]
    Busy {
        /// The lock.
        lock: PathBuf,
    },
    /// The cache cannot be read or written: no space, no permission, not a folder.
    #[error("{}: {source} (this is in the cache of the Hub's files; HF_HOME says where that is)", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}
