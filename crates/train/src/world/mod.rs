//! The processes that train one student together. Each has a part of every batch; gradients are averaged, and features,
//! metrics and evaluations are joined. Everything also works for a single process, where nothing is sent.
mod agreement;
mod failures;
mod handshake;
mod launch;

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use heterodyne_methods::{Ranks, ranks::Alone};
use heterodyne_shim::{
    ranks::{Group, Meeting, SyncNorms},
    select_gpu,
};
use tch::{Device, Kind, Tensor};

pub use self::{agreement::Agreement, handshake::Facts, launch::Launch};
use crate::{Error, Result};

/// The processes of a run, seen from one of them.
#[derive(Clone, Debug, Default)]
pub struct World(Option<Arc<Member>>);

/// One of several processes.
#[derive(Debug)]
struct Member {
    group: Arc<Group>,
    launch: Launch,
    /// How long an operation waits for the others.
    timeout: Duration,
    /// When this process last told the others that it lives.
    told: Mutex<Instant>,
}

impl World {
    /// A single process.
    #[must_use]
    pub fn alone() -> Self {
        Self(None)
    }

    /// Meets the other processes. No operation waits longer than `timeout` for them.
    ///
    /// # Errors
    /// The meeting point cannot be reached or served, or a process does not come.
    pub fn meet(launch: &Launch, device: Device, timeout: Duration) -> Result<Self> {
        let Launch { rank, size, host, port, serves, attempt, .. } = launch.clone();
        let prefix = format!("heterodyne/attempt-{attempt}");
        let meeting = Meeting { host, port, serves, prefix, rank, size, timeout };
        let group = Group::meet(&meeting, device).map_err(|e| failures::not_met(launch, timeout, &e))?;
        let told = Mutex::new(Instant::now());
        let member = Member { group: Arc::new(group), launch: launch.clone(), timeout, told };
        member.beat(0)?;
        Ok(Self(Some(Arc::new(member))))
    }

    /// This process, from 0.
    #[must_use]
    pub fn rank(&self) -> u32 {
        self.0.as_ref().map_or(0, |m| m.launch.rank)
    }

    /// Number of processes.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.0.as_ref().map_or(1, |m| m.launch.size)
    }

    /// Whether this process is the only one.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this process writes the run folder: rank 0 does.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Number of processes on this machine.
    #[must_use]
    pub fn on_this_machine(&self) -> usize {
        self.0.as_ref().map_or(1, |m| m.launch.local_size as usize)
    }

    /// This process's part of `len` things in a row; the parts differ by at most one.
    #[must_use]
    pub fn part(&self, len: usize) -> Range<usize> {
        let (rank, size) = (self.rank() as usize, self.size() as usize);
        len * rank / size..len * (rank + 1) / size
    }

    /// The group, if there are several processes.
    pub(crate) fn group(&self) -> Option<&Arc<Group>> {
        self.0.as_ref().map(|m| &m.group)
    }

    /// The processes as methods see them.
    #[must_use]
    pub fn ranks(&self) -> &dyn Ranks {
        match &self.0 {
            Some(member) => member.as_ref(),
            None => &Alone,
        }
    }

    /// Lets the batch norms of this thread use the statistics of the whole batch while the guard lives.
    #[must_use]
    pub fn sync_norms(&self) -> Option<SyncNorms> {
        self.0.as_ref().map(|m| SyncNorms::new(&m.group))
    }

    /// The sum of `x` over all processes, in place.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn sum(&self, x: &Tensor) -> Result<()> {
        Ok(self.0.as_ref().map_or(Ok(()), |m| m.group.all_reduce(x))?)
    }

    /// Replaces `tensors` by those of rank 0.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn broadcast(&self, tensors: &[Tensor]) -> Result<()> {
        Ok(self.0.as_ref().map_or(Ok(()), |m| m.group.broadcast(tensors))?)
    }

    /// The rows (n,..) of all processes, which describe their [`World::part`] of `len` things, in order.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn join(&self, own: &Tensor, len: usize) -> Result<Tensor> {
        let Some(member) = &self.0 else { return Ok(own.shallow_clone()) };
        let size = self.size() as usize;
        let parts: Vec<usize> = (0..size).map(|rank| len * (rank + 1) / size - len * rank / size).collect();
        let longest = parts.iter().copied().max().unwrap_or(0) as i64;
        let mut shape = own.size();
        let missing = longest - shape[0];
        shape[0] = missing;
        let padded = Tensor::f_cat(&[own, &Tensor::f_zeros(&shape, (own.kind(), own.device()))?], 0)?;
        let all = member.group.gather(&padded)?.f_unflatten(0, [size as i64, longest])?;
        let rows = parts.iter().enumerate().map(|(rank, &part)| all.select(0, rank as i64).narrow(0, 0, part as i64));
        Ok(Tensor::f_cat(&rows.collect::<Vec<_>>(), 0)?)
    }

    /// A tensor of bytes (N) from every process, by rank.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn gather_bytes(&self, own: &Tensor) -> Result<Vec<Tensor>> {
        let Some(member) = &self.0 else { return Ok(vec![own.shallow_clone()]) };
        let all = member.group.gather(&own.f_to_device(Device::Cpu)?.f_unsqueeze(0)?)?;
        Ok(all.unbind(0))
    }
}

impl Ranks for Member {
    fn size(&self) -> i64 {
        i64::from(self.launch.size)
    }

    fn rank(&self) -> i64 {
        i64::from(self.launch.rank)
    }

    fn gather(&self, rows: &Tensor) -> heterodyne_nn::Result<Tensor> {
        Ok(self.group.gather(rows)?)
    }

    fn sum(&self, x: &Tensor) -> heterodyne_nn::Result<Tensor> {
        let sum = x.detach().copy();
        self.group.all_reduce(&sum)?;
        Ok(sum)
    }
}

/// Lets this process use the GPU of its place on the machine; before CUDA starts.
///
/// # Errors
/// `CUDA_VISIBLE_DEVICES` shows fewer devices.
pub fn choose_gpu(launch: &Launch) -> Result<()> {
    select_gpu(launch.local_rank).map_err(|e| Error::Ranks(format!("rank {}: {e}", launch.rank)))
}

/// NaN if `total` is not finite, else 1: the factor of every gradient, so that all processes skip a step that one of
/// them must skip.
pub fn poison(total: &Tensor) -> Tensor {
    total.detach() * 0.0 + Tensor::ones([], (Kind::Float, total.device()))
}
