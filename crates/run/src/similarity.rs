//! The result of `inspect --similarity` in a run folder: the similarity of two networks' stages and the spectral
//! distribution of their energy.
use serde::{Deserialize, Serialize};

/// Both networks of a run on the same images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// Which of the student's weights: `last`, `best` or `ema`.
    pub weights: String,
    /// Number of test images.
    pub images: usize,
    /// Images per minibatch.
    pub batch: usize,
    /// The teacher's stages.
    pub teacher: Side,
    /// The student's stages.
    pub student: Side,
    /// Minibatch linear CKA, between 0 and 1 up to sampling noise.
    pub cka: Cka,
}

/// One network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Its name.
    pub model: String,
    /// Its stages from shallow to deep.
    pub stages: Vec<Stage>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// `map` or `tokens`.
    pub kind: String,
    /// Channels, or the width of a token.
    pub channels: i64,
    /// Rows and columns.
    pub grid: [i64; 2],
    /// Share of the energy at 0, 1, 2, .. cycles per image (the distance from the zero frequency, rounded). The shares
    /// sum to 1; empty if all features are 0.
    pub energy: Vec<f64>,
}

/// Linear centred kernel alignment of all pairs of stages; `None` if one of the stages does not vary with the image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cka {
    /// A row for each stage of the teacher, a column for each of the student.
    pub teacher_student: Vec<Vec<Option<f64>>>,
    /// Among the teacher's stages.
    pub teacher: Vec<Vec<Option<f64>>>,
    /// Among the student's stages.
    pub student: Vec<Vec<Option<f64>>>,
}
