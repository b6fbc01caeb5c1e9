//! Strict reading of one recipe table into a typed value.
use serde::de::DeserializeOwned;

/// A key of a table that cannot be used; the reader of the recipe adds file, line and the nearest valid key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if key.is_empty() { String::new() } else { format!("`{key}`: ") })]
pub struct KeyError {
    /// Path of the key inside the table, `a.b`; empty for the table as a whole.
    pub key: String,
    /// What is wrong: serde's sentence (with the list of valid keys for an unknown one), or the method's own.
    pub message: String,
}

impl KeyError {
    /// An error about `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// Reads `table` as a `T`; a key that `T` (with `deny_unknown_fields`) does not have and a value of the wrong type are errors.
pub fn parse<T: DeserializeOwned>(table: &toml::Table) -> Result<T, KeyError> {
    serde_path_to_error::deserialize(toml::Value::Table(table.clone())).map_err(|e| {
        let key = e.path().to_string();
        let message = e.into_inner().message().to_owned();
        KeyError { key: if key == "." { String::new() } else { key }, message }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Keys {
        alpha: f64,
    }

    impl Default for Keys {
        fn default() -> Self {
            Self { alpha: 1.0 }
        }
    }

    fn read(text: &str) -> Result<Keys, KeyError> {
        parse(&text.parse::<toml::Table>().unwrap())
    }

    #[test]
    fn a_wrong_type_names_its_key_and_an_unknown_key_the_valid_ones() {
        assert_eq!(read("alpha = 2").unwrap().alpha, 2.0);
        let e = read("alpha = \"x\"").unwrap_err();
        assert_eq!(e.key, "alpha");
        assert!(e.message.contains("expected f64"), "{e}");
        let e = read("alhpa = 2.0").unwrap_err();
        assert!(e.message.contains("unknown field `alhpa`") && e.message.contains("`alpha`"), "{e}");
    }
}
