//! Fills the teacher's cache before the runs: one pass of the teacher serves all rows and seeds that share it.
use std::{
    process::ExitStatus,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result};
use heterodyne_train::Mode;

use super::{
    comparison::{Job, Next},
    pool::{self, TICK, interrupt},
    rows::Row,
};
use crate::print::{say, tell};

/// Fills the caches of the runs that are not finished, seed by seed, each in a child process of its own. A failure is
/// reported and ends nothing: each run fills its cache itself, or shows the error as its own.
pub fn fill(all: &[Job], seeds: &[u64], stop: &AtomicBool) -> Result<()> {
    for seed in seeds {
        let jobs: Vec<Job> = all.iter().filter(|job| job.seed == *seed && waits(job)).copied().collect();
        // A single run fills its cache in its first epochs, at no extra cost.
        if jobs.len() < 2 || stop.load(Ordering::Relaxed) {
            continue;
        }
        say!("teacher: the outputs for {} runs of seed {seed}", jobs.len());
        let status = passed(&jobs, *seed, stop)?;
        if !status.success() && !stop.load(Ordering::Relaxed) {
            tell!("note: the teacher's cache is not filled ahead ({status}); the runs fill it");
        }
    }
    Ok(())
}

/// Whether a run will read the teacher's cache.
fn waits(job: &Job) -> bool {
    views(job) > 0 && matches!(job.next(), Ok(Next::Start | Next::Continue))
}

/// The number of stored views that a run reads: one per epoch.
fn views(job: &Job) -> u32 {
    let Row { mode, recipe, .. } = job.row;
    let cache = recipe.teacher.as_ref().and_then(|teacher| teacher.cache.as_ref());
    cache.filter(|_| *mode == Mode::Distill).map_or(0, |cache| cache.views.min(recipe.train.epochs))
}

fn passed(jobs: &[Job], seed: u64, stop: &AtomicBool) -> Result<ExitStatus> {
    // No run is there yet to share the cores with.
    let views = jobs.iter().map(views).max().unwrap_or(1);
    let sets = [format!("seed={seed}"), format!("teacher.cache.views={views}"), "threads=0".to_owned()];
    let mut command = pool::child("cache")?;
    command.args(jobs.iter().map(Job::recipe)).args(sets.iter().flat_map(|set| ["--set", set]));
    let mut child = command.spawn().context("a process cannot be started")?;
    let mut asked = false;
    loop {
        if let Some(status) = child.try_wait().context("a process cannot be watched")? {
            return Ok(status);
        }
        if stop.load(Ordering::Relaxed) && !asked {
            asked = true;
            interrupt(&child);
        }
        thread::sleep(TICK);
    }
}
