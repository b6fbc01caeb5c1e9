//! Finds broken samples before a run does.
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use heterodyne_nn::{Error, Result, catch};

use crate::Dataset;

/// Number of broken samples that the message names; the rest are only counted.
const NAMED: usize = 10;

/// Decodes every image once, on `workers` threads (0: one per core), and checks every label.
///
/// # Errors
/// Some samples are broken: the message counts them and names the first ten. [`Error::Stopped`] soon after `stop` is
/// set.
pub fn audit(dataset: &dyn Dataset, workers: usize, stop: &AtomicBool) -> Result<()> {
    let workers = if workers == 0 { thread::available_parallelism().map_or(1, usize::from) } else { workers };
    let next = AtomicUsize::new(0);
    let broken = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers.min(dataset.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= dataset.len() || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(error) = inspect(dataset, index) {
                        broken.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((index, error.to_string()));
                    }
                }
            });
        }
    });
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Stopped);
    }
    let mut broken = broken.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if broken.is_empty() {
        return Ok(());
    }
    broken.sort();
    let mut report = format!("{}: {} broken", dataset.describe(), broken.len());
    for (_, line) in broken.iter().take(NAMED) {
        report.push_str("\n  ");
        report.push_str(line);
    }
    if broken.len() > NAMED {
        report.push_str(&format!("\n  and {} more", broken.len() - NAMED));
    }
    Err(Error::Invalid(report))
}

fn inspect(dataset: &dyn Dataset, index: usize) -> Result<()> {
    catch(
        || format!("sample {index}"),
        || {
            dataset.image(index)?;
            let (label, classes) = (dataset.label(index), dataset.classes().len());
            if label < classes {
                Ok(())
            } else {
                Err(Error::invalid(format!("sample {index}: label {label}, but there are {classes} classes")))
            }
        },
    )
}
