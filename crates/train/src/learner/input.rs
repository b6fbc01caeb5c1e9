//! The input of a training step.
use heterodyne_nn::Labels;
use tch::{Kind, Tensor};

/// The part of the teacher's output on one batch that the methods need.
#[derive(Debug)]
pub struct TeacherOutput {
    /// (B,classes), before any softmax.
    pub logits: Tensor,
    /// Each method's signals, in the order of the loss's terms.
    pub signals: Vec<Vec<Tensor>>,
}

impl TeacherOutput {
    /// A float32 scalar that is NaN or infinite if any value of the output is.
    pub fn trace(&self) -> Tensor {
        let mean = |t: &Tensor| t.mean(Kind::Float);
        let signals = self.signals.iter().flatten().filter(|t| t.is_floating_point());
        signals.map(mean).fold(mean(&self.logits), |sum, t| sum + t)
    }
}

/// A training batch on the device, with the teacher's output.
#[derive(Debug)]
pub struct StepInput {
    /// uint8 (B,3,H,W).
    pub images: Tensor,
    /// Classes (B), or shares of classes (B,classes) for mixed images.
    pub labels: Labels,
    /// The index of each image among the training images.
    pub samples: Vec<usize>,
    /// `None` if no method learns from a teacher, or all have ended.
    pub teacher: Option<TeacherOutput>,
}
