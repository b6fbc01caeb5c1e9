//! What `inspect --similarity` leaves in a run folder: the similarity of two networks' stages and where their energy
//! lies.
use serde::{Deserialize, Serialize};

/// Both networks of a run on the same images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// Which of the student's weights: `last`, `best` or `ema`.
    pub weights: String,
    /// Test images looked at.
    pub images: usize,
    /// Images of one minibatch.
    pub batch: usize,
    /// The frozen network.
    pub teacher: Side,
    /// The trained one.
    pub student: Side,
    /// Linear CKA by minibatches, between 0 and 1 up to sampling noise.
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
    /// Share of the energy at 0, 1, 2, .. cycles per image (the distance from the zero frequency, rounded); the sum is
    /// 1. Empty where all features are 0.
    pub energy: Vec<f64>,
}

/// Linear centred kernel alignment of all pairs of stages; `None` where one of them does not vary with the image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cka {
    /// A row for each stage of the teacher, a column for each of the student.
    pub teacher_student: Vec<Vec<Option<f64>>>,
    /// Among the teacher's stages.
    pub teacher: Vec<Vec<Option<f64>>>,
    /// Among the student's stages.
    pub student: Vec<Vec<Option<f64>>>,
}
