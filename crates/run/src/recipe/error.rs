//! Recipe errors: what is wrong, where, and what to do.
use std::{borrow::Cow, fmt};

/// An invalid recipe. Shown as `place: message`, with any hint on its own line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    /// `file:line`, `file:line:column`, `file` or `--set key=value`; empty for the recipe as a whole.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to do, if known.
    pub hint: Option<String>,
}

impl RecipeError {
    /// Creates an error at `place`.
    pub fn new(place: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { place: place.to_string(), message: message.into(), hint: None }
    }

    /// Adds `hint`, shown on its own line.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", shortened(&self.place))?;
        }
        f.write_str(&shortened(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {}", shortened(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for RecipeError {}

/// Maximum number of characters shown of a text, in case a value is megabytes long.
const SHOWN: usize = 1000;

/// `text`, with the middle left out if it is too long.
pub fn shortened(text: &str) -> Cow<'_, str> {
    let (head, tail) = (SHOWN / 2, SHOWN / 4);
    let length = text.chars().count();
    if length <= SHOWN {
        return Cow::Borrowed(text);
    }
    let at = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(place, _)| place);
    Cow::Owned(format!(
        "{} .. ({} characters) .. {}",
        &text[..at(head)],
        length - head - tail,
        &text[at(length - tail)..]
    ))
}
