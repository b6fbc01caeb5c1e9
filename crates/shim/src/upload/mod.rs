//! The way of a batch to a GPU: memory that the GPU reads directly, and a stream for copies while it computes.
mod ffi;

use cxx::UniquePtr;
use tch::{Device, Kind, Tensor};

use crate::{Error, Result, address, take};
use ffi::bridge;

/// Copies tensors to a device; belongs to the thread that made it.
pub struct Upload(Option<UniquePtr<bridge::Upload>>);

impl Upload {
    /// A way to `device`. On a CPU there is nothing to copy, nor for a tensor that is on the device.
    ///
    /// # Errors
    /// CUDA has no stream left.
    pub fn to(device: Device) -> Result<Self> {
        Ok(Self(device.is_cuda().then(bridge::begin).transpose()?))
    }

    /// `x` on the device. Operations that are issued later on this thread wait for the copy; the host waits only if `x`
    /// is not in pinned memory.
    ///
    /// # Errors
    /// The device's memory is full.
    pub fn copy(&self, x: &Tensor) -> Result<Tensor> {
        match &self.0 {
            // SAFETY: the address is that of a live tensor.
            Some(upload) if x.device() == Device::Cpu => Ok(take(unsafe { upload.copy(address(x)) }?)),
            _ => Ok(x.shallow_clone()),
        }
    }
}

/// `length` zero bytes on the CPU, uint8 (length). A GPU copies from `pinned` memory without waiting of the host.
///
/// # Errors
/// There is not so much memory, or no CUDA for pinned memory.
pub fn bytes(length: usize, pinned: bool) -> Result<Tensor> {
    Ok(take(bridge::bytes(length, pinned)?))
}

/// The elements of a contiguous uint8 tensor on the CPU. No other handle of the tensor may be in use meanwhile, as with
/// any operation in place.
///
/// # Errors
/// The tensor is of another kind.
pub fn bytes_mut(t: &mut Tensor) -> Result<&mut [u8]> {
    if t.kind() != Kind::Uint8 || t.device() != Device::Cpu || !t.is_contiguous() {
        return Err(Error(format!("bytes of a {:?} tensor on {:?} cannot be written", t.kind(), t.device())));
    }
    // SAFETY: a contiguous uint8 tensor has `numel` initialised bytes there, as long as it lives; the borrow keeps it.
    Ok(unsafe { std::slice::from_raw_parts_mut(t.data_ptr().cast::<u8>(), t.numel()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_zero_and_can_be_written() {
        let mut t = bytes(3, false).unwrap();
        assert_eq!(Vec::<u8>::try_from(&t).unwrap(), [0; 3]);
        bytes_mut(&mut t).unwrap().copy_from_slice(&[1, 2, 3]);
        assert_eq!(Vec::<u8>::try_from(&t).unwrap(), [1, 2, 3]);
        assert!(
            bytes_mut(&mut t.to_kind(Kind::Float)).is_err()
                && bytes_mut(&mut t.view([3, 1]).expand([3, 2], false)).is_err()
        );
        assert!(bytes_mut(&mut bytes(0, false).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn on_a_cpu_nothing_is_copied() {
        let t = bytes(4, false).unwrap();
        assert_eq!(Upload::to(Device::Cpu).unwrap().copy(&t).unwrap().data_ptr(), t.data_ptr());
    }

    #[test]
    fn a_gpu_gets_what_was_in_pinned_memory() {
        if crate::load_cuda().is_err() {
            println!("skipped: this machine has no GPU");
            return;
        }
        let upload = Upload::to(Device::Cuda(0)).unwrap();
        for round in 0..50u8 {
            let mut t = bytes(1 << 20, true).unwrap();
            bytes_mut(&mut t).unwrap().fill(round);
            let sum = upload.copy(&t).unwrap().sum(Kind::Int64);
            drop(t);
            assert_eq!(sum.int64_value(&[]), i64::from(round) << 20);
        }
    }
}
