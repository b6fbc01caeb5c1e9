//! Runs the jobs of a comparison as child processes, several at a time: an error, a crash or a process killed for its
//! memory ends one run alone.
use std::{
    collections::VecDeque,
    fs::File,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use heterodyne_run::RunFolder;
use heterodyne_train::device;
use rustix::process::{Pid, Signal, kill_process};

use super::{
    comparison::{Job, Next},
    live::Live,
    rows::Row,
};
use crate::ui::STOPS_WITH_INPUT;

/// How often child processes are looked at.
pub const TICK: Duration = Duration::from_millis(100);
/// libtorch's number of threads.
const THREADS: &str = "OMP_NUM_THREADS";
/// Most jobs without --jobs, unless the recipe limits the threads of a run: each holds its networks and data in memory.
const MOST_JOBS: usize = 4;

/// How many runs at a time, and the threads of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jobs {
    /// Runs at a time.
    pub count: usize,
    /// Threads of a run whose recipe leaves them open.
    pub threads: usize,
}

impl Jobs {
    /// The choice for these rows: as `asked`; one on a GPU; else all cores with the threads that the recipe or
    /// `OMP_NUM_THREADS` gives a run, and without either at most four runs that share the cores.
    pub fn choose(asked: Option<usize>, rows: &[Row]) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let set = std::env::var(THREADS).ok().and_then(|text| text.parse().ok()).filter(|threads| *threads > 0);
        let given = rows.iter().map(|row| row.recipe.threads).max().filter(|threads| *threads > 0).or(set);
        let gpu = || rows.iter().any(|row| device::device(row.recipe.device).is_ok_and(|d| d != tch::Device::Cpu));
        let count = asked.unwrap_or_else(|| match given {
            _ if gpu() => 1,
            Some(threads) => (cores / threads).max(1),
            None => cores.min(MOST_JOBS),
        });
        Self { count, threads: given.unwrap_or((cores / count).max(1)) }
    }
}

/// A run without a result.
#[derive(Debug)]
pub struct Failure {
    /// `kd, seed 0`.
    pub run: String,
    /// Why, over several lines.
    pub reason: String,
}

struct Running<'c> {
    job: Job<'c>,
    child: Child,
}

/// Runs what is not finished; returns the failures. When `stop` is set, the runs are asked to stop, and no further one
/// is started.
pub fn run(all: &[Job], jobs: Jobs, stop: &AtomicBool) -> Vec<Failure> {
    let (mut waiting, mut failures) = (VecDeque::new(), Vec::new());
    for job in all {
        match job.next() {
            Ok(Next::Done) => {}
            Ok(next) => waiting.push_back((*job, next)),
            Err(e) => failures.push(Failure { run: job.name(), reason: e.to_string() }),
        }
    }
    let mut live = Live::new(all, waiting.len(), jobs.count);
    let mut running: Vec<Running> = Vec::new();
    let mut asked = false;
    while !running.is_empty() || !(waiting.is_empty() || asked) {
        if stop.load(Ordering::Relaxed) && !asked {
            asked = true;
            running.iter().for_each(|run| interrupt(&run.child));
        }
        while !asked
            && running.len() < jobs.count
            && let Some((job, next)) = waiting.pop_front()
        {
            match start(job, next, jobs) {
                Ok(child) => {
                    live.start(job);
                    running.push(Running { job, child });
                }
                Err(e) => failures.push(live.failed(job, format!("{e:#}"))),
            }
        }
        let ended = |run: &mut Running| match run.child.try_wait() {
            Ok(status) => status.map(Ok),
            Err(e) => Some(Err(e)),
        };
        running.retain_mut(|run| {
            let Some(status) = ended(run) else { return true };
            let reason = match status {
                Ok(status) => problem(&run.job, status),
                Err(e) => Some(format!("its process cannot be watched ({e})")),
            };
            match reason {
                None => live.finished(run.job),
                Some(_) if asked => live.stopped(run.job),
                Some(reason) => failures.push(live.failed(run.job, reason)),
            }
            false
        });
        live.draw(waiting.len());
        thread::sleep(TICK);
    }
    failures
}

fn start(job: Job, next: Next, jobs: Jobs) -> Result<Child> {
    let log = File::create(job.log()).with_context(|| format!("creating {}", job.log().display()))?;
    let mut command = child(job.row.mode.name())?;
    match next {
        Next::Continue => command.arg("--resume").arg(job.folder()),
        _ => command
            .arg(job.recipe())
            .arg("--out")
            .arg(job.folder())
            .args(["--set".to_owned(), format!("seed={}", job.seed)]),
    };
    command.stderr(log.try_clone()?).stdout(log).env(THREADS, jobs.threads.to_string());
    command.spawn().context("a process cannot be started")
}

/// A process of this program that stops when this one ends, also if it is killed: its standard input is a pipe that
/// stays open until then.
pub fn child(name: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("the path of this program is not known")?);
    command.arg(name).stdin(Stdio::piped()).env(STOPS_WITH_INPUT, "1");
    Ok(command)
}

/// Asks a run to write a checkpoint and end. On a terminal, Ctrl-C has already reached it; both count as one request.
pub fn interrupt(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // A run that has just ended needs no signal.
        let _ = kill_process(pid, Signal::INT);
    }
}

/// Why a run that ended has no result; `None` if it has one.
fn problem(job: &Job, status: ExitStatus) -> Option<String> {
    let (mut how, finished) = (status.to_string(), matches!(job.next(), Ok(Next::Done)));
    if status.success() && finished {
        return None;
    }
    if status.signal() == Some(Signal::KILL.as_raw()) {
        how.push_str("\nhint: if the system ran out of memory, run fewer at a time: --jobs 1");
    }
    let printed = job.last_lines().unwrap_or_default();
    Some(if printed.starts_with("error:") { printed } else { format!("{printed}\n{how}").trim_start().to_owned() })
}

/// The test accuracy and the seconds of a finished run.
pub fn result(job: &Job) -> Option<(Option<f64>, f64)> {
    let summary = RunFolder::open(&job.folder()).ok()?.read_summary().ok()?;
    Some((summary.last.map(|last| last.top1), summary.seconds))
}
