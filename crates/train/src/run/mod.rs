//! The training loop: epochs of steps, evaluations, checkpoints, and a clean end in every case.
pub mod checkpoint;
pub mod eval;
pub mod event;
pub mod manifest;
mod measure;
pub mod meter;
pub mod preflight;
mod summary;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use heterodyne_nn::Progress;
use heterodyne_run::{
    events::EventWriter,
    folder::RunFolder,
    metrics::{Metric, Writer},
    recipe::schema::TestWhen,
    summary::{Status, Summary},
};
use tch::Tensor;

pub use self::event::{Event, Observer};
use self::{
    checkpoint::{Loaded, Position},
    manifest::{Manifest, Process},
    measure::At,
    meter::Meter,
};
use crate::{
    Error, Result, cache, device,
    error::guarded,
    plan::schedule,
    session::{Place, Session},
    world::Agreement,
};

/// Trains `s` in `folder` until the end or until `stop` is set, from the folder's checkpoint if `resume` is set. The
/// summary is written in every case; an error leaves the last checkpoint and the weights of the last evaluation intact.
///
/// Of several processes, rank 0 writes the folder. The others only read the checkpoint from which the run continues.
pub fn fit(
    s: &Session,
    folder: &RunFolder,
    resume: bool,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let failed = |e: Error| s.world.explain(e.while_writing(s.plan.mode.name(), folder.path()));
    let continues = resume && !folder.is_fresh()?;
    let Loaded { mut position, notes } = match continues {
        true => checkpoint::load(&folder.checkpoint(), s).map_err(|e| s.world.explain(e))?,
        false => Loaded { position: Position::default(), notes: Vec::new() },
    };
    notes.iter().for_each(|note| observer.on(&Event::Note(note)));
    if resume && position.epoch >= s.plan.recipe.train.epochs {
        observer.on(&Event::Note("the run had finished; there is nothing left to train"));
    }
    let begin = || begin(s, folder, (resume, continues), &position, notes);
    let record = s.world.leads().then(begin).transpose().map_err(failed)?;
    let mut run = Run {
        s,
        folder,
        record,
        observer,
        agreement: Agreement::new(&s.world),
        meter: Meter::default(),
        saved: Instant::now(),
        started: false,
        told: false,
    };
    let outcome = guarded("training", || {
        let _stream = s.learner.own_stream()?;
        run.run(&mut position, stop)
    });
    let outcome = outcome.map_err(failed);
    // If the metrics cannot be flushed to disk, their extent is unknown.
    let extent = run.record.as_mut().and_then(|record| record.metrics.extent().ok());
    let summary = Summary { metrics: extent, ..summary::summarise(s, &position, &outcome) };
    if !s.world.leads() {
        outcome?;
        s.world.leave();
        return Ok(summary);
    }
    let written = folder.write_summary(&summary);
    outcome?;
    s.world.leave();
    written.map_err(|e| failed(e.into()))?;
    if summary.status == Status::Finished
        && !s.plan.recipe.train.keep_checkpoints
        && let Err(e) = folder.remove_checkpoints()
    {
        run.observer.on(&Event::Note(&e.to_string()));
    }
    Ok(summary)
}

/// What is written during a run.
struct Record {
    metrics: Writer,
    events: EventWriter,
}

/// Writes what stands at a run's start and opens what is written during it.
fn begin(
    s: &Session,
    folder: &RunFolder,
    (resume, continues): (bool, bool),
    position: &Position,
    notes: Vec<String>,
) -> Result<Record> {
    if resume {
        settle_plan(s, folder)?;
    }
    if !continues {
        Manifest::of(s)?.write(folder)?;
    } else if position.epoch < s.plan.recipe.train.epochs {
        // A damaged manifest loses no run; `reproduce` names it.
        if let Ok(Some(mut manifest)) = Manifest::read(folder) {
            manifest.processes.push(Process::this(s, position.step, notes));
            manifest.write(folder)?;
        }
    }
    let metrics = metrics(s, folder, resume, position)?;
    let events = if resume {
        EventWriter::resume(&folder.events(), position.step)
    } else {
        EventWriter::create(&folder.events())
    };
    let record = Record { metrics, events: events? };
    folder.reopen()?;
    Ok(record)
}

