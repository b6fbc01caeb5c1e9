//! Runs jobs on several threads and delivers the results in order.
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use heterodyne_nn::{Error, Result};

/// How often a waiting consumer checks whether to stop.
const LOOK: Duration = Duration::from_millis(50);
/// How long a dropped pass waits for its threads. A thread that hangs in a system call (a dead network drive) is left
/// behind.
const PATIENCE: Duration = Duration::from_secs(5);

/// Passed to every job: set once its result is no longer needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The results of a range of jobs, in order. Worker `w` of `n` does the jobs `w`, `w + n`, .. and has its own bounded
/// channel. Reading the channels in turn gives the order; their bounds give back-pressure. Dropping it stops and joins
/// the workers.
#[derive(Debug)]
pub(crate) struct Ordered<T> {
    lanes: Vec<Receiver<Result<T>>>,
    threads: Vec<JoinHandle<()>>,
    stop: Stop,
    /// Why the workers could not be started; delivered once.
    failed: Option<Error>,
    lane: usize,
    left: usize,
}

impl<T: Send + 'static> Ordered<T> {
    /// Starts `workers` threads that call `work` for each job. At most about four results (or one per worker) are
    /// buffered.
    pub(crate) fn start(
        jobs: Range<usize>,
        workers: usize,
        work: impl Fn(usize, &Stop) -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        let workers = workers.clamp(1, jobs.len().max(1));
        let waiting = match workers {
            1 => 3,
            2..=4 => 1,
            _ => 0,
        };
        let work = Arc::new(work);
        let mut ordered = Self {
            lanes: Vec::new(),
            threads: Vec::new(),
            stop: Stop::default(),
            failed: None,
            lane: 0,
            left: jobs.len(),
        };
        for worker in 0..workers {
            let (sender, receiver) = bounded(waiting);
            let (work, stop, jobs) = (Arc::clone(&work), ordered.stop.clone(), jobs.clone());
            let run = move || {
                for job in jobs.skip(worker).step_by(workers) {
                    // A failed send means that the receiver is gone.
                    if stop.is_set() || sender.send(work(job, &stop)).is_err() {
                        return;
                    }
                }
            };
            match thread::Builder::new().name(format!("loader-{worker}")).spawn(run) {
                Ok(thread) => ordered.threads.push(thread),
                Err(e) => {
                    ordered.failed = Some(Error::invalid(format!(
                        "cannot start loader thread {worker} of {workers} ({e}); use fewer workers"
                    )));
                    return ordered;
                }
            }
            ordered.lanes.push(receiver);
        }
        ordered
    }
}

impl<T> Ordered<T> {
    /// Like `next`, but returns [`Error::Stopped`] as soon as `stop` is set, even while waiting for a result.
    pub(crate) fn next_until(&mut self, stop: &AtomicBool) -> Option<Result<T>> {
        if let Some(error) = self.failed.take() {
            self.left = 0;
            return Some(Err(error));
        }
        self.left = self.left.checked_sub(1)?;
        let received = loop {
            if stop.load(Ordering::Relaxed) {
                self.left = 0;
                return Some(Err(Error::Stopped));
            }
            match self.lanes[self.lane].recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                received => break received,
            }
        };
        self.lane = (self.lane + 1) % self.lanes.len();
        Some(received.unwrap_or_else(|_| {
            self.left = 0;
            Err(Error::invalid("a loader thread ended before its work was done"))
        }))
    }
}

impl<T> Iterator for Ordered<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        self.next_until(&AtomicBool::new(false))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> Drop for Ordered<T> {
    fn drop(&mut self) {
        self.stop.0.store(true, Ordering::Relaxed);
        // Without a receiver a blocked send returns, so every thread ends after its current sample.
        self.lanes.clear();
        let dropped = Instant::now();
        while self.threads.iter().any(|thread| !thread.is_finished()) && dropped.elapsed() < PATIENCE {
            thread::sleep(Duration::from_micros(200));
        }
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            // A panic of the thread was already delivered as an error.
            let _ = thread.join();
        }
    }
}
