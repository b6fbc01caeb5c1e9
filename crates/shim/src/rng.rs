//! libtorch's random generators as values.
use cxx::UniquePtr;
use tch::{Device, Tensor};

use crate::{Result, address, device_code, ffi::bridge, take};

/// A random generator of libtorch. A new one is independent of the global one, so initialising a network does not
/// depend on other work in the process.
pub struct Rng(UniquePtr<bridge::Rng>);

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rng")
    }
}

impl Rng {
    /// A CPU generator whose stream equals PyTorch's after `torch.manual_seed(seed)`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(bridge::rng_new(seed))
    }

    /// The generator that operations such as dropout draw from on `device`.
    pub fn global(device: Device) -> Result<Self> {
        Ok(Self(bridge::rng_global(device_code(device))?))
    }

    /// Restarts the stream at `seed`.
    pub fn seed(&self, seed: u64) -> Result<()> {
        Ok(bridge::rng_seed(&self.0, seed)?)
    }

    /// The state as a uint8 tensor on the CPU.
    pub fn state(&self) -> Result<Tensor> {
        Ok(take(bridge::rng_state(&self.0)?))
    }

    /// Continues from a state that [`Rng::state`] returned.
    pub fn set_state(&self, state: &Tensor) -> Result<()> {
        // SAFETY: `state` is a live tensor; libtorch checks its type and size.
        Ok(unsafe { bridge::rng_set_state(&self.0, address(state)) }?)
    }

    /// Fills `x` in place with N(mean, std^2), without recording a graph.
    pub fn normal(&self, x: &Tensor, mean: f64, std: f64) -> Result<()> {
        // SAFETY: `x` is a live tensor.
        Ok(unsafe { bridge::rng_normal(&self.0, address(x), mean, std) }?)
    }

    /// Fills `x` in place with U(low, high), without recording a graph.
    pub fn uniform(&self, x: &Tensor, low: f64, high: f64) -> Result<()> {
        // SAFETY: `x` is a live tensor.
        Ok(unsafe { bridge::rng_uniform(&self.0, address(x), low, high) }?)
    }
}