/// Stores the plan of a run that continues with other paths or on another device.
fn settle_plan(s: &Session, folder: &RunFolder) -> Result<()> {
    let plan = serde_json::to_value(&s.plan.recipe).map_err(|e| Error::State(e.to_string()))?;
    if folder.read_plan()? != plan {
        folder.write_plan(&plan)?;
    }
    Ok(())
}

/// Opens the metrics, truncated to their extent at the checkpoint.
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
    /// `None` in a process that does not lead.
    record: Option<Record>,
    observer: &'a mut dyn Observer,
    agreement: Agreement<'a>,
    meter: Meter,
    /// When the last checkpoint was written.
    saved: Instant,
    /// Whether this process has done a step.
    started: bool,
    /// Whether the cache's write failure has been reported.
    told: bool,
}

/// Times and counts since the last line of the metrics.
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
    /// Runs the rest of the training; a stop at any point saves the progress.
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
            position.teacher = Some(check.score());
            position.answers = preflight::answers(self.s, &check);
            self.observer.on(&Event::Teacher(check));
        }
        if let Some(cache) = &self.s.cache {
            let (learner, seed) = (&self.s.learner, self.s.plan.recipe.seed);
            let checked = cache::verify(cache, learner, &self.s.train, seed, stop)?;
            self.observer.on(&Event::Cache { stats: &cache.stats(), checked });
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
        self.agreement.finish()?;
        Ok(Status::Finished)
    }

    fn checkpoint(&mut self, position: &mut Position) -> Result<()> {
        position.metrics = self.record.as_mut().map(|record| record.metrics.extent()).transpose()?;
        checkpoint::save(&self.folder.checkpoint(), self.s, position)?;
        if self.s.world.leads() {
            self.folder.keep_checkpoints(position.step, self.s.plan.recipe.train.checkpoints)?;
        }
        self.saved = Instant::now();
        Ok(())
    }

    /// Runs the remaining steps of an epoch.
    fn epoch(&mut self, position: &mut Position, stop: &AtomicBool) -> Result<()> {
        let s = self.s;
        let recipe = &s.plan.recipe;
        let batches = s.train.batches_per_epoch();
        self.observer.on(&Event::Epoch { epoch: position.epoch, batches, done: position.batch });
        let mut loader = s.train.epoch(position.epoch, position.batch);
        let mut clock = Clock::new();
        let mut since_epoch = Clock::new();
        let mut seconds_before = position.seconds;
        loop {
            let asked = Instant::now();
            if position.batch < batches && !s.world.is_alone() && self.agrees(stop, position.step)? {
                self.log(position, &clock)?;
                return Err(heterodyne_nn::Error::Stopped.into());
            }
            let Some(batch) = loader.next_until(s.own_stop(stop)) else { break };
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
            let count = batch.rows.len() as u64 * u64::from(s.world.size());
            let at = Place { epoch: position.epoch, batch: position.batch as u64, time: epoch };
            let values = s.learner.step(&s.feed(batch, at, || ())?, lr, progress)?;

            self.report_first_step();
            position.batch += 1;
            position.step += 1;
            position.images += count;
            self.meter.add(position.step, epoch, lr, values);
            for clock in [&mut clock, &mut since_epoch] {
                clock.waited += waited;
                clock.images += count;
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
            if position.batch < batches && self.checkpoint_is_due(position)? {
                self.log(position, &clock)?;
                clock = Clock::new();
                self.checkpoint(position)?;
            }
        }
        self.log(position, &clock)?;
        self.settle_cache();
        seconds_before += since_epoch.start.elapsed().as_secs_f64();
        position.seconds = seconds_before;
        Ok(())
    }

    /// Whether the time since the last checkpoint asks for one. Rank 0's clock decides, at the steps that are logged:
    /// only there do the processes wait for each other anyway.
    fn checkpoint_is_due(&self, position: &Position) -> Result<bool> {
        let t = &self.s.plan.recipe.train;
        let minutes = self.saved.elapsed().as_secs_f64() / 60.0;
        let Some(due) = t.checkpoint_minutes.map(|due| minutes >= due) else { return Ok(false) };
        if self.s.world.is_alone() {
            return Ok(due);
        }
        if !position.step.is_multiple_of(t.log_every) {
            return Ok(false);
        }
        let due = Tensor::from(i64::from(due)).view(1);
        self.s.world.broadcast(std::slice::from_ref(&due))?;
        Ok(due.int64_value(&[0]) != 0)
    }

    /// Whether all processes stop before `step`.
    fn agrees(&mut self, stop: &AtomicBool, step: u64) -> Result<bool> {
        self.agreement.stops(stop.load(Ordering::Relaxed), step)
    }

    fn report_first_step(&mut self) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let learner = &self.s.learner;
        self.observer.on(&Event::FirstStep {
            without_gradient: &learner.optimizer.without_gradient(),
            parameters: learner.optimizer.parameters().len(),
            memory: device::peak_memory(learner.device()),
        });
    }

    /// Writes the epoch's last cache entries, reports damaged ones and, once, a write failure.
    fn settle_cache(&mut self) {
        let Some(cache) = &self.s.cache else { return };
        cache.flush();
        let damaged = cache.damaged();
        if damaged > 0 {
            self.observer.on(&Event::Note(&format!(
                "{}: {damaged} entries were damaged and have been recomputed",
                cache.stats().folder.display()
            )));
        }
        if let (Some(problem), false) = (cache.broken(), self.told) {
            self.told = true;
            self.observer.on(&Event::Note(&format!("{problem}; the teacher runs without filling its cache")));
        }
    }

    /// Fetches the stored values; ends the run if one is NaN or infinite.
    fn log(&mut self, position: &Position, clock: &Clock) -> Result<()> {
        let teacher = self.s.learner.teacher.as_ref().map(|teacher| teacher.name.as_str());
        let Some(window) = self.meter.fetch(teacher, &self.s.world)? else { return Ok(()) };
        let batches = self.s.train.batches_per_epoch();
        let metric = Metric::Train {
            step: position.step,
            epoch: f64::from(position.epoch) + position.batch as f64 / batches as f64,
            lr: window.lr,
            loss: window.loss,
            terms: window.terms,
            grad_norm: Some(window.grad_norm),
            images_per_second: clock.images_per_second(),
            data_wait: clock.data_wait(),
            seconds: position.seconds,
        };
        self.record(&metric)
    }

    /// Writes a metric and reports it.
    fn record(&mut self, metric: &Metric) -> Result<()> {
        if let Some(record) = &mut self.record {
            record.metrics.write(metric)?;
            record.events.write(metric)?;
        }
        self.observer.on(&Event::Metric(metric));
        Ok(())
    }

    /// Evaluates and writes the weights. The best epoch is selected on the held-out images, or on the test images if
    /// none are held out; the summary states which. A stopped evaluation leaves no trace.
    fn evaluate(&mut self, position: &mut Position, epoch: u32, stop: &AtomicBool) -> Result<()> {
        let s = self.s;
        let t = &s.plan.recipe.train;
        let tested = match t.test {
            TestWhen::Every => true,
            TestWhen::Last => epoch == t.epochs,
            TestWhen::Never => false,
        };
        let step = position.step;
        measure::share_buffers(s)?;
        let evals = measure::splits(s, At { step, epoch }, tested, stop, self.observer)?;
        for (eval, _) in &evals {
            self.record(&Metric::Eval(eval.clone()))?;
        }
        // The first evaluation selects the best epoch, the last is reported.
        let (Some((chooser, _)), Some(last)) = (evals.first(), evals.last()) else { return Ok(()) };
        let reported = &last.0;
        position.detail = Some(measure::detail(s, last, position.answers.as_ref()));
        let better = position.best_on.is_none_or(|best| chooser.top1 > best);
        if better {
            position.best_on = Some(chooser.top1);
            position.best = (tested || t.test == TestWhen::Never).then(|| reported.clone());
        }
        position.last = Some(reported.clone());
        if !s.world.leads() {
            return Ok(());
        }
        let averaged = s.learner.ema.is_some();
        measure::write_weights(s, &self.folder.weights("last"), step, false)?;
        if averaged {
            measure::write_weights(s, &self.folder.weights("ema"), step, true)?;
        }
        if better {
            measure::write_weights(s, &self.folder.weights("best"), step, averaged)?;
        }
        Ok(())
    }
}
