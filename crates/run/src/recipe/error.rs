//! What is wrong with a recipe, where, and what to do about it.
use std::{borrow::Cow, fmt};

/// A recipe that cannot be used. Shown as `place: message`, with a hint on its own line where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    /// `file:line`, `file:line:column`, `file` or `--set key=value`; empty where the recipe as a whole is meant.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to do, if that is known.
    pub hint: Option<String>,
}

impl RecipeError {
    /// An error at `place`.
    pub fn new(place: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { place: place.to_string(), message: message.into(), hint: None }
    }

    /// The same error with `hint` on a line of its own.
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

/// Characters of a message that are shown; a value of a megabyte is not.
const SHOWN: usize = 1000;

/// `text` without its middle, where it is longer than anybody reads.
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
