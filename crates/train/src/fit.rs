//! The loop: epochs of steps, evaluations, checkpoints, and a clean end whatever happens.
use std::{path::Path, sync::atomic::AtomicBool, time::Instant};

use heterodyne_data::random::{Purpose, Random};
use heterodyne_nn::{Progress, file};
use heterodyne_run::{
    events::EventWriter,
    folder::RunFolder,
    metrics::{Eval, Metric, Writer},
    recipe::schema::TestWhen,
    summary::{Status, Summary, Versions},
};
use tch::Device;

use crate::{
    Error, Result,
    cache::{self, Stock},
    error::guarded,
    eval,
    eval::Measured,
    meter::Meter,
    preflight::{self, TeacherCheck},
    schedule,
    session::Session,
    sound,
    state::{self, Loaded, Position},
    step::{self, Given},
};

/// What a run tells whoever watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// The teacher was looked at.
    Teacher(TeacherCheck),
    /// The teacher's cache was opened, and some of its entries compared with what the teacher says now.
    Cache {
        /// How full it is.
        stock: &'a Stock,
        /// Entries that were compared.
        checked: usize,
    },
    /// Something that the run goes on without.
    Note(&'a str),
    /// An epoch begins.
    Epoch {
        /// Its number, from 0.
        epoch: u32,
        /// Its batches.
        batches: usize,
        /// Those of them that an interrupted run has done.
        done: usize,
    },
    /// A step was issued.
    Step {
        /// Of the epoch so far.
        images_per_second: f64,
        /// Share of the epoch's time spent waiting for data.
        data_wait: f64,
    },
    /// A line went into the metrics.
    Metric(&'a Metric),
    /// An evaluation goes on.
    Evaluating {
        /// Images that it has done.
        done: usize,
    },
    /// The run was asked to stop and has saved a checkpoint.
    Interrupted,
}

/// Whoever watches a run.
pub trait Observer {
    /// Hears an event.
    fn on(&mut self, event: &Event);
}

impl<F: FnMut(&Event)> Observer for F {
    fn on(&mut self, event: &Event) {
        self(event);
    }
}

/// Trains `s` in `folder`, from the folder's checkpoint where `resume` is set, until the end or until `stop`. The
/// summary is written in every case; an error leaves the last checkpoint and the weights of the last evaluation whole.
pub fn fit(
    s: &Session,
    folder: &RunFolder,
    resume: bool,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let Loaded { mut position, notes } = match resume && !folder.is_fresh()? {
        true => state::load(&folder.checkpoint(), s)?,
        false => Loaded { position: Position::default(), notes: Vec::new() },
    };
    notes.iter().for_each(|note| observer.on(&Event::Note(note)));
    let metrics = metrics(s, folder, resume, &position)?;
    let unwritten = |e: Error| e.while_writing(s.plan.command, folder.path());
    let events = if resume {
        EventWriter::resume(&folder.events(), position.step)
    } else {
        EventWriter::create(&folder.events())
    };
    let events = events.map_err(|e| unwritten(e.into()))?;
    folder.reopen().map_err(|e| unwritten(e.into()))?;
    let mut run = Run { s, folder, metrics, events, observer, meter: Meter::default(), told: false };
    let outcome = guarded("training", || run.run(&mut position, stop)).map_err(unwritten);
    // Where they cannot be brought to the disk, nobody can say how far they reach.
    let extent = run.metrics.extent().ok();
    let summary = Summary { metrics: extent, ..summarise(s, &position, &outcome) };
    let written = folder.write_summary(&summary);
    outcome?;
    written.map_err(|e| unwritten(e.into()))?;
    Ok(summary)
}

/// The metrics, cut to where the checkpoint has left them.
fn metrics(s: &Session, folder: &RunFolder, resume: bool, position: &Position) -> Result<Writer> {
    let path = folder.metrics();
    let by_step = || Writer::open(&path, resume.then_some(position.step));
    Ok(match position.metrics {
        Some(extent) => {
            Writer::open_at(&path, extent).or_else(|e| if s.accept_changes { by_step() } else { Err(e) })?
        }
        None => by_step()?,
    })
}

struct Run<'a> {
    s: &'a Session,
    folder: &'a RunFolder,
    metrics: Writer,
    events: EventWriter,
    observer: &'a mut dyn Observer,
    meter: Meter,
    /// Whether the cache's trouble was told.
    told: bool,
}

