//! CUDA graphs: work whose kernels, shapes and addresses do not change is recorded once and then launched as a whole,
//! which saves the host's part of every operation.
mod ffi;

use std::marker::PhantomData;

use cxx::UniquePtr;

use crate::Result;
use ffi::bridge;

/// Lets the thread work on a stream of its own while it lives; only there can work be recorded.
#[must_use = "the thread returns to the default stream when the guard is dropped"]
pub struct OwnStream {
    _stream: UniquePtr<bridge::OwnStream>,
    _thread: PhantomData<*const ()>,
}

impl OwnStream {
    /// Starts it. The stream waits for everything that was issued before.
    ///
    /// # Errors
    /// There is no GPU.
    pub fn start() -> Result<Self> {
        Ok(Self { _stream: bridge::own_stream()?, _thread: PhantomData })
    }
}

/// Device memory that several graphs share. They must be launched in the order in which they were recorded.
pub struct Pool(UniquePtr<bridge::Pool>);

impl Pool {
    /// A new one.
    ///
    /// # Errors
    /// There is no GPU.
    pub fn new() -> Result<Self> {
        Ok(Self(bridge::pool()?))
    }
}

/// Recorded work.
pub struct Graph(UniquePtr<bridge::Graph>);

impl Graph {
    /// Records the operations of `work` on this thread's stream without running them. Tensors that `work` makes hold no
    /// values before the first [`Graph::launch`]; those that it reads or changes must live as long as the graph.
    ///
    /// # Errors
    /// `work` fails, which it also does if it needs a value on the host or memory from outside the pool.
    pub fn record<T, E: From<crate::Error>>(
        pool: &Pool,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(Self, T), E> {
        let mut graph = bridge::graph().map_err(crate::Error::from)?;
        graph.pin_mut().begin(&pool.0).map_err(crate::Error::from)?;
        let mut recording = Recording(Some(graph));
        let made = work();
        let ended = recording.end();
        let made = made?;
        Ok((Self(ended?), made))
    }

    /// Runs the recorded work, after everything that was issued on this thread's stream.
    ///
    /// # Errors
    /// The device fails.
    pub fn launch(&self) -> Result<()> {
        Ok(self.0.launch()?)
    }
}

/// Ends the recording even if the work panics: the device accepts nothing else before.
struct Recording(Option<UniquePtr<bridge::Graph>>);

impl Recording {
    fn end(&mut self) -> Result<UniquePtr<bridge::Graph>> {
        let mut graph = self.0.take().ok_or_else(|| crate::Error("the recording has ended".to_owned()))?;
        graph.pin_mut().end()?;
        Ok(graph)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.0.is_some() {
            let _ = self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn a_launch_repeats_the_recorded_work_on_new_values() {
        if crate::load_cuda().is_err() {
            println!("skipped: this machine has no GPU");
            assert!(Pool::new().is_err(), "without libtorch's CUDA half there is nothing to record with");
            return;
        }
        let _stream = OwnStream::start().unwrap();
        let mut x = Tensor::zeros([4], (Kind::Float, Device::Cuda(0)));
        let pool = Pool::new().unwrap();
        let (graph, y) = Graph::record::<_, crate::Error>(&pool, || Ok(&x * 2.0 + 1.0)).unwrap();
        for value in [1.0, 5.0] {
            let _ = x.fill_(value);
            graph.launch().unwrap();
            assert_eq!(Vec::<f64>::try_from(&y).unwrap(), [2.0 * value + 1.0; 4]);
        }
        let needs_host = Graph::record::<_, crate::Error>(&pool, || Ok(x.f_double_value(&[0]).is_ok()));
        assert!(!matches!(needs_host, Ok((_, true))), "a value cannot be read while recording");
        assert_eq!(x.double_value(&[0]), 5.0, "the device works on");
    }
}
