//! Records the teacher's pass and the training step, and repeats them.
use std::cell::RefCell;

use heterodyne_nn::{Labels, Progress, Terms};
use heterodyne_shim::{
    Rate,
    graph::{OwnStream, Pool},
};
use tch::{Device, Tensor};

use super::{
    Learner, StepInput, StepValues, TeacherOutput,
    loss::{DistillLoss, Share},
    tape::{Made, Tapes, WARM_UP, numbers},
};
use crate::{Error, Result};

/// What changes from step to step besides the input.
#[derive(Clone, Copy, Debug)]
pub enum Factors<'a> {
    /// The learning rate; the terms have their weights already.
    Numbers {
        /// Learning rate.
        lr: f64,
    },
    /// Learning rate and all weights of terms (1 + terms) on the device, so that a recorded step can read new ones.
    OnDevice(&'a Tensor),
}

impl Factors<'_> {
    /// The weighted sum of all terms; `None` without terms.
    pub fn total(self, terms: &Terms) -> Option<Tensor> {
        match self {
            Self::Numbers { .. } => terms.total(),
            Self::OnDevice(factors) => terms.total_by(&factors.slice(0, 1, None, 1)),
        }
    }

    /// Calls `update` with the learning rate.
    pub fn with_rate<T>(self, update: impl FnOnce(Rate) -> T) -> T {
        match self {
            Self::Numbers { lr } => update(Rate::Number(lr)),
            Self::OnDevice(factors) => update(Rate::Scalar(&factors.select(0, 0))),
        }
    }
}

/// The recordings of a learner.
pub struct Recorder {
    device: Device,
    /// `None` on a CPU, where the recorded work runs again.
    pool: Option<Pool>,
    teacher: RefCell<Tapes<TeacherOutput>>,
    step: RefCell<Tapes<StepValues>>,
    /// For each set of active methods, the terms of a step.
    terms: RefCell<Vec<(Vec<bool>, Vec<Share>)>>,
}

impl Recorder {
    /// Steps until the recording is made: one that shows which terms there are, the warm-up, the recording itself.
    pub const STEPS: usize = WARM_UP as usize + 2;

    /// A recorder for networks on `device`.
    ///
    /// # Errors
    /// A method's step cannot be recorded.
    pub fn new(device: Device, loss: &DistillLoss) -> Result<Self> {
        if let Some(m) = loss.methods.iter().find(|m| !m.method.is_recordable()) {
            return Err(Error::Plan(format!(
                "train.graph = true: the step of {} computes on the host, so it cannot be recorded\n  hint: remove \
                 train.graph, or the method",
                m.name
            )));
        }
        let pool = device.is_cuda().then(Pool::new).transpose()?;
        let (teacher, step) = (RefCell::default(), RefCell::default());
        Ok(Self { device, pool, teacher, step, terms: RefCell::default() })
    }

    /// The stream on which the run must work; `None` on a CPU.
    ///
    /// # Errors
    /// The device fails.
    pub fn stream(&self) -> Result<Option<OwnStream>> {
        Ok(self.pool.as_ref().map(|_| OwnStream::start()).transpose()?)
    }

    /// The teacher's output for a batch, which the next call overwrites.
    pub fn teach(&self, images: &Tensor, observe: impl Fn(&Tensor) -> Result<TeacherOutput>) -> Result<TeacherOutput> {
        let images = [images.shallow_clone()];
        self.teacher.borrow_mut().run(self.pool.as_ref(), &[], &images, |images| observe(&images[0]))
    }

    /// One step of `learner`.
    pub fn step(&self, learner: &Learner, input: &StepInput, lr: f64, progress: Progress) -> Result<StepValues> {
        let active = learner.loss.active(progress.epoch);
        let known = self.terms.borrow().iter().find(|(of, _)| *of == active).map(|(_, shares)| shares.clone());
        let Some(shares) = known else {
            // The first step of its kind shows which terms there are.
            let lr = if self.device.is_cuda() { f64::from(lr as f32) } else { lr };
            let (values, shares) = learner.issue(input, Factors::Numbers { lr }, progress, &mut |_| {})?;
            self.terms.borrow_mut().push((active, shares));
            return Ok(values);
        };
        let weights = learner.loss.weights(&shares, progress.epoch);
        let factors: Vec<f64> = std::iter::once(lr).chain(weights.iter().copied()).collect();
        let inputs = flat(input, numbers(&factors, self.device)?);
        let work = |inputs: &[Tensor]| {
            let (input, factors) = structured(inputs, input);
            Ok(learner.issue(&input, Factors::OnDevice(&factors), progress, &mut |_| {})?.0)
        };
        let values = self.step.borrow_mut().run(self.pool.as_ref(), &active, &inputs, work)?;
        // The recording's own tensor is overwritten by the next step.
        Ok(StepValues { names: values.names, weights, values: values.values.copy() })
    }
}

/// All tensors of an input in a fixed order, the factors first.
fn flat(input: &StepInput, factors: Tensor) -> Vec<Tensor> {
    let (Labels::Hard(labels) | Labels::Soft(labels)) = &input.labels;
    let mut all = vec![factors, input.images.shallow_clone(), labels.shallow_clone()];
    all.extend(input.teacher.iter().flat_map(TeacherOutput::tensors).map(Tensor::shallow_clone));
    all
}

/// The input with the structure of `like` and the factors whose tensors are `all`, in the order of [`flat`].
fn structured(all: &[Tensor], like: &StepInput) -> (StepInput, Tensor) {
    let at = |place: usize| all[place].shallow_clone();
    let labels = match like.labels {
        Labels::Hard(_) => Labels::Hard(at(2)),
        Labels::Soft(_) => Labels::Soft(at(2)),
    };
    let mut signals = all.iter().skip(4).map(Tensor::shallow_clone);
    let teacher = like.teacher.as_ref().map(|teacher| TeacherOutput {
        logits: at(3),
        signals: teacher.signals.iter().map(|of| signals.by_ref().take(of.len()).collect()).collect(),
    });
    (StepInput { images: at(1), labels, samples: Vec::new(), teacher }, at(0))
}

impl Made for TeacherOutput {
    fn tensors(&self) -> Vec<&Tensor> {
        std::iter::once(&self.logits).chain(self.signals.iter().flatten()).collect()
    }

    fn handles(&self) -> Self {
        let handles = |of: &Vec<Tensor>| of.iter().map(Tensor::shallow_clone).collect();
        Self { logits: self.logits.shallow_clone(), signals: self.signals.iter().map(handles).collect() }
    }
}

impl Made for StepValues {
    fn tensors(&self) -> Vec<&Tensor> {
        vec![&self.values]
    }

    fn handles(&self) -> Self {
        Self { names: self.names.clone(), weights: self.weights.clone(), values: self.values.shallow_clone() }
    }
}
