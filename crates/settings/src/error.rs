use crate::Key;

/// A key of a table that cannot be used; the reader of the recipe adds file, line and the nearest valid key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if key.is_empty() { String::new() } else { format!("`{key}`: ") })]
pub struct KeyError {
    /// Path of the key inside the table, `a.b`; empty for the table as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The keys that the table takes, if `key` is not one of them.
    valid: Option<Vec<String>>,
}

/// The result of a check of a key.
pub type Checked = Result<(), KeyError>;

impl KeyError {
    /// An error about `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), valid: None }
    }

    /// `key` is not one of `valid`.
    pub fn unknown(key: impl Into<String>, valid: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let (key, valid): (String, Vec<String>) = (key.into(), valid.into_iter().map(Into::into).collect());
        let expected = match &valid[..] {
            [] => "there are no fields".to_owned(),
            [only] => format!("expected `{only}`"),
            _ => format!("expected one of `{}`", valid.join("`, `")),
        };
        Self { message: format!("unknown field `{key}`, {expected}"), key, valid: Some(valid) }
    }

    /// The same with more valid keys; an error of another kind stays as it is.
    #[must_use]
    pub fn with_valid(self, more: &[Key]) -> Self {
        match self.valid {
            Some(valid) => Self::unknown(self.key, valid.into_iter().chain(more.iter().map(|key| key.name.to_owned()))),
            None => self,
        }
    }
}