/// Time since the last line of the metrics.
struct Clock {
    start: Instant,
    waited: f64,
    images: u64,
}

impl Clock {
    fn new() -> Self {
        Self { start: Instant::now(), waited: 0.0, images: 0 }
    }

    fn images_per_second(&self) -> f64 {
        self.images as f64 / self.start.elapsed().as_secs_f64().max(1e-9)
    }

    fn data_wait(&self) -> f64 {
        (self.waited / self.start.elapsed().as_secs_f64().max(1e-9)).min(1.0)
    }
}

impl Run<'_> {
    /// All that is left to do; a stop keeps what was done, wherever it comes.
    fn run(&mut self, position: &mut Position, stop: &AtomicBool) -> Result<Status> {
        match self.epochs(position, stop) {
            Err(e) if e.is_stop() => {
                self.log(position, &Clock::new())?;
                self.checkpoint(position)?;
                self.observer.on(&Event::Interrupted);
                Ok(Status::Interrupted)
            }
            outcome => outcome,
        }
    }

    fn epochs(&mut self, position: &mut Position, stop: &AtomicBool) -> Result<Status> {
        for note in &self.s.notes {
            self.observer.on(&Event::Note(note));
        }
        if position.step == 0
            && let Some(check) = preflight::teacher(self.s, stop)?
        {
            self.observer.on(&Event::Teacher(check));
        }
        if let Some(cache) = &self.s.cache {
            let checked = cache::verify(self.s, cache, stop)?;
            self.observer.on(&Event::Cache { stock: &cache.stock(), checked });
        }
        let t = &self.s.plan.recipe.train;
        while position.epoch < t.epochs {
            self.epoch(position, stop)?;
            let done = position.epoch + 1;
            let last = done == t.epochs;
            if last || done.is_multiple_of(t.eval_every) {
                self.evaluate(position, done, stop)?;
            }
            position.epoch = done;
            position.batch = 0;
            if last || done.is_multiple_of(t.checkpoint_every) {
                self.checkpoint(position)?;
            }
        }
        Ok(Status::Finished)
    }

    fn checkpoint(&mut self, position: &mut Position) -> Result<()> {
        position.metrics = Some(self.metrics.extent()?);
        state::save(&self.folder.checkpoint(), self.s, position)
    }

    /// The rest of an epoch's steps.
    fn epoch(&mut self, position: &mut Position, stop: &AtomicBool) -> Result<()> {
        let s = self.s;
        let recipe = &s.plan.recipe;
        let device = s.pair.student.device();
        let batches = s.train.batches_per_epoch();
        self.observer.on(&Event::Epoch { epoch: position.epoch, batches, done: position.batch });
        let mut loader = s.train.epoch(position.epoch, position.batch);
        let mut clock = Clock::new();
        let mut since_epoch = Clock::new();
        let mut seconds_before = position.seconds;
        loop {
            let asked = Instant::now();
            let Some(batch) = loader.next_until(stop) else { break };
            let batch = match batch {
                Err(heterodyne_nn::Error::Stopped) => {
                    self.log(position, &clock)?;
                    return Err(heterodyne_nn::Error::Stopped.into());
                }
                batch => batch?,
            };
            let waited = asked.elapsed().as_secs_f64();
            let epoch = f64::from(position.epoch) + position.batch as f64 / batches as f64;
            let lr = schedule::rate(&recipe.schedule, recipe.optim.lr, epoch, f64::from(recipe.train.epochs));
            let progress = Progress { step: position.step, steps: s.total_steps(), epoch };
            let images = batch.images.to_device_(device, batch.images.kind(), true, false);
            let labels = batch.labels.to_device_(device, batch.labels.kind(), true, false);
            let mut rng = Random::new(recipe.seed, Purpose::Mix, u64::from(position.epoch), position.batch as u64);
            let (images, labels) = s.plan.mix.apply(&images, &labels, s.card.classes, &mut rng)?;
            let lesson = s.lesson(&batch, &images, epoch)?;
            let given = Given { images: &images, labels: &labels, samples: &batch.rows, lesson: lesson.as_ref() };
            let values = step::step(&s.pair, &given, lr, progress)?;

            position.batch += 1;
            position.step += 1;
            position.images += batch.indices.len() as u64;
            self.meter.add(position.step, epoch, lr, values);
            for clock in [&mut clock, &mut since_epoch] {
                clock.waited += waited;
                clock.images += batch.indices.len() as u64;
            }
            position.seconds = seconds_before + since_epoch.start.elapsed().as_secs_f64();
            self.observer.on(&Event::Step {
                images_per_second: since_epoch.images_per_second(),
                data_wait: since_epoch.data_wait(),
            });
            if position.step.is_multiple_of(recipe.train.log_every) {
                self.log(position, &clock)?;
                clock = Clock::new();
            }
        }
        self.log(position, &clock)?;
        self.settle_cache();
        seconds_before += since_epoch.start.elapsed().as_secs_f64();
        position.seconds = seconds_before;
        Ok(())
    }

    /// Writes the epoch's last entries, says which were damaged, and once why no more can be written.
    fn settle_cache(&mut self) {
        let Some(cache) = &self.s.cache else { return };
        cache.flush();
        let damaged = cache.damaged();
        if damaged > 0 {
            self.observer.on(&Event::Note(&format!(
                "{}: {damaged} entries were damaged and have been computed again",
                cache.stock().folder.display()
            )));
        }
        if let (Some(problem), false) = (cache.broken(), self.told) {
            self.told = true;
            self.observer.on(&Event::Note(&format!("{problem}; the teacher runs on without its cache being filled")));
        }
    }

    /// Fetches the waiting values; a value that is no number ends the run here.
    fn log(&mut self, position: &Position, clock: &Clock) -> Result<()> {
        let Some(window) = self.meter.fetch(self.s.pair.teacher.as_ref().map(|teacher| teacher.name.as_str()))? else {
            return Ok(());
        };
        let recipe = &self.s.plan.recipe;
        let batches = self.s.train.batches_per_epoch();
        let epoch = f64::from(position.epoch) + position.batch as f64 / batches as f64;
        let metric = Metric::Train {
            step: position.step,
            epoch,
            lr: schedule::rate(&recipe.schedule, recipe.optim.lr, epoch, f64::from(recipe.train.epochs)),
            loss: window.loss,
            terms: window.terms,
            grad_norm: Some(window.grad_norm),
            images_per_second: clock.images_per_second(),
            data_wait: clock.data_wait(),
            seconds: position.seconds,
        };
        self.record(&metric)
    }

    /// Writes a measurement down and shows it.
    fn record(&mut self, metric: &Metric) -> Result<()> {
        self.metrics.write(metric)?;
        self.events.write(metric)?;
        self.observer.on(&Event::Metric(metric));
        Ok(())
    }

    /// Measures the held-out and, as the recipe says, the test images and writes the weights. The best is chosen on the
    /// held-out images, or, where there are none, on the test images, which the summary says. Nothing is kept of an
    /// evaluation that is stopped.
    fn evaluate(&mut self, position: &mut Position, epoch: u32, stop: &AtomicBool) -> Result<()> {
        let s = self.s;
        let t = &s.plan.recipe.train;
        let tested = match t.test {
            TestWhen::Every => true,
            TestWhen::Last => epoch == t.epochs,
            TestWhen::Never => false,
        };
        let measured = match &s.pair.ema {
            Some(ema) => ema.swapped(|| self.measure(position.step, tested, stop))?,
            None => self.measure(position.step, tested, stop)?,
        };
        let weights = if s.pair.ema.is_some() { "ema" } else { "live" };
        let mut evals = Vec::new();
        for (split, m) in measured {
            let eval = Eval {
                step: position.step,
                epoch: f64::from(epoch),
                split: split.to_owned(),
                weights: weights.to_owned(),
                top1: m.top1,
                top5: m.top5,
                loss: m.loss,
                images: m.images as u64,
                seconds: m.seconds,
            };
            self.record(&Metric::Eval(eval.clone()))?;
            evals.push(eval);
        }
        // The chooser comes first, what is reported last.
        let (chooser, reported) = (&evals[0], &evals[evals.len() - 1]);
        let better = position.best_on.is_none_or(|best| chooser.top1 > best);
        if better {
            position.best_on = Some(chooser.top1);
            position.best = (tested || t.test == TestWhen::Never).then(|| reported.clone());
        }
        position.last = Some(reported.clone());
        self.write_weights(&self.folder.weights("last"), position.step, false)?;
        if s.pair.ema.is_some() {
            self.write_weights(&self.folder.weights("ema"), position.step, true)?;
        }
        if better {
            self.write_weights(&self.folder.weights("best"), position.step, s.pair.ema.is_some())?;
        }
        Ok(())
    }

    fn measure(&mut self, step: u64, tested: bool, stop: &AtomicBool) -> Result<Vec<(&'static str, Measured)>> {
        let s = self.s;
        let mut out = Vec::new();
        for (split, loader) in s.validation.iter().map(|l| ("validation", l)).chain(tested.then_some(("test", &s.test)))
        {
            let each = |done| self.observer.on(&Event::Evaluating { done });
            let measured = eval::evaluate_until(&s.pair.student, loader, stop, each).map_err(|e| match e {
                Error::Plan(what) => Error::Diverged { step, flaw: what },
                other => other,
            })?;
            out.push((split, measured));
        }
        Ok(out)
    }

    fn write_weights(&self, path: &Path, step: u64, average: bool) -> Result<()> {
        let tensors = match &self.s.pair.ema {
            Some(ema) if average => ema.tensors(),
            _ => self.s.pair.student.store.tensors(),
        };
        if let Some(flaw) = sound::flaw(&tensors)? {
            return Err(Error::Diverged { step, flaw });
        }
        Ok(file::write(path, tensors.iter().map(|(name, t)| (name.as_str(), t)), self.s.card.metadata()?)?)
    }
}

