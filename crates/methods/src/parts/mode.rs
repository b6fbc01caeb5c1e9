//! The mode in which the parts of a loss run: autocast, precision and batch statistics, decided in one place.
use heterodyne_nn::{
    Result,
    shim::{Autocast, autocast_enabled, grad_enabled},
};
use tch::{Device, Kind, Tensor};

/// Switches autocast off until the guard is dropped; call it before the loss arithmetic.
pub fn autocast_off(device: Device) -> Result<Autocast> {
    Ok(Autocast::new(device, false)?)
}

/// `x` in float32, or unchanged if it is float64; without a copy if nothing changes.
pub fn float(x: &Tensor) -> Tensor {
    x.to_kind(if x.kind() == Kind::Double { Kind::Double } else { Kind::Float })
}

/// `x` as input to a learnable part with parameters of `kind`: unchanged under autocast, which picks the kind of each
/// operation, and converted to `kind` otherwise.
pub fn part_input(x: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(if autocast_enabled(x.device())? { x.shallow_clone() } else { x.to_kind(kind) })
}

/// Whether batch norms use batch statistics, which they do while a graph is recorded.
#[must_use]
pub fn training() -> bool {
    grad_enabled()
}
