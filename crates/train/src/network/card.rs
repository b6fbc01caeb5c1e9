//! The self-description of a weights file, from which the network can be rebuilt.
use std::collections::HashMap;

use heterodyne_nn::PartialInput;
use serde::{Deserialize, Serialize};

/// The safetensors metadata key that holds a [`Card`] as JSON.
const KEY: &str = "heterodyne";

/// Architecture and input of the network in a weights file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Model name in the registry.
    pub model: String,
    /// The model family's options in effect.
    pub options: toml::Table,
    /// Number of classes.
    pub classes: i64,
    /// The evaluation transform.
    #[serde(flatten)]
    pub input: PartialInput,
    /// Class names, if the data has them.
    #[serde(default)]
    pub class_names: Vec<String>,
}

impl Card {
    /// The card of a file written by heterodyne; `None` for other files.
    ///
    /// # Errors
    /// The card cannot be read.
    pub fn of(metadata: &HashMap<String, String>) -> heterodyne_nn::Result<Option<Self>> {
        let unread = |e| {
            heterodyne_nn::Error::invalid(format!(
                "the description in the file's metadata (`{KEY}`) cannot be read: {e}"
            ))
        };
        metadata.get(KEY).map(|text| serde_json::from_str(text).map_err(unread)).transpose()
    }

    /// The metadata that carries the card.
    pub fn metadata(&self) -> heterodyne_nn::Result<HashMap<String, String>> {
        let text = serde_json::to_string(self)
            .map_err(|e| heterodyne_nn::Error::invalid(format!("the weights' description cannot be written: {e}")))?;
        Ok(HashMap::from([(KEY.to_owned(), text), ("format".to_owned(), "pt".to_owned())]))
    }
}
