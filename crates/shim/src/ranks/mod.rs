//! Processes that train together, on PyTorch's own engine (c10d): a TCP store to meet at, Gloo between CPUs, NCCL
//! between GPUs, and the reducer of `DistributedDataParallel`. All processes must call the collective operations in the
//! same order with equal shapes.
#[expect(clippy::too_many_arguments, reason = "one to one with c10d's stores and groups")]
mod ffi;

use std::{cell::RefCell, marker::PhantomData, sync::Arc, time::Duration};

use cxx::UniquePtr;
use tch::{Device, Tensor};

use crate::{Error, Result, address, addresses, take};
use ffi::bridge;

/// The name that [`is_about_peers`] looks for: the store's own messages hold none.
const STORE: &str = "TCPStore";

/// The result of an operation of the store, which fails only when the process that serves it has gone.
fn stored<T>(result: std::result::Result<T, cxx::Exception>) -> Result<T> {
    result.map_err(|e| Error(format!("{STORE}: {}", Error::from(e).message())))
}

/// Where processes meet, and which of them this one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// The host of the store.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether this process serves the store.
    pub serves: bool,
    /// Keeps the keys of one attempt from those of the next.
    pub prefix: String,
    /// This process, from 0.
    pub rank: u32,
    /// Number of processes.
    pub size: u32,
    /// How long an operation waits for the others.
    pub timeout: Duration,
}

/// The processes that train together.
pub struct Group {
    group: UniquePtr<bridge::Group>,
    rank: u32,
    size: u32,
}

// SAFETY: c10d's groups and stores may be used from any thread, one operation at a time; autograd's own thread uses
// them as well.
unsafe impl Send for Group {}
// SAFETY: as above; the store locks its connection, and the groups their queues.
unsafe impl Sync for Group {}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({} of {})", self.rank, self.size)
    }
}

impl Group {
    /// Meets the other processes. Tensors may then be on a CPU, and on `device`.
    ///
    /// # Errors
    /// The store cannot be reached or served, or another process does not come within the timeout.
    pub fn meet(at: &Meeting, device: Device) -> Result<Self> {
        let timeout = u64::try_from(at.timeout.as_millis()).unwrap_or(u64::MAX);
        let (rank, size) = (at.rank as i32, at.size as i32);
        let group = bridge::connect(&at.host, at.port, at.serves, &at.prefix, rank, size, timeout, device.is_cuda())?;
        Ok(Self { group, rank: at.rank, size: at.size })
    }

    /// This process, from 0.
    #[must_use]
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// Number of processes.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Replaces `x` by its sum over all processes, without a graph.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn all_reduce(&self, x: &Tensor) -> Result<()> {
        // SAFETY: `x` is a live tensor; the call returns when the operation has been issued, and c10d keeps it alive.
        Ok(unsafe { self.group.all_reduce(address(x)) }?)
    }

    /// Replaces `tensors` by those of process 0.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn broadcast(&self, tensors: &[Tensor]) -> Result<()> {
        // SAFETY: all tensors are live for the call.
        Ok(unsafe { self.group.broadcast(&addresses(tensors)) }?)
    }

    /// The rows (B,..) of all processes, (size * B,..), in the order of their ranks. The gradient of a process's rows
    /// is the sum of their gradients in all processes.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn gather(&self, rows: &Tensor) -> Result<Tensor> {
        // SAFETY: `rows` is a live tensor. The graph's operations use the group, which outlives every step.
        Ok(take(unsafe { self.group.gather(address(rows)) }?))
    }

    /// The sum of `x` over all processes; the gradient is the sum of the gradients.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn sum(&self, x: &Tensor) -> Result<Tensor> {
        // SAFETY: as in `gather`.
        Ok(take(unsafe { self.group.sum(address(x)) }?))
    }

    /// Sends a number to all processes without waiting for theirs.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn send(&self, number: i32) -> Result<Message> {
        Ok(Message(self.group.send(number)?))
    }

    /// Stores a text under a key that all processes see.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        stored(self.group.put(key, value))
    }

    /// Whether the store has the key.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub fn has(&self, key: &str) -> Result<bool> {
        stored(self.group.has(key))
    }

    /// The text under a key; waits until a process has put it there.
    ///
    /// # Errors
    /// The store cannot be reached, or nothing has been put there within the timeout.
    pub fn get(&self, key: &str) -> Result<String> {
        stored(self.group.get(key))
    }
}

thread_local! {
    /// The processes whose batches the batch norms of this thread normalise together.
    static SYNCED: RefCell<Option<Arc<Group>>> = const { RefCell::new(None) };
}

/// Lets batch norms on this thread use the statistics of all processes while it lives.
#[must_use = "batch norms use their own batch again when the guard is dropped"]
pub struct SyncNorms {
    before: Option<Arc<Group>>,
    _thread: PhantomData<*const ()>,
}

impl SyncNorms {
    /// Joins the batch norms of the processes of `group`.
    pub fn new(group: &Arc<Group>) -> Self {
        let before = SYNCED.with(|synced| synced.replace(Some(Arc::clone(group))));
        Self { before, _thread: PhantomData }
    }
}

impl Drop for SyncNorms {
    fn drop(&mut self) {
        SYNCED.with(|synced| synced.replace(self.before.take()));
    }
}

/// The processes whose batches are normalised together on this thread.
#[must_use]
pub fn synced() -> Option<Arc<Group>> {
    SYNCED.with(|synced| synced.borrow().clone())
}

/// Whether the message of a failed operation is about the connection to another process. The engine's errors come
/// through autograd as text, which holds the name of the part that failed.
#[must_use]
pub fn is_about_peers(message: &str) -> bool {
    ["gloo", "NCCL", "c10d", STORE, "Broken pipe", "Connection reset", "Connection closed", "pair closure"]
        .iter()
        .any(|mark| message.contains(mark))
}

/// Numbers of all processes, on their way.
pub struct Message(UniquePtr<bridge::Message>);

impl Message {
    /// The numbers, in the order of the ranks; waits for the last one.
    ///
    /// # Errors
    /// A process has not sent its number within the timeout, or cannot be reached.
    pub fn received(self) -> Result<Vec<i32>> {
        Ok(self.0.received()?)
    }
}

/// Averages gradients over all processes while the backward pass goes on.
pub struct Reducer {
    reducer: UniquePtr<bridge::Reducer>,
    _group: Arc<Group>,
}

impl Reducer {
    /// A reducer of the gradients of `parameters`, which are sent in float16 if `half` is set.
    ///
    /// # Errors
    /// The parameters are not of one kind of device.
    pub fn new(group: &Arc<Group>, parameters: &[Tensor], half: bool) -> Result<Self> {
        // SAFETY: all tensors are live for the call; the reducer keeps its own handles.
        let reducer = unsafe { bridge::reducer(&group.group, &addresses(parameters), half) }?;
        Ok(Self { reducer, _group: Arc::clone(group) })
    }

    /// Must be called before every backward pass from `total`; after it, the gradients are averages.
    ///
    /// # Errors
    /// Another process cannot be reached.
    pub fn prepare(&self, total: &Tensor) -> Result<()> {
        // SAFETY: `total` is a live tensor.
        Ok(unsafe { self.reducer.prepare(address(total)) }?)
    }
}
