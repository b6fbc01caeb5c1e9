//! The arithmetic of a piece of work, counted from the operators that libtorch runs for it.
mod ffi;

use std::{
    cell::Cell,
    sync::{Mutex, PoisonError},
};

use ffi::bridge;

/// Floating-point operations; a multiplication with its addition counts as two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flops {
    /// Of matrix products and attention.
    pub products: u64,
    /// Of convolutions.
    pub convolutions: u64,
}

thread_local! {
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// The sums are the process's, and one thread at a time uses them.
static COUNTING: Mutex<()> = Mutex::new(());

/// Whether layers that this thread calls are to run libtorch's general operators and no kernel of this crate: they do
/// while arithmetic is counted.
#[must_use]
pub fn plain() -> bool {
    PLAIN.get()
}

/// Switches the kernels of this crate off or on for the layers that this thread calls, for comparisons.
pub fn set_plain(plain: bool) {
    PLAIN.set(plain);
}

/// As [`set_plain`] with `true`, until it is dropped.
#[derive(Debug)]
pub struct Plain(bool);

impl Plain {
    /// Switches the kernels off.
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

/// Runs `work` on libtorch's general operators and counts what this thread runs meanwhile, gradients included.
pub fn count<T>(work: impl FnOnce() -> T) -> crate::Result<(T, Flops)> {
    /// Also where `work` panics.
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
