//! Student, teacher, loss and optimizer: everything of a run except its data, and the training step.
pub mod ema;
pub mod input;
pub mod loss;
pub mod optim;
mod recorder;
pub mod scaler;
mod tape;

use heterodyne_methods::BuildContext;
use heterodyne_nn::{ParamStore, Pass, Progress, Terms, catch};
use heterodyne_run::recipe::schema::{Distributed, GradientFormat, NormScope, Precision, Recipe};
use heterodyne_shim::{self as shim, AllowTf32, NoGrad, Tf32, graph::OwnStream, ranks::Reducer};
use tch::{Device, Kind, Tensor};

pub use self::{
    ema::Ema,
    input::{StepInput, TeacherOutput},
    loss::{DistillLoss, LossTerm},
    optim::Optimizer,
    recorder::Recorder,
    scaler::Scaler,
};
use self::{loss::Share, recorder::Factors};
use crate::{
    Error, Result,
    network::Network,
    plan::MethodPlan,
    world::{self, World},
};

/// The networks, the loss and the optimizer of a run.
pub struct Learner {
    /// The network being trained.
    pub student: Network,
    /// The frozen network, if there is one.
    pub teacher: Option<Network>,
    /// The loss, with the methods' heads.
    pub loss: DistillLoss,
    /// Updates the student and the heads.
    pub optimizer: Optimizer,
    /// The student's average, if the recipe requests one.
    pub ema: Option<Ema>,
    /// Scales the loss of a student in float16.
    pub scaler: Option<Scaler>,
    /// Largest 2-norm of the gradient; `None` for no clipping.
    pub clip_grad: Option<f64>,
    /// Records the step and repeats it, if the recipe asks for it.
    pub recorder: Option<Recorder>,
    /// The processes that share every batch.
    pub world: World,
    /// Whether batch norms use the statistics of the whole batch.
    sync_norms: bool,
    /// Averages the gradients of several processes.
    reducer: Option<Reducer>,
}

/// The values of a step, still on the device.
#[derive(Debug)]
pub struct StepValues {
    /// Names of the terms; they change only when a method ends.
    pub names: Vec<String>,
    /// Their weights in the total.
    pub weights: Vec<f64>,
    /// float32 (terms + 3): all unweighted terms, the total, the gradient's 2-norm before clipping, and
    /// [`TeacherOutput::trace`] (0 without a teacher).
    pub values: Tensor,
}

/// The parts of a step, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The student's view of the images and its forward pass.
    Student,
    /// The cross-entropy and the methods.
    Method,
    /// The gradients.
    Backward,
    /// Gradient norm, clipping, update, average of the weights.
    Optimizer,
}

impl Learner {
    /// Builds the methods' heads for the two networks and the optimizer of student and heads. `sample_classes` holds
    /// the class of every training image; `world` are the processes that train together.
    pub fn new(
        student: Network,
        teacher: Option<Network>,
        plans: &[MethodPlan],
        recipe: &Recipe,
        sample_classes: &[i64],
        world: &World,
    ) -> Result<Self> {
        let heads = ParamStore::new(student.device(), recipe.seed ^ 0x6865_6164);
        let ranks = world.ranks();
        let mut methods = Vec::new();
        if let Some(teacher) = &teacher {
            for m in plans {
                let scope = &heads.root().sub(&m.name);
                let pair =
                    BuildContext { scope, student: student.taps(), teacher: teacher.taps(), sample_classes, ranks };
                let build = || m.settings.build(&pair);
                let method = catch(|| format!("building the heads of {}", m.name), build)?;
                methods.push(LossTerm { name: m.name.clone(), weight: m.weight.clone(), method });
            }
        }
        let mut parameters = student.store.parameters();
        parameters.extend(heads.parameters().into_iter().map(|(name, t, role)| (format!("heads.{name}"), t, role)));
        let optimizer = Optimizer::new(&recipe.optim, parameters)?;
        let train = &recipe.train;
        let ema = train.ema_decay.map(|decay| Ema::new(&student.store, decay));
        let scaler = (student.precision == Precision::Fp16).then(|| Scaler::new(student.device()));
        let epochs = f64::from(train.epochs);
        let loss = DistillLoss { ce: recipe.loss.ce, smoothing: train.label_smoothing, epochs, methods, heads };
        let recorder = train.graph.then(|| Recorder::new(student.device(), &loss)).transpose()?;
        if recorder.is_some() && !world.is_alone() {
            return Err(Error::Plan("train.graph = true works in a single process only: remove it".to_owned()));
        }
        let Distributed { batch_norm, gradients, .. } = recipe.distributed;
        let half = gradients == GradientFormat::Fp16;
        let reducer = world.group().map(|group| Reducer::new(group, optimizer.parameters(), half)).transpose()?;
        Ok(Self {
            student,
            teacher,
            loss,
            optimizer,
            ema,
            scaler,
            clip_grad: train.clip_grad,
            recorder,
            world: world.clone(),
            sync_norms: batch_norm == NormScope::Synced,
            reducer,
        })
    }

    /// The device of student and teacher.
    #[must_use]
    pub fn device(&self) -> Device {
        self.student.device()
    }

    /// The stream on which a recorder works, for as long as the value lives; nothing without a recorder or on a CPU.
    pub fn own_stream(&self) -> Result<Option<OwnStream>> {
        Ok(self.recorder.as_ref().map(Recorder::stream).transpose()?.flatten())
    }

