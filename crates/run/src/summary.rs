//! How a run ended.
use serde::{Deserialize, Serialize};

pub use crate::metrics::{Eval, Extent};

/// `summary.json`: written when a run ends, however it ends. Percentages are 0..100.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The recipe's name.
    pub name: String,
    /// `train` or `distill`.
    pub command: String,
    /// How it ended.
    pub status: Status,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The student's model.
    pub student: String,
    /// The teacher's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// Names of the methods that had a weight.
    pub methods: Vec<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// Epochs done.
    pub epochs: u32,
    /// Optimizer steps done.
    pub steps: u64,
    /// The student's parameters.
    pub parameters: u64,
    /// Images trained on.
    pub train_images: u64,
    /// The last evaluation on the test images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Eval>,
    /// The evaluation on the test images at the best epoch, which was chosen on `selected_on`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Eval>,
    /// What chose the best epoch: `validation`, `test` (then `best` is optimistic), or `none`.
    pub selected_on: String,
    /// Wall time of training, in seconds.
    pub seconds: f64,
    /// Training images per second, over the whole run.
    pub images_per_second: f64,
    /// `cpu` or `cuda`.
    pub device: String,
    /// `fp32` or `bf16`.
    pub precision: String,
    /// How far the metrics reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Extent>,
    /// What it ran on.
    pub versions: Versions,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It did all its epochs.
    Finished,
    /// It was asked to stop and can be resumed.
    Interrupted,
    /// An error ended it.
    Failed,
}

impl Status {
    /// Its name, as it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// Versions of what computed a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// This project.
    pub heterodyne: String,
    /// The tensor engine.
    pub libtorch: String,
}
