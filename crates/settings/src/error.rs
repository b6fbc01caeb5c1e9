/// A key of a table that cannot be used; the reader of the recipe adds file, line and the nearest valid key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if key.is_empty() { String::new() } else { format!("`{key}`: ") })]
pub struct KeyError {
    /// Path of the key inside the table, `a.b`; empty for the table as a whole.
    pub key: String,
    /// What is wrong: serde's sentence (with the list of valid keys for an unknown one), or the method's own.
    pub message: String,
}

/// What a check of a key gives.
pub type Checked = Result<(), KeyError>;

impl KeyError {
    /// An error about `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}
