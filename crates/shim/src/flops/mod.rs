//! Counts the arithmetic of some work from the operators that libtorch runs for it.
mod ffi;

use std::{
    cell::Cell,
    sync::{Mutex, PoisonError},
};

use ffi::bridge;

/// Floating-point operations; a multiplication with its addition counts as two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flops {
    /// Operations of matrix products and attention.
    pub products: u64,
    /// Operations of convolutions.
    pub convolutions: u64,
}

thread_local! {
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// The counters belong to the process; one thread at a time uses them.
static COUNTING: Mutex<()> = Mutex::new(());

/// Whether layers on this thread must run libtorch's general operators instead of this crate's kernels, as they do
/// while arithmetic is counted.
#[must_use]
pub fn plain() -> bool {
    PLAIN.get()
}

/// Turns this crate's kernels off or on for layers on this thread, for comparisons.
pub fn set_plain(plain: bool) {
    PLAIN.set(plain);
}

/// Like [`set_plain`] with `true`, until it is dropped.
#[derive(Debug)]
pub struct Plain(bool);

impl Plain {
    /// Turns the kernels off.
    #[must_use]
    pub fn begin() -> Self {
        Self(PLAIN.replace(true))
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        set_plain(self.0);
    }
}

/// Runs `work` on libtorch's general operators and counts the operations of this thread in it, gradients included.
pub fn count<T>(work: impl FnOnce() -> T) -> crate::Result<(T, Flops)> {
    /// Stops counting even if `work` panics.
    struct Counting;
    impl Drop for Counting {
        fn drop(&mut self) {
            bridge::stop();
        }
    }
    let _one = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let (_counting, _plain) = (Counting, Plain::begin());
    bridge::start()?;
    let result = work();
    Ok((result, Flops { products: bridge::products(), convolutions: bridge::convolutions() }))
}
