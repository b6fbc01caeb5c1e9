use crate::Key;

/// An invalid key of a table. The recipe reader adds the file, the line and the nearest valid key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if key.is_empty() { String::new() } else { format!("`{key}`: ") })]
pub struct KeyError {
    /// Path of the key inside the table, `a.b`; empty for the table as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do, if known.
    pub hint: Option<String>,
    /// The valid keys of the table, if `key` is not one of them.
    valid: Option<Vec<String>>,
}

/// The result of a check of a key.
pub type Checked = Result<(), KeyError>;

impl KeyError {
    /// Creates an error about `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), hint: None, valid: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Creates the error that `key` is not one of `valid`.
    pub fn unknown(key: impl Into<String>, valid: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let (key, valid): (String, Vec<String>) = (key.into(), valid.into_iter().map(Into::into).collect());
        let expected = match &valid[..] {
            [] => "there are no fields".to_owned(),
            [only] => format!("expected `{only}`"),
            _ => format!("expected one of `{}`", valid.join("`, `")),
        };
        Self { message: format!("unknown field `{key}`, {expected}"), key, hint: None, valid: Some(valid) }
    }

    /// The keys that the table takes, if the key is not one of them.
    #[must_use]
    pub fn valid(&self) -> Option<&[String]> {
        self.valid.as_deref()
    }

    /// The same, of a table that is the key `table` of another.
    #[must_use]
    pub fn inside(self, table: &str) -> Self {
        let key = if self.key.is_empty() { table.to_owned() } else { format!("{table}.{}", self.key) };
        Self { key, ..self }
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
