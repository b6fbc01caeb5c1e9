//! The arithmetic of a piece of work, counted from the operators that libtorch runs for it.
mod ffi;

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
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

static PLAIN: AtomicBool = AtomicBool::new(false);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Whether layers are to run libtorch's general operators and no kernel of this crate: they do while arithmetic is counted.
#[must_use]
pub fn plain() -> bool {
    PLAIN.load(Ordering::Relaxed)
}

/// Switches the kernels of this crate off or on, for comparisons.
pub fn set_plain(plain: bool) {
    PLAIN.store(plain, Ordering::Relaxed);
}

/// Runs `work` on libtorch's general operators and counts what this thread runs meanwhile, gradients included.
pub fn count<T>(work: impl FnOnce() -> T) -> crate::Result<(T, Flops)> {
    /// Puts things back also where `work` panics.
    struct Counting(bool);
    impl Drop for Counting {
        fn drop(&mut self) {
            bridge::stop();
            set_plain(self.0);
        }
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let _counting = Counting(plain());
    set_plain(true);
    bridge::start()?;
    let result = work();
    Ok((result, Flops { products: bridge::products(), convolutions: bridge::convolutions() }))
}
