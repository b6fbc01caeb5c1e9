//! Measures the time of each operator.
mod ffi;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ffi::bridge;

/// The time of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// libtorch's name for it (`aten::mm`, `ConvolutionBackward0`), or a kernel of this crate (`heterodyne::conv3x3`).
    pub name: String,
    /// Number of calls.
    pub calls: u64,
    /// Its own time, without the operators that it called. On a GPU this is the time to issue the work.
    pub own: Duration,
}

/// Held by the one measurement of the process.
static ONE: Mutex<()> = Mutex::new(());

/// Runs `work` and lists the operators that this thread ran in it, slowest first, with those that autograd's threads
/// ran for it. Another measurement at the same time waits.
pub fn operators<T>(work: impl FnOnce() -> T) -> crate::Result<(T, Vec<Operator>)> {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    /// Stops even if `work` panics.
    struct Running;
    impl Drop for Running {
        fn drop(&mut self) {
            bridge::stop();
        }
    }
    bridge::start()?;
    let running = Running;
    let result = work();
    drop(running);
    let operator = |o: bridge::Operator| Operator { name: o.name, calls: o.calls, own: Duration::from_nanos(o.own_ns) };
    let mut operators: Vec<_> = bridge::operators().into_iter().map(operator).collect();
    operators.sort_by_key(|o| std::cmp::Reverse(o.own));
    Ok((result, operators))
}

/// Runs `work` on another thread with this one's state, as autograd does for a GPU; for tests.
#[doc(hidden)]
pub fn elsewhere(work: fn()) {
    bridge::elsewhere(work);
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn work_on_autograds_threads_is_counted() {
        fn invert() {
            let _ = Tensor::eye(3, (Kind::Float, Device::Cpu)).inverse();
        }
        let (_, found) = operators(|| {
            let _ = Tensor::ones([2], (Kind::Float, Device::Cpu)).erfinv();
            elsewhere(invert);
        })
        .unwrap();
        let calls = |name: &str| found.iter().find(|o| o.name == name).map(|o| o.calls);
        assert_eq!((calls("aten::erfinv"), calls("aten::inverse")), (Some(1), Some(1)), "{found:?}");
        // What this thread runs after the measurement does not count.
        invert();
        let (_, found) = operators(|| ()).unwrap();
        assert!(found.is_empty(), "{found:?}");
    }
}