    /// The teacher's output for uint8 images (B,3,H,W) on the device, reduced to what the methods read. The rest is
    /// freed before the student runs. With a recorder, the next call overwrites it.
    pub fn teach(&self, images: &Tensor) -> Result<TeacherOutput> {
        match &self.recorder {
            None => self.observe(images),
            Some(recorder) => recorder.teach(images, |images| self.observe(images)),
        }
    }

    fn observe(&self, images: &Tensor) -> Result<TeacherOutput> {
        let teacher = self.teacher.as_ref().ok_or_else(|| Error::Plan("a method needs a teacher".to_owned()))?;
        let _guard = NoGrad::new();
        let output = teacher.forward(images, Pass { train: false, taps: self.loss.reads_teacher_taps() })?;
        self.loss.observe(&output)
    }

    /// Forward, loss, backward, clip, update. Nothing waits for the device: values stay there until a logging step
    /// fetches them. If the loss or the gradient is not finite, nothing is updated, and
    /// [`crate::run::meter::Meter`] reports it at the next logging step.
    pub fn step(&self, input: &StepInput, lr: f64, progress: Progress) -> Result<StepValues> {
        match &self.recorder {
            None => self.step_in_parts(input, lr, progress, &mut |_| {}),
            Some(recorder) => recorder.step(self, input, lr, progress),
        }
    }

    /// Like [`Learner::step`] without a recorder, but calls `done` after issuing each part.
    pub fn step_in_parts(
        &self,
        input: &StepInput,
        lr: f64,
        progress: Progress,
        done: &mut dyn FnMut(Part),
    ) -> Result<StepValues> {
        Ok(self.issue(input, Factors::Numbers { lr }, progress, done)?.0)
    }

    /// Issues a step; also returns what the terms' weights are made of.
    fn issue(
        &self,
        input: &StepInput,
        factors: Factors,
        progress: Progress,
        done: &mut dyn FnMut(Part),
    ) -> Result<(StepValues, Vec<Share>)> {
        let (terms, shares, total) = self.forward(input, factors, progress, done)?;
        done(Part::Method);
        let params = self.optimizer.parameters();
        shim::grad_clear(params)?;
        let convolutions = self.student.precision == Precision::Tf32;
        let tf32 = convolutions.then(|| AllowTf32::new(Tf32::Convolutions)).transpose()?;
        let scaled = self.scaler.as_ref().map_or_else(|| total.shallow_clone(), |scaler| scaler.scaled(&total));
        self.backward(&scaled)?;
        drop(tf32);
        done(Part::Backward);

        if let Some(scaler) = &self.scaler {
            scaler.unscale(params)?;
        }
        let norm = shim::grad_norm(params)?;
        if let Some(max_norm) = self.clip_grad {
            optim::clip(params, &norm, max_norm)?;
        }
        let total = total.detach().to_kind(Kind::Float);
        let norm = norm.to_kind(Kind::Float);
        let found_inf = (&total + &norm).isfinite().logical_not().to_kind(Kind::Float);
        factors.with_rate(|lr| self.optimizer.step(lr, &found_inf))?;
        let norm = match &self.scaler {
            Some(scaler) => scaler.update(&total, &norm, &found_inf)?,
            None => norm,
        };
        if let Some(ema) = &self.ema {
            ema.update()?;
        }
        done(Part::Optimizer);
        let (names, weights) = terms.iter().map(|t| (t.name.clone(), t.weight)).unzip();
        let no_teacher = || Tensor::zeros([], (Kind::Float, total.device()));
        let teacher = input.teacher.as_ref().map_or_else(no_teacher, TeacherOutput::trace);
        let values = Tensor::cat(&[terms.values(), total.reshape([1]), norm.reshape([1]), teacher.reshape([1])], 0);
        Ok((StepValues { names, weights, values }, shares))
    }

    /// The gradients of `total`, averaged over all processes.
    fn backward(&self, total: &Tensor) -> Result<()> {
        let backward = |total: &Tensor| total.f_backward().map_err(heterodyne_nn::Error::from);
        let Some(reducer) = &self.reducer else { return Ok(backward(total)?) };
        let total = total * world::poison(total);
        reducer.prepare(&total)?;
        Ok(backward(&total)?)
    }

    /// The student's pass and the loss in one autocast region, so each weight is cast once per step.
    fn forward(
        &self,
        input: &StepInput,
        factors: Factors,
        progress: Progress,
        done: &mut dyn FnMut(Part),
    ) -> Result<(Terms, Vec<Share>, Tensor)> {
        let x_bchw = self.student.view.apply(&input.images);
        let _cast = self.student.autocast()?;
        let _norms = self.sync_norms.then(|| self.world.sync_norms());
        let pass = Pass { train: true, taps: self.loss.reads_student_taps() };
        // The methods' arithmetic is exact, so TF32 ends with the student's pass.
        let tf32 = self.student.tf32()?;
        let output = self.student.module.forward(&x_bchw, pass);
        drop(tf32);
        done(Part::Student);
        let (terms, shares) = self.loss.terms(&output, input, progress, self.world.ranks())?;
        let total = factors.total(&terms);
        let total = total
            .ok_or_else(|| Error::Plan("the loss has no terms: loss.ce is 0 and there is no method".to_owned()))?;
        Ok((terms, shares, total))
    }
}
