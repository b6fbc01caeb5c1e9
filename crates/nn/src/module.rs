//! The interface of every network.
use tch::Tensor;

use crate::{FeatureMap, TapSpec};

/// How to run a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Batch statistics and dropout as in training.
    pub train: bool,
    /// Keep the stages and the embedding; otherwise they are freed during the pass.
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

/// The output of one forward pass.
#[derive(Debug)]
pub struct Output {
    /// (B,classes), before any softmax.
    pub logits: Tensor,
    /// The pooled penultimate features (B,D) that the classifier sees.
    pub embedding: Option<Tensor>,
    /// Stages from shallow to deep.
    pub stages: Vec<FeatureMap>,
}

/// A network that classifies images and exposes its stages.
pub trait Module {
    /// Runs the network on normalised images (B,3,H,W) of the size it was built for.
    fn forward(&self, x_bchw: &Tensor, pass: Pass) -> Output;

    /// The shapes that [`Module::forward`] returns, known in advance.
    fn taps(&self) -> &TapSpec;
}
