//! Finds broken samples before a run does.
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use heterodyne_nn::{Error, Result, catch};

use crate::{Dataset, faults};

/// What one pass over all images of a dataset found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// The reason of each broken sample, in the order of the samples.
    pub broken: Vec<String>,
    /// The longer side of each other image in pixels, ascending.
    pub sides: Vec<usize>,
}

impl Audit {
    /// Decodes every image once, on `workers` threads (0: one per core), and checks every label.
    ///
    /// # Errors
    /// [`Error::Stopped`] soon after `stop` is set.
    pub fn of(dataset: &dyn Dataset, workers: usize, stop: &AtomicBool) -> Result<Self> {
        let workers = if workers == 0 { thread::available_parallelism().map_or(1, usize::from) } else { workers };
        let next = AtomicUsize::new(0);
        let seen = Mutex::new((Vec::new(), Vec::new()));
        thread::scope(|scope| {
            for _ in 0..workers.min(dataset.len()) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= dataset.len() || stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let outcome = inspect(dataset, index);
                        let mut seen = seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        match outcome {
                            Ok(side) => seen.1.push(side),
                            Err(error) => seen.0.push((index, error.to_string())),
                        }
                    }
                });
            }
        });
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        let (mut broken, mut sides) = seen.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        broken.sort();
        sides.sort_unstable();
        Ok(Self { broken: broken.into_iter().map(|(_, reason)| reason).collect(), sides })
    }
}

/// Decodes every image of all `splits` once, as [`Audit::of`].
///
/// # Errors
/// Some samples are broken: the message counts them for each split and names the first ten. [`Error::Stopped`] soon
/// after `stop` is set.
pub fn audit<'a>(splits: impl IntoIterator<Item = &'a dyn Dataset>, workers: usize, stop: &AtomicBool) -> Result<()> {
    let mut reports = Vec::new();
    for split in splits {
        let broken = Audit::of(split, workers, stop)?.broken;
        if !broken.is_empty() {
            reports.push(format!("{}: {} broken{}", split.describe(), broken.len(), faults::list(broken.iter())));
        }
    }
    if reports.is_empty() { Ok(()) } else { Err(Error::Invalid(reports.join("\n"))) }
}

/// The longer side of image `index`, if image and label are usable.
fn inspect(dataset: &dyn Dataset, index: usize) -> Result<usize> {
    catch(
        || format!("sample {index}"),
        || {
            let (height, width) = dataset.image(index)?.size();
            let (label, classes) = (dataset.label(index), dataset.classes().len());
            if label < classes {
                Ok(height.max(width))
            } else {
                Err(Error::invalid(format!("sample {index}: label {label}, but there are {classes} classes")))
            }
        },
    )
}
