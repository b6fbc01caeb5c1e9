//! What a weights file says about itself, so that a network can be rebuilt from the file alone.
use std::collections::HashMap;

use heterodyne_nn::PartialInput;
use serde::{Deserialize, Serialize};

/// The safetensors metadata key that holds a [`Card`] as JSON.
const KEY: &str = "heterodyne";

/// Architecture and input of the network whose weights a file holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Model name of the registry.
    pub model: String,
    /// The family's options in force.
    pub options: toml::Table,
    /// Number of classes.
    pub classes: i64,
    /// How the network is shown an image.
    #[serde(flatten)]
    pub input: PartialInput,
    /// Names of the classes, where the data had them.
    #[serde(default)]
    pub class_names: Vec<String>,
}

impl Card {
    /// The card of a file written here; `None` for weights from elsewhere.
    ///
    /// # Errors
    /// There is a card, and it cannot be read.
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