fn summarise(s: &Session, position: &Position, outcome: &Result<Status>) -> Summary {
    let recipe = &s.plan.recipe;
    let (status, error) = match outcome {
        Ok(status) => (*status, None),
        Err(e) => (Status::Failed, Some(e.to_string())),
    };
    Summary {
        name: recipe.name.clone(),
        command: s.plan.command.name().to_owned(),
        status,
        error,
        student: recipe.student.model.clone(),
        teacher: s.pair.teacher.as_ref().map(|t| t.name.clone()),
        methods: s.plan.methods.iter().map(|m| m.name.clone()).collect(),
        seed: recipe.seed,
        epochs: position.epoch,
        steps: position.step,
        parameters: s.pair.student.store.num_parameters() as u64,
        train_images: s.train_images as u64,
        last: position.last.clone(),
        best: position.best.clone(),
        selected_on: if s.validation.is_some() { "validation" } else { "test" }.to_owned(),
        seconds: position.seconds,
        images_per_second: position.images as f64 / position.seconds.max(1e-9),
        device: if s.pair.student.device() == Device::Cpu { "cpu" } else { "cuda" }.to_owned(),
        precision: serde_json::to_value(recipe.train.precision)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default(),
        metrics: None,
        versions: Versions { heterodyne: env!("CARGO_PKG_VERSION").to_owned(), libtorch: "2.11.0".to_owned() },
    }
}
