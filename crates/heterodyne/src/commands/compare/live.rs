//! Progress of a comparison: a table of the running runs on a terminal, and a line for each run that ended.
use std::{
    fs::File,
    io::{IsTerminal, Read, Seek, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};

use heterodyne_run::metrics::Metric;
use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

use super::{
    comparison::Job,
    pool::{self, Failure},
};
use crate::print::say;

/// How often the metrics are read.
const REFRESH: Duration = Duration::from_secs(1);
/// How much of their end: more than the lines of an evaluation and the training before it.
const TAIL: u64 = 1 << 14;
/// Most characters of a run's name in the table.
const NAME: usize = 40;

/// The display.
pub struct Live<'c> {
    bars: Option<(MultiProgress, ProgressBar)>,
    runs: Vec<Shown<'c>>,
    /// All runs, and those that have a result.
    total: usize,
    done: usize,
    /// Wall time of each run that ended here.
    times: Vec<Duration>,
    at_a_time: usize,
    /// Characters of the longest name.
    width: usize,
    drawn: Option<Instant>,
}

/// A running run.
struct Shown<'c> {
    job: Job<'c>,
    started: Instant,
    /// The first epoch that was seen, and when.
    first: Option<(f64, Instant)>,
    last: Position,
    bar: Option<ProgressBar>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    epoch: Option<f64>,
    top1: Option<f64>,
}

impl<'c> Live<'c> {
    /// A display of runs of which `waiting` are to be run, some `at_a_time`.
    pub fn new(all: &[Job], waiting: usize, at_a_time: usize) -> Self {
        let total = all.len();
        let width = all.iter().map(|job| job.name().chars().count()).max().unwrap_or(0).min(NAME);
        let bars = (waiting > 0 && std::io::stderr().is_terminal()).then(|| {
            let bars = MultiProgress::new();
            let all = bars.add(ProgressBar::new(total as u64).with_style(style("{pos} of {len} runs {bar:20} {msg}")));
            (bars, all)
        });
        Self { bars, runs: Vec::new(), total, done: total - waiting, times: Vec::new(), at_a_time, width, drawn: None }
    }

    /// A run begins.
    pub fn start(&mut self, job: Job<'c>) {
        let length = u64::from(job.row.recipe.train.epochs);
        let (name, width) = (shortened(&job.name()), self.width);
        let bar = self.bars.as_ref().map(|(bars, all)| {
            let bar = ProgressBar::new(length).with_style(style("{prefix} {bar:20} {msg}"));
            bars.insert_before(all, bar).with_prefix(format!("{name:width$}"))
        });
        self.runs.push(Shown { job, started: Instant::now(), first: None, last: Position::default(), bar });
        self.drawn = None;
    }

    /// A run has a result.
    pub fn finished(&mut self, job: Job) {
        let took = self.end(job);
        self.times.extend(took);
        self.done += 1;
        let (top1, seconds) = pool::result(&job).unwrap_or_default();
        let top1 = top1.map_or_else(|| "not measured on test images".to_owned(), |top1| format!("{top1:.2} % test"));
        self.line(&format!("{}: {top1}, {seconds:.1} s ({} of {} runs)", job.name(), self.done, self.total));
    }

    /// A run was asked to stop, and has.
    pub fn stopped(&mut self, job: Job) {
        self.end(job);
        self.line(&format!("{}: stopped", job.name()));
    }

    /// A run failed.
    pub fn failed(&mut self, job: Job, reason: String) -> Failure {
        self.end(job);
        self.line(&format!("{}: failed ({})", job.name(), reason.lines().next().unwrap_or_default()));
        Failure { run: job.name(), reason }
    }

    /// Updates the table; `waiting` runs have not begun.
    pub fn draw(&mut self, waiting: usize) {
        let Some((_, all)) = &self.bars else { return };
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < REFRESH) {
            return;
        }
        self.drawn = Some(Instant::now());
        let mut left = Vec::new();
        for run in &mut self.runs {
            run.update();
            left.extend(run.left());
        }
        let mean = self.times.iter().sum::<Duration>().checked_div(self.times.len() as u32);
        let known = left.len() == self.runs.len() && (mean.is_some() || waiting == 0);
        all.set_position(self.done as u64);
        all.set_message(if known {
            let work = left.iter().sum::<Duration>() + mean.unwrap_or_default() * waiting as u32;
            format!("about {} left", HumanDuration(work / self.at_a_time.max(1) as u32))
        } else {
            String::new()
        });
    }

    /// Removes a run from the table; the time since it began.
    fn end(&mut self, job: Job) -> Option<Duration> {
        let at = self.runs.iter().position(|run| run.job.folder() == job.folder())?;
        let run = self.runs.remove(at);
        if let (Some(bar), Some((bars, _))) = (&run.bar, &self.bars) {
            bar.finish_and_clear();
            bars.remove(bar);
        }
        self.drawn = None;
        Some(run.started.elapsed())
    }

    fn line(&self, text: &str) {
        match &self.bars {
            Some((bars, _)) => bars.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        if let Some((bars, all)) = &self.bars {
            all.finish_and_clear();
            let _ = bars.clear();
        }
    }
}

impl Shown<'_> {
    fn update(&mut self) {
        self.last = position(&self.job.folder().join("metrics.jsonl")).unwrap_or(self.last);
        self.first = self.first.or(self.last.epoch.map(|epoch| (epoch, Instant::now())));
        let Some(bar) = &self.bar else { return };
        let epochs = self.job.row.recipe.train.epochs;
        let epoch = self.last.epoch.map_or_else(|| "starting".to_owned(), |epoch| format!("epoch {epoch:.0}/{epochs}"));
        let top1 = self.last.top1.map_or_else(String::new, |top1| format!("  {top1:.2} %"));
        let left = self.left().map_or_else(String::new, |left| format!("  {} left", HumanDuration(left)));
        bar.set_position(self.last.epoch.unwrap_or_default() as u64);
        bar.set_message(format!("{epoch}{top1}{left}"));
    }

    /// The time left if it goes on as it has; `None` at its start.
    fn left(&self) -> Option<Duration> {
        let ((first, since), now) = (self.first?, self.last.epoch?);
        let share = (f64::from(self.job.row.recipe.train.epochs) - now) / (now - first);
        Duration::try_from_secs_f64(since.elapsed().as_secs_f64() * share).ok()
    }
}

/// The last epoch and accuracy in a file of metrics, read from its end.
fn position(metrics: &Path) -> Option<Position> {
    let mut file = File::open(metrics).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut found = Position::default();
    for metric in text.lines().filter_map(|line| serde_json::from_str::<Metric>(line).ok()) {
        match metric {
            Metric::Train { epoch, .. } => found.epoch = Some(epoch),
            Metric::Eval(eval) => (found.epoch, found.top1) = (Some(eval.epoch), Some(eval.top1)),
        }
    }
    Some(found)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A long name by its end, where rows differ.
fn shortened(name: &str) -> String {
    match name.chars().count() {
        0..=NAME => name.to_owned(),
        count => format!("…{}", name.chars().skip(count + 1 - NAME).collect::<String>()),
    }
}
