//! The exponential moving average of a network's weights, parameters and running statistics alike
//! (`timm.utils.ModelEmaV3`).
use heterodyne_nn::{ParamStore, Tensors};
use heterodyne_shim as shim;
use tch::Tensor;

use crate::{Error, Result};

/// The average, and handles to the weights that it follows.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    names: Vec<String>,
    live: Vec<Tensor>,
    average: Vec<Tensor>,
}

impl Ema {
    /// Starts from the network's current weights.
    #[must_use]
    pub fn new(store: &ParamStore, decay: f64) -> Self {
        let (names, live): (Vec<_>, Vec<_>) =
            store.entries().into_iter().map(|(name, t, _)| (name, t.detach())).unzip();
        let average = live.iter().map(Tensor::copy).collect();
        Self { decay, names, live, average }
    }

    /// `average = decay * average + (1 - decay) * live`.
    pub fn update(&self) -> Result<()> {
        Ok(shim::lerp(&self.average, &self.live, 1.0 - self.decay)?)
    }

    /// Runs `f` while the network holds the average, then restores the live weights whatever `f` returns.
    pub fn swapped<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        self.exchange()?;
        let result = f();
        self.exchange()?;
        result
    }

    /// The average under the network's names; handles, not copies.
    #[must_use]
    pub fn tensors(&self) -> Tensors {
        self.names.iter().cloned().zip(self.average.iter().map(Tensor::shallow_clone)).collect()
    }

    /// Continues from a saved average.
    pub fn load(&self, saved: &Tensors) -> Result<()> {
        let _guard = shim::NoGrad::new();
        for (name, t) in self.names.iter().zip(&self.average) {
            let saved =
                saved.get(name).ok_or_else(|| Error::State(format!("the checkpoint lacks the average of `{name}`")))?;
            t.shallow_clone().f_copy_(saved).map_err(heterodyne_nn::Error::from)?;
        }
        Ok(())
    }

    fn exchange(&self) -> Result<()> {
        let _guard = shim::NoGrad::new();
        for (live, average) in self.live.iter().zip(&self.average) {
            let kept = live.copy();
            live.shallow_clone().f_copy_(average).map_err(heterodyne_nn::Error::from)?;
            average.shallow_clone().f_copy_(&kept).map_err(heterodyne_nn::Error::from)?;
        }
        Ok(())
    }
}
