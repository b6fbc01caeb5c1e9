//! What a weights file says about itself, so that a network can be rebuilt from the file alone.
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// The safetensors metadata key that holds a [`Card`] as JSON.
const KEY: &str = "heterodyne";

/// Architecture and input of the network whose weights a file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Model name of the registry.
    pub model: String,
    /// The family's options in force.
    pub options: toml::Table,
    /// Number of classes.
    pub classes: i64,
    /// Side of the input in pixels.
    pub img: i64,
    /// Channel means of the normalisation.
    pub mean: [f64; 3],
    /// Channel standard deviations of the normalisation.
    pub std: [f64; 3],
    /// Names of the classes, where the data had them.
    #[serde(default)]
    pub class_names: Vec<String>,
}

impl Card {
    /// The card of a file written here; `None` for weights from elsewhere.
    #[must_use]
    pub fn of(metadata: &HashMap<String, String>) -> Option<Self> {
        serde_json::from_str(metadata.get(KEY)?).ok()
    }

    /// The metadata that carries the card.
    pub fn metadata(&self) -> heterodyne_nn::Result<HashMap<String, String>> {
        let text = serde_json::to_string(self)
            .map_err(|e| heterodyne_nn::Error::invalid(format!("the weights' description cannot be written: {e}")))?;
        Ok(HashMap::from([(KEY.to_owned(), text), ("format".to_owned(), "pt".to_owned())]))
    }
}
