//! Progress output: bars on a terminal, plain lines elsewhere.
use std::{
    io::{self, IsTerminal},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use heterodyne_nn::LoadReport;
use heterodyne_run::metrics::{Eval, Metric};
use heterodyne_train::{
    Event, Observer, Plan, Session,
    cache::CacheStats,
    network::{Source, Weights},
    world::Launch,
};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::print::{say, tell};

/// A repeated signal within this time counts as the same request: a closed terminal sends SIGHUP, and so does its
/// shell.
const SAME: Duration = Duration::from_secs(1);

/// Set for a child process that is to stop, as by Ctrl-C, when its standard input ends: however its parent ends, the
/// system closes the pipe.
pub const STOPS_WITH_INPUT: &str = "HETERODYNE_STOPS_WITH_INPUT";

/// A flag set by the first SIGINT (Ctrl-C), SIGTERM or SIGHUP (terminal closed); a later SIGINT or SIGTERM ends the
/// process at once. Before this call, signals have their default effect. SIGHUP stays ignored under `nohup`. With
/// [`STOPS_WITH_INPUT`], the end of standard input sets it too.
pub fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let hangup = if is_ignored(SIGHUP) { None } else { Some(SIGHUP) };
    let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup))?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            match first {
                None => {
                    first = Some(Instant::now());
                    flag.store(true, Ordering::Relaxed);
                    tell!("\nstopping after this step and writing a checkpoint (repeat to stop at once)");
                }
                Some(first) if signal != SIGHUP && first.elapsed() > SAME => signal_hook::low_level::exit(128 + signal),
                Some(_) => {}
            }
        }
    })?;
    if std::env::var_os(STOPS_WITH_INPUT).is_some() {
        let flag = Arc::clone(&stop);
        std::thread::Builder::new().name("input".to_owned()).spawn(move || {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            // No signal: a second one would end a process that is writing its checkpoint.
            flag.store(true, Ordering::Relaxed);
        })?;
    }
    Ok(stop)
}

/// Makes a write beyond the file size limit (`ulimit -f`) an ordinary error; by default it ends the process.
pub fn survive_size_limits() {
    #[cfg(unix)]
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}

/// Whether the process was started with `signal` ignored, as by `nohup`; false if the system does not report it.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Shows the progress of a run.
pub struct Progress {
    epochs: u32,
    pace: Pace,
    bar: Option<ProgressBar>,
    /// Whether standard error is a terminal, so bars are drawn.
    terminal: bool,
    quiet: bool,
}

impl Progress {
    /// The progress of a run of `epochs`.
    #[must_use]
    pub fn new(epochs: u32) -> Self {
        Self { epochs, pace: Pace::default(), bar: None, terminal: std::io::stderr().is_terminal(), quiet: false }
    }

