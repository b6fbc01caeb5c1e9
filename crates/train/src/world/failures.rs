//! Names the process at fault when one of several fails, hangs or cannot be reached.
use std::{
    sync::{Arc, mpsc},
    thread::{sleep, spawn},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Launch, Member, World};
use crate::{Error, Result};

/// How long the others have to report that they have lost a process too.
const GRACE: Duration = Duration::from_secs(5);
/// How long the store has to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Why the processes have not met.
pub(super) fn not_met(launch: &Launch, timeout: Duration, e: &heterodyne_shim::Error) -> Error {
    let Launch { rank, size, host, port, serves, .. } = launch;
    let text = e.to_string();
    let advice = if *serves && (text.contains("EADDRINUSE") || text.contains("address already in use")) {
        format!("port {port} is in use: set MASTER_PORT to a free one, the same for all ranks")
    } else {
        format!(
            "check that all {size} ranks were started and can reach {host}:{port} (MASTER_ADDR, MASTER_PORT); they are \
             waited for {} s (distributed.timeout)",
            timeout.as_secs_f64()
        )
    };
    Error::Ranks(format!("rank {rank} of {size} has not met the others at {host}:{port}: {text}\n  hint: {advice}"))
}

impl World {
    /// Tells the others why this process ends, or finds out which other process has made it end: an error that another
    /// process causes becomes one that names it.
    #[must_use]
    pub fn explain(&self, e: Error) -> Error {
        let Some(member) = &self.0 else { return e };
        let text = e.to_string();
        let rank = member.launch.rank;
        if e.is_stop() || !heterodyne_shim::ranks::is_about_peers(&text) {
            // If the store is gone too, this message is all that can be given.
            let (teller, why) = (Arc::clone(member), text.clone());
            let _ = in_time(PATIENCE, move || {
                teller.group.put(&teller.key("failed"), &why)?;
                teller.part(&[])
            });
            return if e.is_stop() { e } else { Error::Ranks(format!("rank {rank}: {text}")) };
        }
        let first = text.lines().next().unwrap_or_default();
        let seeker = Arc::clone(member);
        let found = match in_time(PATIENCE, move || seeker.culprits().ok()).flatten() {
            Some((at_fault, found)) => {
                let member = Arc::clone(member);
                let _ = in_time(PATIENCE, move || member.part(&at_fault));
                found
            }
            None => vec![format!(
                "rank 0 or the launcher, which serves {}:{}, cannot be reached any more; its own message says why",
                member.launch.host, member.launch.port
            )],
        };
        let found = match found.is_empty() {
            true => "the ranks have lost their connections to each other".to_owned(),
            false => found.join("\n  "),
        };
        Error::Ranks(format!(
            "rank {rank}: {found}\n  ({first})\n  hint: everything saved so far is intact; once all ranks can run, \
             continue with --resume"
        ))
    }
}

impl World {
    /// Ends together: the others stay until rank 0 has written everything, because a launcher ends all processes once
    /// one has ended with an error or a stop; and rank 0 stays until they know, because it may serve the meeting point.
    pub fn leave(&self) {
        let Some(member) = &self.0 else { return };
        let member = Arc::clone(member);
        let leads = self.leads();
        // Whoever cannot be reached any more has left already.
        let _ = in_time(member.timeout, move || match leads {
            true => member.group.put(&key("written", 0), "").and_then(|()| member.all_left(&[])),
            false => member.told_by(0, "written").map_or(Ok(()), |_| member.group.put(&member.key("left"), "")),
        });
    }
}

impl Member {
    /// Ends after a failure: whoever serves the meeting point stays until the others have read there why, but those
    /// `at_fault`.
    fn part(&self, at_fault: &[u32]) -> Result<(), heterodyne_shim::Error> {
        self.group.put(&self.key("left"), "")?;
        if self.launch.serves { self.all_left(at_fault) } else { Ok(()) }
    }

    /// Waits a moment until all others have left, but those `at_fault`.
    fn all_left(&self, at_fault: &[u32]) -> Result<(), heterodyne_shim::Error> {
        let start = Instant::now();
        for rank in self.others().filter(|rank| !at_fault.contains(rank)) {
            while !self.group.has(&key("left", rank))? && start.elapsed() < GRACE {
                sleep(POLL);
            }
        }
        Ok(())
    }

    fn others(&self) -> impl Iterator<Item = u32> + use<> {
        let own = self.launch.rank;
        (0..self.launch.size).filter(move |rank| *rank != own)
    }

    fn key(&self, what: &str) -> String {
        key(what, self.launch.rank)
    }

    /// Tells the others that this process lives and is about to take `step`.
    pub(super) fn beat(&self, step: u64) -> Result<()> {
        Ok(self.group.put(&self.key("alive"), &format!("{step} {}", now()))?)
    }

    /// What `rank` has put under `what`; waits for it, unless a process fails meanwhile.
    ///
    /// # Errors
    /// A process has failed, the time is over, or the store cannot be reached.
    pub(super) fn told_by(&self, rank: u32, what: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            if self.group.has(&key(what, rank))? {
                return Ok(self.group.get(&key(what, rank))?);
            }
            for other in 0..self.launch.size {
                if self.group.has(&key("failed", other))? {
                    let why = self.group.get(&key("failed", other))?;
                    return Err(Error::Ranks(format!("rank {other} failed: {why}")));
                }
            }
            if start.elapsed() >= self.timeout {
                return Err(Error::Ranks(self.silence(rank)?));
            }
            sleep(POLL);
        }
    }

    /// The processes that have failed or do not answer, and a sentence about each. Those that have lost another process
    /// too are not at fault.
    fn culprits(&self) -> Result<(Vec<u32>, Vec<String>), heterodyne_shim::Error> {
        self.group.put(&self.key("lost"), "")?;
        let mut silent: Vec<u32> = self.others().collect();
        let start = Instant::now();
        loop {
            let (mut failed, mut reasons) = (Vec::new(), Vec::new());
            for &rank in &silent {
                if self.group.has(&key("failed", rank))? {
                    reasons.push(format!("rank {rank} failed: {}", self.group.get(&key("failed", rank))?));
                    failed.push(rank);
                }
            }
            if !failed.is_empty() {
                return Ok((failed, reasons));
            }
            let mut still = Vec::new();
            for &rank in &silent {
                if !self.group.has(&key("lost", rank))? {
                    still.push(rank);
                }
            }
            silent = still;
            if silent.is_empty() || start.elapsed() >= GRACE {
                let reasons = silent.iter().map(|&rank| self.silence(rank)).collect::<Result<_, _>>()?;
                return Ok((silent, reasons));
            }
            sleep(POLL);
        }
    }

    fn silence(&self, rank: u32) -> Result<String, heterodyne_shim::Error> {
        let alive = key("alive", rank);
        if !self.group.has(&alive)? {
            return Ok(format!("rank {rank} does not answer: it was killed, hangs, or its network is cut"));
        }
        let text = self.group.get(&alive)?;
        let mut numbers = text.split(' ').filter_map(|number| number.parse::<u64>().ok());
        let (step, time) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Ok(format!(
            "rank {rank} does not answer: it was killed, hangs, or its network is cut (its last sign of life was at \
             step {step}, {} s ago)",
            now().saturating_sub(time)
        ))
    }
}

/// What `ask` finds out, unless it takes too long: a store behind a cut network neither answers nor fails.
fn in_time<T: Send + 'static>(limit: Duration, ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, receive) = mpsc::channel();
    spawn(move || send.send(ask()));
    receive.recv_timeout(limit).ok()
}

fn key(what: &str, rank: u32) -> String {
    format!("{what}/{rank}")
}
