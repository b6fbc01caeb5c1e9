use std::cell::{Ref, RefCell};

use heterodyne_shim::{self as shim, autocast_enabled, cpu::fast_bf16, grad_enabled, packed};
use tch::{Device, Kind, Tensor};

/// What a layer keeps of parameters that are not trained: a form of them that is faster to compute with. It is made at
/// the first pass that records no graph, and again after a write to a parameter and where another precision is wanted.
#[derive(Debug)]
pub struct Frozen<T>(RefCell<Option<Kept<T>>>);

#[derive(Debug)]
struct Kept<T> {
    key: Key,
    value: T,
}

/// What the kept form was made from.
#[derive(Debug, PartialEq)]
struct Key {
    kind: Kind,
    /// Place in memory and number of writes of each parameter.
    parameters: Vec<(usize, u64)>,
}

impl<T> Default for Frozen<T> {
    fn default() -> Self {
        Self(RefCell::new(None))
    }
}

impl<T> Frozen<T> {
    /// The form that `pack` makes of `parameters` to compute in a kind; `None` where the layer is to run as it is,
    /// because a graph is recorded, a parameter is trained or is not float32.
    ///
    /// # Panics
    /// Where libtorch fails, as tch's operators do.
    pub fn get(&self, parameters: &[&Tensor], pack: impl FnOnce(Kind) -> shim::Result<T>) -> Option<Ref<'_, T>> {
        if grad_enabled()
            || shim::flops::plain()
            || parameters.iter().any(|p| p.requires_grad() || p.kind() != Kind::Float)
        {
            return None;
        }
        let key = sure(Key::new(parameters));
        if self.0.borrow().as_ref().is_none_or(|kept| kept.key != key) {
            // The old form goes before the new one is made.
            *self.0.borrow_mut() = None;
            let value = sure(pack(key.kind));
            *self.0.borrow_mut() = Some(Kept { key, value });
        }
        Ref::filter_map(self.0.borrow(), |kept| kept.as_ref().map(|kept| &kept.value)).ok()
    }

    /// Drops the form after a write that libtorch does not count: that of a batch norm to its running statistics.
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

/// bfloat16 under autocast, unless float32 is the faster of both.
fn kind(device: Device) -> shim::Result<Kind> {
    Ok(if autocast_enabled(device)? && fast_bf16(device) { Kind::BFloat16 } else { Kind::Float })
}

/// The result of an operation that fails as tch's operators do: with a panic that [`crate::catch`] turns into an error.
pub(super) fn sure<T>(result: shim::Result<T>) -> T {
    result.unwrap_or_else(|e| panic!("{e}"))
}
