//! The client has no timeouts and cannot be stopped, so it runs in its own thread and is watched from here.
use std::panic;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use hf_hub::api::Progress;

/// The reason for a missing result.
pub enum Lost {
    /// Nothing arrived within the timeout. The thread is left behind; it ends with its connection, or with its next
    /// byte.
    Stalled,
    /// The thread ended without a result.
    Died,
    /// The thread received more bytes than were announced.
    TooLong,
}

enum Sign<T> {
    Bytes(u64),
    TooLong,
    Done(T),
}

/// Runs `work` in a thread and passes the byte counts that it reports to `bytes`.
pub fn watched<T: Send + 'static>(
    timeout: Duration,
    limit: u64,
    work: impl FnOnce(Meter<T>) -> T + Send + 'static,
    mut bytes: impl FnMut(u64),
) -> Result<T, Lost> {
    let (signs, received) = mpsc::sync_channel(64);
    thread::spawn(move || {
        let meter = Meter { signs: signs.clone(), done: 0, limit };
        // The receiver is gone after a stall.
        let _ = signs.send(Sign::Done(work(meter)));
    });
    loop {
        match received.recv_timeout(timeout) {
            Ok(Sign::Bytes(done)) => bytes(done),
            Ok(Sign::TooLong) => return Err(Lost::TooLong),
            Ok(Sign::Done(result)) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => return Err(Lost::Stalled),
            Err(RecvTimeoutError::Disconnected) => return Err(Lost::Died),
        }
    }
}

/// Counts a file's bytes for the watcher.
pub struct Meter<T> {
    signs: SyncSender<Sign<T>>,
    done: u64,
    limit: u64,
}

impl<T> Meter<T> {
    /// Reports, and ends the thread if the receiver is gone: unwinding (without a panic message) is the only way out of
    /// the client.
    fn send(&self, sign: Sign<T>) {
        if self.signs.send(sign).is_err() {
            panic::resume_unwind(Box::new(()));
        }
    }
}

impl<T> Progress for Meter<T> {
    fn init(&mut self, _size: usize, _file: &str) {
        self.done = 0;
    }

    fn update(&mut self, size: usize) {
        self.done = self.done.saturating_add(size as u64);
        if self.done > self.limit {
            self.send(Sign::TooLong);
            panic::resume_unwind(Box::new(()));
        }
        self.send(Sign::Bytes(self.done));
    }

    fn finish(&mut self) {}
}
