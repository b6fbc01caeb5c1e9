use std::cell::{Ref, RefCell};

use heterodyne_shim::{self as shim, autocast_format, cpu::fast_bf16, grad_enabled, packed};
use tch::{Device, Kind, Tensor};

/// A layer's cached form of frozen parameters that is faster to compute with. It is made in the first pass that records
/// no graph, and again after a write to a parameter or a change of precision.
#[derive(Debug)]
pub struct Frozen<T>(RefCell<Option<Kept<T>>>);

#[derive(Debug)]
struct Kept<T> {
    key: Key,
    value: T,
}

/// What the cached form was made from.
#[derive(Debug, PartialEq)]
struct Key {
    kind: Kind,
    /// Address and number of writes of each parameter.
    parameters: Vec<(usize, u64)>,
}

impl<T> Default for Frozen<T> {
    fn default() -> Self {
        Self(RefCell::new(None))
    }
}

impl<T> Frozen<T> {
    /// The form that `pack` makes of `parameters` to compute in a kind. `None` if the layer must run as it is: a graph
    /// is recorded, or a parameter is trained or not float32.
    ///
    /// # Panics
    /// If libtorch fails, as tch's operators do.
    pub fn get(&self, parameters: &[&Tensor], pack: impl FnOnce(Kind) -> shim::Result<T>) -> Option<Ref<'_, T>> {
        if grad_enabled()
            || shim::flops::plain()
            || parameters.iter().any(|p| p.requires_grad() || p.kind() != Kind::Float)
        {
            return None;
        }
        let key = sure(Key::new(parameters));
        if self.0.borrow().as_ref().is_none_or(|kept| kept.key != key) {
            // Free the old form before making the new one.
            *self.0.borrow_mut() = None;
            let value = sure(pack(key.kind));
            *self.0.borrow_mut() = Some(Kept { key, value });
        }
        Ref::filter_map(self.0.borrow(), |kept| kept.as_ref().map(|kept| &kept.value)).ok()
    }

    /// Drops the form after a write that libtorch does not count: a batch norm's update of its running statistics.
    pub fn forget(&self) {
        *self.0.borrow_mut() = None;
    }
}

impl Key {
    fn new(parameters: &[&Tensor]) -> shim::Result<Self> {
        let place = |p: &&Tensor| Ok((p.data_ptr() as usize, packed::version(p)?));
        let device = parameters.first().map_or(Device::Cpu, |p| p.device());
        Ok(Self { kind: kind(device)?, parameters: parameters.iter().map(place).collect::<shim::Result<_>>()? })
    }
}

/// bfloat16 under autocast to it, unless float32 is faster.
fn kind(device: Device) -> shim::Result<Kind> {
    let rounded = autocast_format(device)? == Some(Kind::BFloat16) && fast_bf16(device);
    Ok(if rounded { Kind::BFloat16 } else { Kind::Float })
}

/// Unwraps a result as tch's operators do: with a panic that [`crate::catch`] turns into an error.
pub(super) fn sure<T>(result: shim::Result<T>) -> T {
    result.unwrap_or_else(|e| panic!("{e}"))
}
