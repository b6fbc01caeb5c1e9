//! Logit standardisation (Sun et al. 2024, arXiv 2403.01427, algorithm 1), a wrapper for any method that compares
//! logits.
//!
//! ```text
//! Z(z) = (z - mean of z) / standard deviation of z       over the classes of each image, for student and teacher alike
//! L    = the method's loss on Z(z_s) and Z(z_t)
//! ```
//! The student's logits may then differ from the teacher's in scale and offset. The run's cross-entropy still uses the
//! original logits.
use heterodyne_nn::{FeatureMap, Output, Result, TapSpec, Terms};
use heterodyne_settings::KeyError;
use tch::Tensor;

use crate::{
    BuildContext, Configured, Context, Method, Signal, TeacherSignals,
    parts::{TensorExt, autocast_off, float},
};

/// Avoids a division by zero for constant logits, whose deviation is 0.
const EPS: f64 = 1e-14;

/// Wraps `settings` to use standardised logits.
///
/// # Errors
/// The method does more with the logits than compare them, or does not read them.
pub fn standardised(name: &str, settings: Box<dyn Configured>) -> std::result::Result<Box<dyn Configured>, KeyError> {
    if settings.compares_logits() {
        return Ok(Box::new(Standardised(settings)));
    }
    Err(KeyError::new(
        "logit_std",
        format!("{name} is not a method that only compares logits, so it has nothing to standardise: remove the key"),
    ))
}

/// Z(z): (B,C) with mean 0 and variance 1 over the classes, in at least float32; rows of equal logits become 0.
pub fn standard(z_bc: &Tensor) -> Tensor {
    let z_bc = float(z_bc);
    let centred_bc = &z_bc - z_bc.mean_keepdim(&[1]);
    let variance_b1 = centred_bc.square().mean_keepdim(&[1]);
    centred_bc / (variance_b1 + EPS).sqrt()
}

#[derive(Debug)]
struct Standardised(Box<dyn Configured>);

impl Configured for Standardised {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        self.0.check(student, teacher, batch)
    }

    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>> {
        Ok(Box::new(StandardisedLoss(self.0.build(pair)?)))
    }

    fn compares_logits(&self) -> bool {
        false
    }

    fn resolved(&self) -> toml::Table {
        self.0.resolved()
    }
}

struct StandardisedLoss(Box<dyn Method>);

impl Method for StandardisedLoss {
    fn signals(&self) -> Vec<Signal> {
        self.0.signals()
    }

    fn reads_stages(&self) -> bool {
        self.0.reads_stages()
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        self.0.observe(teacher)
    }

    fn is_recordable(&self) -> bool {
        self.0.is_recordable()
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let float32 = autocast_off(step.student.logits.device())?;
        let (z_s, z_t) = (standard(&step.student.logits), standard(step.teacher.logits));
        drop(float32);
        let student = Output {
            logits: z_s,
            embedding: step.student.embedding.as_ref().map(Tensor::shallow_clone),
            stages: step.student.stages.iter().map(FeatureMap::shallow_clone).collect(),
        };
        self.0.loss(&Context { student: &student, teacher: TeacherSignals { logits: &z_t, ..step.teacher }, ..*step })
    }
}
