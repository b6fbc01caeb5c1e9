//! What every network looks like from outside.
use tch::Tensor;

use crate::{FeatureMap, TapSpec};

/// How a forward pass is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Batch statistics and dropout as in training.
    pub train: bool,
    /// Keep the stages and the embedding; without it they are freed as the pass goes on.
    pub taps: bool,
}

impl Pass {
    /// Training with taps, as a student runs.
    pub const TRAIN: Self = Self { train: true, taps: true };
    /// Evaluation with taps, as a teacher runs.
    pub const TEACH: Self = Self { train: false, taps: true };
    /// Evaluation, logits only.
    pub const EVAL: Self = Self { train: false, taps: false };
}

/// What one forward pass gives.
#[derive(Debug)]
pub struct Output {
    /// (B,classes), before any softmax.
    pub logits: Tensor,
    /// The pooled penultimate features (B,D) that the classifier sees.
    pub embedding: Option<Tensor>,
    /// Stages from shallow to deep.
    pub stages: Vec<FeatureMap>,
}

/// A network that classifies images and shows its stages.
pub trait Module {
    /// Runs normalised images (B,3,H,W) of the size the network was built for.
    fn forward(&self, x_bchw: &Tensor, pass: Pass) -> Output;

    /// The shapes that [`Module::forward`] gives, known in advance.
    fn taps(&self) -> &TapSpec;
}
