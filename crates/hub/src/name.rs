//! Names of repositories, as in a recipe.
use std::fmt;
use std::str::FromStr;

use crate::Error;

/// timm's prefix and its older spelling.
const PREFIXES: [&str; 2] = ["hf-hub:", "hf_hub:"];

/// Whether `name` begins with the prefix `hf-hub:` (or the older `hf_hub:`).
pub fn is_name(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// A model's repository, and optionally its revision.
///
/// Parsed from `hf-hub:owner/name` or `hf-hub:owner/name@revision`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// `owner/name`.
    pub repo: String,
    /// A branch, a tag or a commit; `None` means the branch `main`.
    pub revision: Option<String>,
}

impl Name {
    /// The revision in force.
    pub(crate) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Checks both fields: they become parts of URLs and of paths in the cache.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let broken = repo_rule(&self.repo).or_else(|| self.revision.as_deref().and_then(revision_rule));
        broken.map_or(Ok(()), |why| Err(Error::Name { name: self.to_string(), why }))
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) else {
            return Err(Error::Name { name: name.into(), why: "it does not begin with hf-hub:" });
        };
        let (repo, revision) = match rest.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision.to_owned())),
            None => (rest, None),
        };
        let parsed = Self { repo: repo.to_owned(), revision };
        parsed.check()?;
        Ok(parsed)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", PREFIXES[0], self.repo)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

/// The rule of the Hub that `repo` breaks.
fn repo_rule(repo: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let Some((owner, name)) = repo.split_once('/') else {
        return Some("owner and name are not separated by `/`");
    };
    if owner.is_empty() || name.is_empty() {
        Some("owner or name is empty")
    } else if name.contains('/') {
        Some("there is more than one `/`")
    } else if !owner.chars().chain(name.chars()).all(plain) {
        Some("owner or name has other characters than letters, digits, `.`, `_` and `-`")
    } else if owner.len() > 96 || name.len() > 96 {
        Some("owner or name is longer than 96 characters")
    } else if repo.contains("..") || repo.contains("--") {
        Some("owner or name has a `..` or a `--`")
    } else if [owner, name].iter().any(|part| part.starts_with(['.', '-']) || part.ends_with(['.', '-'])) {
        Some("owner or name begins or ends with `.` or `-`")
    } else {
        None
    }
}

/// The rule that `revision` breaks: git's rules for reference names, restricted to characters that need no escaping in
/// a URL.
fn revision_rule(revision: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+/".contains(c);
    if revision.is_empty() {
        Some("the revision after `@` is empty")
    } else if revision.len() > 255 {
        Some("the revision is longer than 255 characters")
    } else if !revision.chars().all(plain) {
        Some("the revision has other characters than letters, digits, `.`, `_`, `-`, `+` and `/`")
    } else if revision.split('/').any(|part| part.is_empty() || part.starts_with(['.', '-']) || part.ends_with('.')) {
        Some("a part of the revision is empty, begins with `.` or `-`, or ends with `.`")
    } else if revision.contains("..") {
        Some("the revision has a `..`")
    } else {
        None
    }
}
