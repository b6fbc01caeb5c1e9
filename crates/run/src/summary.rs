//! How a run ended.
use serde::{Deserialize, Serialize};

pub use crate::{
    machine::Machine,
    metrics::{Eval, Extent},
};

/// `summary.json`, written whenever a run ends. Percentages are 0..100.
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
    /// How well the teacher knew the data before the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_score: Option<TeacherScore>,
    /// Names of the methods with a non-zero weight.
    pub methods: Vec<String>,
    /// Seed of all random generators.
    pub seed: u64,
    /// Epochs done.
    pub epochs: u32,
    /// Optimizer steps done.
    pub steps: u64,
    /// The student's parameters.
    pub parameters: u64,
    /// Number of training images.
    pub train_images: u64,
    /// The last evaluation on the test images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Eval>,
    /// What the last evaluation shows besides the accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
    /// The evaluation on the test images at the best epoch, which was selected on `selected_on`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Eval>,
    /// The images on which the best epoch was selected: `validation`, `test` (then `best` is optimistic), or `none`.
    pub selected_on: String,
    /// Wall time of training, in seconds.
    pub seconds: f64,
    /// Training images per second, over the whole run.
    pub images_per_second: f64,
    /// `cpu` or `cuda`.
    pub device: String,
    /// `fp32`, `tf32`, `bf16` or `fp16`.
    pub precision: String,
    /// The extent of the metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Extent>,
    /// Versions of the software.
    pub versions: Versions,
    /// The machine on which it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

/// The teacher's accuracy before a run, with its own evaluation transform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeacherScore {
    /// `test`, or `validation` if the recipe leaves the test images alone.
    pub split: String,
    /// Top-1 accuracy.
    pub top1: f64,
    /// Number of images, spread evenly over the split.
    pub images: u64,
}

/// An evaluation class by class, its calibration and its agreement with the teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// `validation` or `test`.
    pub split: String,
    /// Expected calibration error in percent: the difference of confidence and accuracy, averaged over the images in 15
    /// bins of equal width by confidence (Guo et al. 2017, arXiv 1706.04599, equation 3).
    pub calibration_error: f64,
    /// The images of each class, in the order of the classes.
    pub classes: Vec<ClassScore>,
    /// How often student and teacher predict the same class, on the images on which the teacher was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
}

/// The accuracy on the images of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Its name, or its number if the data has no names.
    pub class: String,
    /// Number of its images.
    pub images: u64,
    /// Number of those whose label has the largest logit.
    pub correct: u64,
}

/// Equal predictions of student and teacher.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Number of images.
    pub images: u64,
    /// Percentage of images with equal predictions.
    pub percent: f64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All epochs were completed.
    Finished,
    /// The run was asked to stop and can be resumed.
    Interrupted,
    /// An error ended the run.
    Failed,
}

impl Status {
    /// The name that is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// Versions of the software that computed a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Version of heterodyne.
    pub heterodyne: String,
    /// Version of libtorch.
    pub libtorch: String,
}
