//! The events that a run reports.
use heterodyne_run::metrics::Metric;

use super::preflight::TeacherCheck;
use crate::cache::CacheStats;

/// An event of a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// The teacher was checked.
    Teacher(TeacherCheck),
    /// The teacher's cache was opened, and some entries were compared with the teacher's output.
    Cache {
        /// Fill level and size.
        stats: &'a CacheStats,
        /// Number of compared entries.
        checked: usize,
    },
    /// A remark that does not end the run.
    Note(&'a str),
    /// An epoch begins.
    Epoch {
        /// The epoch's number, from 0.
        epoch: u32,
        /// Number of batches in the epoch.
        batches: usize,
        /// Number of batches already done before an interruption.
        done: usize,
    },
    /// A step was issued.
    Step {
        /// Images per second in the epoch so far.
        images_per_second: f64,
        /// Share of the epoch's time spent waiting for data.
        data_wait: f64,
    },
    /// The first step of this process is done.
    FirstStep {
        /// Parameters that no gradient has reached, of [`Event::FirstStep::parameters`].
        without_gradient: &'a [&'a str],
        /// Number of trained tensors.
        parameters: usize,
        /// The largest memory so far in bytes: tensors on a GPU, else the resident size of the process.
        memory: Option<u64>,
    },
    /// A line was added to the metrics.
    Metric(&'a Metric),
    /// An evaluation is in progress.
    Evaluating {
        /// Number of images done.
        done: usize,
    },
    /// The run was stopped and has saved a checkpoint.
    Interrupted,
}

/// Watches a run.
pub trait Observer {
    /// Called with every event.
    fn on(&mut self, event: &Event);
}

impl<F: FnMut(&Event)> Observer for F {
    fn on(&mut self, event: &Event) {
        self(event);
    }
}
