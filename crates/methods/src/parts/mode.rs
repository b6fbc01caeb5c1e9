//! In which mode the parts of a loss run: autocast, precision and batch statistics, decided in this one place.
use heterodyne_nn::{
    Result,
    shim::{Autocast, autocast_enabled, grad_enabled},
};
use tch::{Device, Kind, Tensor};

/// Switches autocast off until the guard is dropped: the loss arithmetic begins here.
pub fn autocast_off(device: Device) -> Result<Autocast> {
    Ok(Autocast::new(device, false)?)
}

/// `x` in float32, or as it is where it is float64; no copy where nothing changes.
pub fn float(x: &Tensor) -> Tensor {
    x.to_kind(if x.kind() == Kind::Double { Kind::Double } else { Kind::Float })
}

/// `x` as a learnable part with parameters of `kind` takes it: as it is under autocast, which picks the kind of each
/// operation itself, and in `kind` otherwise.
pub fn part_input(x: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(if autocast_enabled(x.device())? { x.shallow_clone() } else { x.to_kind(kind) })
}

/// Whether batch norms use batch statistics: where a graph is recorded.
#[must_use]
pub fn training() -> bool {
    grad_enabled()
}