    /// Shows the bar only, without lines (for a run within a larger job).
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }

    fn epoch(&mut self, epoch: u32, batches: usize, done: usize) {
        self.pace.begin(epoch, batches, done);
        if !self.terminal {
            return;
        }
        let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.bar.get_or_insert_with(|| ProgressBar::new(0).with_style(style));
        bar.reset();
        bar.set_length(batches as u64);
        bar.set_position(done as u64);
        bar.set_prefix(format!("epoch {}/{}", epoch + 1, self.epochs));
        bar.enable_steady_tick(Duration::from_millis(500));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn on(&mut self, event: &Event) {
        match event {
            Event::Teacher(check) => {
                let m = &check.measured;
                self.line(&format!(
                    "teacher: {:.1} % top-1 on {} {} images of {} classes, {} of which it predicts ({:.1} s)",
                    m.top1, m.images, check.split, m.classes, m.answers, m.seconds
                ));
                if check.is_constant() {
                    tell!(
                        "warning: the teacher predicts the same class for every image, of {} classes\n  \
                         hint: check its weights, its normalisation (teacher.mean, teacher.std) and its input size \
                         (teacher.img)",
                        m.classes
                    );
                } else if check.is_suspicious() {
                    tell!(
                        "warning: the teacher is barely better than chance ({:.1} %)\n  hint: check its weights, its \
                         normalisation (teacher.mean, teacher.std) and its input size (teacher.img)",
                        check.chance
                    );
                }
            }
            Event::Cache { stats, checked } => self.line(&show_cache(stats, *checked, Some(self.epochs))),
            Event::Note(text) => tell!("note: {text}"),
            Event::Epoch { epoch, batches, done } => self.epoch(*epoch, *batches, *done),
            Event::Step { images_per_second, data_wait } => {
                self.pace.step();
                if let Some(bar) = &self.bar {
                    bar.inc(1);
                    let of_run = self.pace.of_run(self.epochs).map_or_else(String::new, |time| format!(", {time}"));
                    bar.set_message(format!(
                        "{images_per_second:.0} img/s, waiting for data {:.0} %{of_run}",
                        100.0 * data_wait
                    ));
                }
            }
            Event::FirstStep { without_gradient, parameters, memory } => {
                unlearned(without_gradient, *parameters);
                if let Some(bytes) = memory {
                    self.line(&format!("memory   {} after the first step", gigabytes(*bytes)));
                }
            }
            Event::Metric(Metric::Train { step, epoch, lr, loss, terms, images_per_second, data_wait, .. }) => {
                let terms: Vec<String> = terms.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
                let of_run = self.pace.of_run(self.epochs).map_or_else(String::new, |time| format!("  {time}"));
                self.line(&format!(
                    "epoch {epoch:7.2}  step {step:6}  lr {lr:.2e}  loss {loss:.4} ({})  {images_per_second:.0} \
                     img/s  data-wait {:.0} %{of_run}",
                    terms.join(", "),
                    100.0 * data_wait
                ));
            }
            Event::Metric(Metric::Eval(eval)) => self.line(&format!("epoch {:7.2}  {}", eval.epoch, show(eval))),
            Event::Evaluating { done } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("evaluating, {done} images"));
                }
            }
            Event::Interrupted => self.line("interrupted; checkpoint written"),
        }
    }
}

/// The time of a run in this process, and what it will be at its end.
#[derive(Debug, Default)]
struct Pace {
    /// When the first step of this process began, and the time in epochs at which it did.
    start: Option<(Instant, f64)>,
    /// The time in epochs now.
    epoch: f64,
    /// The share of an epoch that one step is.
    step: f64,
    steps: u64,
}

impl Pace {
    /// Steps before an estimate: the first ones are slower.
    const FIRST: u64 = 5;

    fn begin(&mut self, epoch: u32, batches: usize, done: usize) {
        self.step = 1.0 / batches.max(1) as f64;
        self.epoch = f64::from(epoch) + done as f64 * self.step;
        self.start.get_or_insert((Instant::now(), self.epoch));
    }

    fn step(&mut self) {
        self.epoch += self.step;
        self.steps += 1;
    }

    /// `12 of 48 min`; `None` before there is an estimate. Evaluations count as they have until now.
    fn of_run(&self, epochs: u32) -> Option<String> {
        let (start, from) = self.start.filter(|_| self.steps >= Self::FIRST)?;
        let done = (self.epoch - from) / (f64::from(epochs) - from);
        let spent = start.elapsed().as_secs_f64();
        (done > 0.0).then(|| of_duration(spent, spent / done.min(1.0)))
    }
}

/// A duration in its natural unit: `40 s`, `48 min`, `3.1 h`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    let (unit, name, digits) = unit(seconds);
    format!("{:.digits$} {name}", seconds / unit)
}

/// `12 of 48 min`, in the unit of `all`.
fn of_duration(spent: f64, all: f64) -> String {
    let (unit, name, digits) = unit(all);
    format!("{:.digits$} of {:.digits$} {name}", spent / unit, all / unit)
}

/// Seconds, name and decimals of the unit for a duration.
fn unit(seconds: f64) -> (f64, &'static str, usize) {
    match seconds {
        s if s < 10.0 => (1.0, "s", 1),
        s if s < 100.0 => (1.0, "s", 0),
        s if s < 6000.0 => (60.0, "min", 0),
        s if s < 48.0 * 3600.0 => (3600.0, "h", 1),
        _ => (86400.0, "days", 1),
    }
}

