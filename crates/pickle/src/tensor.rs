//! Tensors as stored: a type, a shape, and the position of each element in a block of bytes.
use std::{borrow::Cow, fmt, sync::Arc};

use crate::layout::Layout;

/// The supported element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// 16-bit integer.
    I16,
    /// 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    const NAMES: [(Self, &'static str); 10] = [
        (Self::F32, "float32"),
        (Self::F64, "float64"),
        (Self::F16, "float16"),
        (Self::BF16, "bfloat16"),
        (Self::I64, "int64"),
        (Self::I32, "int32"),
        (Self::I16, "int16"),
        (Self::I8, "int8"),
        (Self::U8, "uint8"),
        (Self::Bool, "bool"),
    ];

    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The type with PyTorch's name `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(dtype, _)| *dtype)
    }
}

impl fmt::Display for Dtype {
    /// PyTorch's name.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(dtype, _)| dtype == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// A tensor; its bytes may be shared with others of its [`Section`](crate::Section).
#[derive(Clone)]
pub struct Stored {
    /// The elements' type.
    pub dtype: Dtype,
    /// Sizes of the dimensions; none for a scalar.
    pub shape: Vec<usize>,
    /// Number of elements from one index of a dimension to the next.
    strides: Vec<usize>,
    /// Byte offset of the first element in `storage`.
    start: usize,
    storage: Arc<Vec<u8>>,
}

impl Stored {
    /// A tensor with this layout over its storage, which must contain all its bytes.
    pub(crate) fn new(layout: Layout, storage: Arc<Vec<u8>>) -> Self {
        let Layout { dtype, shape, strides, start, .. } = layout;
        Self { dtype, shape, strides, start, storage }
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements in row-major order, each little-endian. Borrowed if the file stores them in this order, gathered
    /// otherwise (channels-last, transposed and expanded weights).
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        if self.numel() == 0 {
            return Cow::Borrowed(&[]);
        }
        let bytes = &self.storage[self.start..];
        if self.is_contiguous() {
            return Cow::Borrowed(&bytes[..self.numel() * self.dtype.size()]);
        }
        Cow::Owned(match self.dtype.size() {
            8 => self.gather::<8>(bytes),
            4 => self.gather::<4>(bytes),
            2 => self.gather::<2>(bytes),
            _ => self.gather::<1>(bytes),
        })
    }

    /// Whether the elements are in row-major order without gaps. The stride of a dimension of size 1 is arbitrary.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected *= size;
            fits
        })
    }

    /// Elements of `N` bytes in row-major order. Not for scalars and empty tensors.
    fn gather<const N: usize>(&self, bytes: &[u8]) -> Vec<u8> {
        let (elements, _) = bytes.as_chunks::<N>();
        let (Some((&row, outer)), Some((&step, strides))) = (self.shape.split_last(), self.strides.split_last()) else {
            return Vec::new();
        };
        let mut gathered = Vec::with_capacity(self.numel());
        let mut index = vec![0; outer.len()];
        loop {
            let first: usize = index.iter().zip(strides).map(|(i, stride)| i * stride).sum();
            gathered.extend((0..row).map(|i| elements[first + i * step]));
            // The next row: the last dimension that is not at its end advances, those after it restart.
            let Some(turning) = (0..outer.len()).rev().find(|&d| index[d] + 1 < outer[d]) else {
                return gathered.into_flattened();
            };
            index[turning] += 1;
            index[turning + 1..].fill(0);
        }
    }
}

impl fmt::Debug for Stored {
    /// Type and shape, without the bytes.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}
