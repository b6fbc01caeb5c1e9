//! What a run reports while it goes on.
use heterodyne_run::metrics::Metric;

use super::preflight::TeacherCheck;
use crate::cache::CacheStats;

/// What happens in a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// The teacher was looked at.
    Teacher(TeacherCheck),
    /// The teacher's cache was opened, and some of its entries compared with the teacher's output.
    Cache {
        /// How full it is.
        stats: &'a CacheStats,
        /// Entries that were compared.
        checked: usize,
    },
    /// Something that does not end the run.
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

/// Watches a run.
pub trait Observer {
    /// Is called with every event.
    fn on(&mut self, event: &Event);
}

impl<F: FnMut(&Event)> Observer for F {
    fn on(&mut self, event: &Event) {
        self(event);
    }
}