/// An amount of memory, such as `1.31 GB`.
#[must_use]
pub fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

/// Number of parameters that a message lists.
const LISTED: usize = 5;

/// Warns of parameters that no gradient reaches, of `all`.
pub fn unlearned(names: &[&str], all: usize) {
    if !names.is_empty() {
        tell!(
            "warning: no gradient reaches {} of {all} parameter tensors ({}), so they will not be trained\n  hint: the \
             loss does not depend on them; check loss.ce and the methods",
            names.len(),
            few(names)
        );
    }
}

/// The first of `names`, and how many more there are.
#[must_use]
pub fn few(names: &[&str]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..names.len().min(LISTED)].join(", "))
}

/// A bar over `len` images; hidden without a terminal.
#[must_use]
pub fn bar(what: &'static str, len: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len as u64).with_style(style).with_prefix(what)
}

/// A cache in one line; given the epochs of a run, also the epoch from which it saves time.
#[must_use]
pub fn show_cache(stats: &CacheStats, checked: usize, epochs: Option<u32>) -> String {
    let CacheStats { folder, views, written, entries, bytes } = stats;
    let pays = match (epochs, stats.pays_from()) {
        (None, _) => String::new(),
        (Some(_), 1) => ", the teacher need not run".to_owned(),
        (Some(epochs), from) if from <= epochs => format!(", saves time from epoch {from} of {epochs}"),
        (Some(epochs), _) => format!(", saves time only in later runs ({views} views, {epochs} epochs)"),
    };
    let checked = if checked > 0 { format!(", {checked} recomputed and equal") } else { String::new() };
    format!(
        "cache: {} ({views} views, {written} of {entries} entries, {:.2} GB on disk{checked}){pays}",
        folder.display(),
        *bytes as f64 / 1e9
    )
}

/// An evaluation in one line.
#[must_use]
pub fn show(eval: &Eval) -> String {
    let top5 = eval.top5.map_or_else(String::new, |t| format!("  top-5 {t:.2} %"));
    let weights = if eval.weights == "ema" { " (average of weights)" } else { "" };
    format!(
        "{}{weights}: top-1 {:.2} %{top5}  loss {:.4}  {} images in {:.1} s",
        eval.split, eval.top1, eval.loss, eval.images, eval.seconds
    )
}

/// Reads weights; a download from the Hub shows a bar.
pub fn read_weights(source: Source) -> anyhow::Result<Weights> {
    download(source.path)?;
    Ok(Weights::read(source)?)
}

/// Downloads weights given by a name on the Hub, so they are on this machine when they are read; does nothing for
/// other paths.
pub fn download(weights: &Path) -> anyhow::Result<()> {
    let name = weights.display().to_string();
    if !heterodyne_hub::is_name(&name) {
        return Ok(());
    }
    let bar = bar("downloading", 0);
    heterodyne_hub::fetch(&name.parse()?, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    })?;
    bar.finish_and_clear();
    Ok(())
}

/// Builds a session, of several processes if they were launched together; a download of weights shows a bar.
pub fn session(plan: Plan, launch: Option<&Launch>) -> anyhow::Result<Session> {
    for table in std::iter::once(&plan.recipe.student).chain(plan.recipe.teacher.as_ref()) {
        if let Some(weights) = &table.weights {
            download(weights)?;
        }
    }
    // Signals are not caught yet: one ends the process, which has written nothing so far.
    Ok(Session::build_among(plan, launch, &AtomicBool::new(false))?)
}

/// The report on loaded weights in one line.
#[must_use]
pub fn loaded(report: &LoadReport) -> String {
    let adapted: Vec<_> = report.adapted.iter().map(|how| format!("; {how}")).collect();
    let left_out: Vec<_> = report.left_out.iter().map(|what| format!("; left out, {what}")).collect();
    format!("{} tensors loaded{}{}", report.loaded, adapted.concat(), left_out.concat())
}
