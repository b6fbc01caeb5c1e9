//! Where a loader's threads put batches together.
use heterodyne_nn::{Result, shim::upload};
use tch::{Kind, Tensor};

/// Where batches are put together.
pub trait Memory: Send + Sync {
    /// `length` zero bytes on the CPU, uint8 (length).
    ///
    /// # Errors
    /// There is not so much memory.
    fn bytes(&self, length: usize) -> Result<Tensor>;
}

/// Ordinary memory, or memory from which a GPU copies without making the host wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// Whether a GPU copies from it directly; needs CUDA.
    pub pinned: bool,
}

impl Memory for HostMemory {
    fn bytes(&self, length: usize) -> Result<Tensor> {
        Ok(upload::bytes(length, self.pinned)?)
    }
}

/// int64 numbers in `memory`.
pub(crate) fn integers(numbers: &[i64], memory: &dyn Memory) -> Result<Tensor> {
    let mut out = memory.bytes(size_of_val(numbers))?;
    for (place, number) in upload::bytes_mut(&mut out)?.chunks_exact_mut(size_of::<i64>()).zip(numbers) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    Ok(out.f_view_dtype(Kind::Int64)?)
}
