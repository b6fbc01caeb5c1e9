//! One optimizer step. Nothing in here waits for the device: values stay there until a logging step fetches them.
use heterodyne_nn::{Labels, Pass, Progress};
use heterodyne_shim as shim;
use tch::{Kind, Tensor};

use crate::{Result, objective::Lesson, optim, pair::Pair};

/// What a step leaves behind, still on the device.
#[derive(Debug)]
pub struct StepValues {
    /// Names of the terms; they change only where a method ends.
    pub names: Vec<String>,
    /// Their weights in the total.
    pub weights: Vec<f64>,
    /// float32 (terms + 3): every unweighted term, the total, the gradient's 2-norm before clipping, and a sum over
    /// what the teacher said (0 without one), which is finite where all of that is.
    pub values: Tensor,
}

/// The parts of a step that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The student's view of the images and its forward pass.
    Student,
    /// The cross-entropy and the methods.
    Method,
    /// The gradients.
    Backward,
    /// Their norm, clipping, the update, the average of the weights.
    Optimizer,
}

/// What a step works on.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// uint8 (B,3,H,W), on the device.
    pub images: &'a Tensor,
    /// On the device.
    pub labels: &'a Labels,
    /// The number of each image among the training images.
    pub samples: &'a [usize],
    /// What the teacher said of the images.
    pub lesson: Option<&'a Lesson>,
}

/// Forward, loss, backward, clip, update. A loss or gradient that is not finite updates nothing;
/// [`crate::meter::Meter`] reports it at the next logging step.
pub fn step(pair: &Pair, given: &Given, lr: f64, progress: Progress) -> Result<StepValues> {
    step_in_parts(pair, given, lr, progress, &mut |_| {})
}

/// As [`step`]; `done` hears when a part has been issued.
pub fn step_in_parts(
    pair: &Pair,
    given: &Given,
    lr: f64,
    progress: Progress,
    done: &mut dyn FnMut(Part),
) -> Result<StepValues> {
    let x_bchw = pair.student.view.apply(given.images);
    let (terms, total) = {
        // One region for network and methods, so that a weight is cast to bfloat16 once per step.
        let _cast = pair.student.autocast()?;
        let output =
            pair.student.network.forward(&x_bchw, Pass { train: true, taps: pair.objective.reads_student_taps() });
        done(Part::Student);
        let terms = pair.objective.terms(&output, given, progress)?;
        let total = terms.total().ok_or_else(|| {
            crate::Error::Plan("the loss has no terms: loss.ce is 0 and there is no method".to_owned())
        })?;
        (terms, total)
    };
    done(Part::Method);
    let params = pair.optimizer.parameters();
    shim::grad_clear(params)?;
    total.f_backward().map_err(heterodyne_nn::Error::from)?;
    done(Part::Backward);

    let norm = shim::grad_norm(params)?;
    if let Some(max_norm) = pair.clip {
        optim::clip(params, &norm, max_norm)?;
    }
    let total = total.detach().to_kind(Kind::Float);
    let norm = norm.to_kind(Kind::Float);
    let found_inf = (&total + &norm).isfinite().logical_not().to_kind(Kind::Float);
    pair.optimizer.step(lr, &found_inf)?;
    if let Some(ema) = &pair.ema {
        ema.update()?;
    }
    done(Part::Optimizer);
    let names = terms.iter().map(|t| t.name.clone()).collect();
    let weights = terms.iter().map(|t| t.weight).collect();
    let said = given.lesson.map_or_else(|| Tensor::zeros([], (Kind::Float, total.device())), Lesson::trace);
    let values = Tensor::cat(&[terms.values(), total.reshape([1]), norm.reshape([1]), said.reshape([1])], 0);
    Ok(StepValues { names, weights, values })
}
