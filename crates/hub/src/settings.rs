//! Settings from the environment variables that Python's library reads.
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;

use crate::Error;

/// The public Hub.
const ENDPOINT: &str = "https://huggingface.co";

/// A server that sends nothing for this long is given up.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The source of the files and the cache.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cache, with a folder `models--owner--name` per repository.
    pub cache: PathBuf,
    /// The server's URL, without a `/` at its end.
    pub endpoint: String,
    /// For private repositories. It is sent to the endpoint. The client also sends it in the request for a file's size
    /// to the host that the endpoint redirects to, but not in the request for the body there.
    pub token: Option<Token>,
    /// Whether to use only the cache and no network.
    pub offline: bool,
    /// A server that sends nothing for this long is given up.
    pub timeout: Duration,
}

/// An access token, which is sent to the server and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token without surrounding white space; `None` if nothing is left.
    ///
    /// # Errors
    /// [`Error::Setting`] if it has characters that a header cannot carry.
    pub fn new(token: &str) -> Result<Option<Self>, Error> {
        let token = token.trim();
        if !token.chars().all(|c| c.is_ascii_graphic()) {
            return Err(Error::Setting {
                variable: "HF_TOKEN",
                why: "(or the token file) has characters that are not allowed in a token".into(),
            });
        }
        Ok((!token.is_empty()).then(|| Self(token.to_owned())))
    }

    /// The token itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Settings {
    /// Reads the environment; nothing else does.
    ///
    /// The rules are those of Python's `huggingface_hub`: the cache is `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`,
    /// else `hub` under `HF_HOME`, else under `huggingface` in `XDG_CACHE_HOME` or `~/.cache`; the server is
    /// `HF_ENDPOINT`, else the public Hub; `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) of 1, true, yes or on, in any
    /// case, means offline; the token is `HF_TOKEN`, else `HUGGING_FACE_HUB_TOKEN`, else the content of the file
    /// `HF_TOKEN_PATH` or `token` under `HF_HOME`, and none with `HF_HUB_DISABLE_IMPLICIT_TOKEN`. An empty value counts
    /// as absent.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value that is not text, not a URL or not a token, and if no variable gives the home
    /// folder.
    pub fn from_env() -> Result<Self, Error> {
        Self::read(|variable| env::var_os(variable))
    }

    /// As [`Settings::from_env`], with another source of the variables.
    ///
    /// # Errors
    /// As there.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let get = |variable: &str| get(variable).filter(|value| !value.is_empty());
        let text = |variable: &'static str| match get(variable).map(OsString::into_string) {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(Error::Setting { variable, why: "is not valid UTF-8".into() }),
            None => Ok(None),
        };
        let yes = |variable| {
            Ok(text(variable)?.map(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())))
        };
        let user = get("HOME").or_else(|| get("USERPROFILE")).map(PathBuf::from);
        let path = |variable: &str| get(variable).map(|value| expand(PathBuf::from(value), user.as_deref()));

        let home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| user.as_ref().map(|user| user.join(".cache")));
            caches.map(|caches| caches.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| home.as_ref().map(|home| home.join("hub")));
        let Some(cache) = cache else {
            return Err(Error::Setting {
                variable: "HF_HOME",
                why: "is not set, and neither is HOME; set one of them to locate the cache".into(),
            });
        };

        let token = if yes("HF_HUB_DISABLE_IMPLICIT_TOKEN")?.unwrap_or(false) {
            None
        } else if let Some(token) =
            text("HF_TOKEN")?.map_or_else(|| text("HUGGING_FACE_HUB_TOKEN"), |token| Ok(Some(token)))?
        {
            Token::new(&token)?
        } else {
            let file = path("HF_TOKEN_PATH").or_else(|| home.as_ref().map(|home| home.join("token")));
            file.and_then(|file| fs::read_to_string(file).ok()).map_or(Ok(None), |token| Token::new(&token))?
        };

        Ok(Self {
            cache: std::path::absolute(&cache).map_err(|source| Error::Cache { path: cache, source })?,
            endpoint: endpoint(text("HF_ENDPOINT")?)?,
            token,
            offline: yes("HF_HUB_OFFLINE")?
                .map_or_else(|| yes("TRANSFORMERS_OFFLINE"), |set| Ok(Some(set)))?
                .unwrap_or(false),
            timeout: TIMEOUT,
        })
    }
}

/// Expands `~` at the beginning of a path, as Python does.
fn expand(path: PathBuf, user: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), user) {
        (Ok(rest), Some(user)) => user.join(rest),
        _ => path,
    }
}

/// The endpoint, which must be an http or https URL without a query.
fn endpoint(value: Option<String>) -> Result<String, Error> {
    let value = value.map_or_else(|| ENDPOINT.to_owned(), |value| value.trim_end_matches('/').to_owned());
    let uri = value.parse::<Uri>().ok();
    let fits = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none()
    });
    if fits {
        Ok(value)
    } else {
        Err(Error::Setting { variable: "HF_ENDPOINT", why: "is not an http or https URL".into() })
    }
}
