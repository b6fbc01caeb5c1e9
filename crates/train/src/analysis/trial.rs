//! A few steps of a run, measured: which parameters learn, how much memory and time a step takes.
use std::{sync::atomic::AtomicBool, time::Instant};

use heterodyne_nn::Progress;
use tch::Kind;

use crate::{
    Error, Result, device,
    error::guarded,
    plan::schedule,
    run::{
        eval,
        meter::{Meter, Window},
    },
    session::{Place, Session},
};

/// Steps that are timed, after one that is not.
const STEPS: usize = 4;
/// The least learning rate, as a share of the peak: with a rate of 0, layers that start at zero would stay there, and
/// those before them would have no gradient.
const LEAST_RATE: f64 = 0.01;
/// Images that a timed evaluation runs, in batches.
const EVALUATED: usize = 512;

/// What a few steps have shown.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Means of the losses and of the gradient's norm.
    pub losses: Window,
    /// Number of trained tensors, of the student and of the methods' heads.
    pub parameters: usize,
    /// Parameters that no gradient has reached.
    pub without_gradient: Vec<String>,
    /// Parameters whose gradient was zero throughout.
    pub zero_gradient: Vec<String>,
    /// Median time of a step in seconds, with its data.
    pub step_seconds: f64,
    /// Time of an evaluation image in seconds.
    pub eval_seconds: f64,
    /// The largest memory in bytes: tensors on a GPU, else the resident size of the process.
    pub memory: Option<u64>,
}

impl Trial {
    /// Trains the session's networks for a few steps of its first epoch and evaluates some images. The session must not
    /// be used for a run afterwards.
    ///
    /// # Errors
    /// A step fails, or its loss is NaN or infinite. [`heterodyne_nn::Error::Stopped`] as soon as `stop` is set.
    pub fn of(s: &Session, stop: &AtomicBool) -> Result<Self> {
        guarded("trying a step", || measure(s, stop))
    }

    /// The time that the whole run will take on this machine, in seconds: its steps, and its evaluations.
    #[must_use]
    pub fn run_seconds(&self, s: &Session) -> (f64, f64) {
        let t = &s.plan.recipe.train;
        let images = s.validation.as_ref().map_or(0, |v| v.indices().len()) + s.test.indices().len();
        let evaluations = t.epochs.div_ceil(t.eval_every);
        (s.total_steps() as f64 * self.step_seconds, f64::from(evaluations) * images as f64 * self.eval_seconds)
    }
}

fn measure(s: &Session, stop: &AtomicBool) -> Result<Trial> {
    let (recipe, learner) = (&s.plan.recipe, &s.learner);
    let _stream = learner.own_stream()?;
    let optimizer = &learner.optimizer;
    let peak = recipe.optim.lr;
    let lr = schedule::rate(&recipe.schedule, peak, 0.0, f64::from(recipe.train.epochs)).max(LEAST_RATE * peak);
    let (mut meter, mut times) = (Meter::default(), Vec::new());
    let mut without_gradient = Vec::new();
    let mut zero = vec![true; optimizer.parameters().len()];
    let mut start = Instant::now();
    for (number, batch) in (0..=STEPS).zip(batches(s, stop)) {
        let at = Place { epoch: 0, batch: number as u64, time: 0.0 };
        let progress = Progress { step: number as u64, steps: s.total_steps(), epoch: 0.0 };
        let values = learner.step(&s.feed(batch?, at, || ())?, lr, progress)?;
        device::wait(learner.device());
        times.push(start.elapsed().as_secs_f64());
        meter.add(number as u64 + 1, 0.0, lr, values);
        if number == 0 {
            without_gradient = optimizer.without_gradient().into_iter().map(str::to_owned).collect();
        }
        for (zero, (_, parameter)) in zero.iter_mut().zip(optimizer.named()) {
            let gradient = parameter.grad();
            *zero &= !gradient.defined() || gradient.abs().max().to_kind(Kind::Double).double_value(&[]) == 0.0;
        }
        start = Instant::now();
    }
    let teacher = learner.teacher.as_ref().map(|teacher| teacher.name.as_str());
    let losses =
        meter.fetch(teacher, &s.world)?.ok_or_else(|| Error::Plan("there are no images to train on".to_owned()))?;
    let names = optimizer.named().map(|(name, _)| name.to_owned());
    let zero_gradient = names
        .zip(zero)
        .filter(|(name, zero)| *zero && !without_gradient.contains(name))
        .map(|(name, _)| name)
        .collect();
    let sample = s.test.spread(EVALUATED, recipe.train.eval_batch.min(EVALUATED));
    let evaluated = eval::evaluate_until(&learner.student, &sample, stop, |_| {})?;
    // The first step also allocates memory and starts the loader's threads.
    let first = usize::from(times.len() > 1);
    Ok(Trial {
        losses,
        parameters: optimizer.parameters().len(),
        without_gradient,
        zero_gradient,
        step_seconds: super::bench::median(&mut times[first..]),
        eval_seconds: evaluated.seconds / evaluated.images as f64,
        memory: device::peak_memory(learner.device()),
    })
}

/// The first batches of the session, epoch after epoch if an epoch is short.
fn batches<'a>(s: &'a Session, stop: &'a AtomicBool) -> impl Iterator<Item = Result<heterodyne_data::Batch>> + 'a {
    (0u32..).flat_map(move |epoch| {
        let mut loader = s.train.epoch(epoch, 0);
        std::iter::from_fn(move || loader.next_until(stop).map(|batch| batch.map_err(Error::from)))
    })
}
