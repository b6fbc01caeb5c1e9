//! A repository on the server: its list of files, and our messages for the client's errors.
use std::io::{self, ErrorKind};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use http::Uri;
use serde::Deserialize;

use crate::{Error, Name, Settings, Token};

/// Maximum size of a list of files in bytes, far more than any model's repository needs.
const LISTING_LIMIT: u64 = 16 << 20;

/// One repository of one server.
pub struct Remote<'a> {
    pub settings: &'a Settings,
    pub name: &'a Name,
    pub host: String,
}

/// The commit of a revision and its files.
#[derive(Deserialize)]
pub struct Listing {
    #[serde(rename = "sha")]
    pub commit: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Listing {
    pub fn has(&self, file: &str) -> bool {
        self.siblings.iter().any(|sibling| sibling.rfilename == file)
    }
}

impl<'a> Remote<'a> {
    pub fn new(settings: &'a Settings, name: &'a Name) -> Self {
        Self { settings, name, host: host(&settings.endpoint) }
    }

    /// The client, with its own cache in `cache`, so its own writes do not reach the real cache.
    pub fn client(&self, cache: Cache) -> Result<Api, Error> {
        ApiBuilder::from_cache(cache)
            .with_endpoint(self.settings.endpoint.clone())
            .with_token(self.settings.token.as_ref().map(|token| Token::reveal(token).to_owned()))
            .with_progress(false)
            .build()
            .map_err(|e| self.failure(&e))
    }

    /// The repository at a revision.
    pub fn at(&self, client: &Api, revision: &str) -> ApiRepo {
        client.repo(self.repo(revision))
    }

    pub fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.repo.clone(), RepoType::Model, revision.to_owned())
    }

    /// Requests the revision's list of files.
    pub fn list(&self) -> Result<Listing, Error> {
        let client = self.client(Cache::new(self.settings.cache.clone()))?;
        let request = self.at(&client, self.name.revision()).info_request();
        let request = request.config().http_status_as_error(false).timeout_global(Some(self.settings.timeout)).build();
        let mut response = request.call().map_err(|e| self.transport(&e, "asking for the list of files"))?;
        let status = response.status().as_u16();
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok());
        match (status, code) {
            (200, _) => {}
            (_, Some("RevisionNotFound")) => {
                return Err(Error::NoRevision { name: self.name.clone(), host: self.host.clone() });
            }
            (401 | 404, _) => {
                return Err(Error::NoRepository { name: self.name.clone(), host: self.host.clone(), status });
            }
            _ => return Err(self.status(status)),
        }
        let body = response.body_mut().with_config().limit(LISTING_LIMIT).read_to_string();
        let body = body.map_err(|e| self.transport(&e, "asking for the list of files"))?;
        let listing: Listing =
            serde_json::from_str(&body).map_err(|e| self.answer(format!("the list of files is damaged ({e})")))?;
        if !crate::cache::is_commit(&listing.commit) {
            return Err(self.answer("the list of files has no commit".into()));
        }
        Ok(listing)
    }

    /// An error of the client outside the body of a file.
    pub fn failure(&self, error: &ApiError) -> Error {
        match error {
            ApiError::RequestError(e) => self.transport(e, "asking for a file"),
            other => self.answer(other.to_string()),
        }
    }

    /// An error for an answer that is not a Hub's.
    pub fn answer(&self, why: String) -> Error {
        Error::Answer { name: self.name.clone(), host: self.host.clone(), why }
    }

    /// An error for a server that stopped sending.
    pub fn stalled(&self, doing: &str) -> Error {
        Error::Stalled {
            name: self.name.clone(),
            host: self.host.clone(),
            doing: doing.into(),
            after: self.settings.timeout,
        }
    }

    fn transport(&self, error: &ureq::Error, doing: &str) -> Error {
        match error {
            ureq::Error::StatusCode(status) => self.status(*status),
            ureq::Error::Timeout(_) => self.stalled(doing),
            ureq::Error::BodyExceedsLimit(limit) => self.answer(format!("it is longer than {limit} bytes")),
            ureq::Error::Http(_) | ureq::Error::BadUri(_) | ureq::Error::Protocol(_) => self.answer(error.to_string()),
            ureq::Error::RedirectFailed | ureq::Error::TooManyRedirects => self.answer(error.to_string()),
            other => Error::Unreachable { name: self.name.clone(), host: self.host.clone(), why: other.to_string() },
        }
    }

    fn status(&self, status: u16) -> Error {
        let (name, host) = (self.name.clone(), self.host.clone());
        match status {
            401 | 403 => Error::Forbidden { name, host, status },
            404 | 416 => self.answer(format!("it lists a file, but answers {status} for it")),
            _ => Error::Status { name, host, status },
        }
    }
}

/// Host and port of an endpoint, for messages: the whole URL may contain a password.
fn host(endpoint: &str) -> String {
    let uri = endpoint.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(|uri| Some((uri.host()?, uri.port())));
    match host {
        Some((host, Some(port))) => format!("{host}:{port}"),
        Some((host, None)) => host.to_owned(),
        None => "HF_ENDPOINT".to_owned(),
    }
}

/// Whether a system error concerns the disk: the client reports both ends of a copy as the same kind of error.
pub fn is_of_disk(error: &io::Error) -> bool {
    use ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::FileTooLarge
            | Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::NotFound
    )
}
