//! Measures the time of each operator.
mod ffi;

use std::time::Duration;

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

/// Runs `work` and lists the operators that this thread ran in it, gradients included, slowest first.
pub fn operators<T>(work: impl FnOnce() -> T) -> crate::Result<(T, Vec<Operator>)> {
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
