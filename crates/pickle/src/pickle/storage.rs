//! Storages: the blocks of memory that tensors share.
use super::arena::{Arena, Id, Node};
use crate::{Dtype, Fault, error::damaged};

/// A class of storages.
#[derive(Debug, PartialEq, Eq)]
pub struct StorageType {
    /// Its name in `torch`.
    pub name: &'static str,
    /// Bytes of an element.
    pub size: u64,
    /// The elements' type, if it is supported.
    pub dtype: Option<Dtype>,
}

/// PyTorch adds no more of these: newer dtypes use an `UntypedStorage`, and the tensor names the type.
static STORAGE_TYPES: [StorageType; 18] = [
    StorageType { name: "FloatStorage", size: 4, dtype: Some(Dtype::F32) },
    StorageType { name: "DoubleStorage", size: 8, dtype: Some(Dtype::F64) },
    StorageType { name: "HalfStorage", size: 2, dtype: Some(Dtype::F16) },
    StorageType { name: "BFloat16Storage", size: 2, dtype: Some(Dtype::BF16) },
    StorageType { name: "LongStorage", size: 8, dtype: Some(Dtype::I64) },
    StorageType { name: "IntStorage", size: 4, dtype: Some(Dtype::I32) },
    StorageType { name: "ShortStorage", size: 2, dtype: Some(Dtype::I16) },
    StorageType { name: "CharStorage", size: 1, dtype: Some(Dtype::I8) },
    StorageType { name: "ByteStorage", size: 1, dtype: Some(Dtype::U8) },
    StorageType { name: "BoolStorage", size: 1, dtype: Some(Dtype::Bool) },
    StorageType { name: "UntypedStorage", size: 1, dtype: Some(Dtype::U8) },
    StorageType { name: "ComplexFloatStorage", size: 8, dtype: None },
    StorageType { name: "ComplexDoubleStorage", size: 16, dtype: None },
    StorageType { name: "QInt8Storage", size: 1, dtype: None },
    StorageType { name: "QUInt8Storage", size: 1, dtype: None },
    StorageType { name: "QInt32Storage", size: 4, dtype: None },
    StorageType { name: "QUInt4x2Storage", size: 1, dtype: None },
    StorageType { name: "QUInt2x4Storage", size: 1, dtype: None },
];

/// A block of memory that tensors share.
#[derive(Debug, PartialEq, Eq)]
pub struct Storage {
    /// Its class.
    pub kind: &'static StorageType,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Storage {
    /// The storage with the class and number of elements of a persistent id.
    pub fn new(arena: &Arena, class: Id, count: Id) -> Result<Self, Fault> {
        let Some(class) = arena.global(class) else { return damaged("a storage whose type is not a class") };
        let name = class.rsplit('.').next().unwrap_or_default();
        let kind = STORAGE_TYPES.iter().find(|kind| kind.name == name && class.starts_with("torch."));
        let Some(kind) = kind else { return damaged(format!("a storage of the unknown type `{class:.80}`")) };
        let bytes = arena.size(count).and_then(|count| count.checked_mul(kind.size));
        let Some(bytes) = bytes else { return damaged("a storage whose size is not a count of elements") };
        Ok(Self { kind, bytes })
    }

    /// Start and size in bytes of the part that old files give with the storage: (key, first element, elements), or
    /// `None` for the whole.
    pub fn part(&self, arena: &Arena, view: Id) -> Result<(u64, u64), Fault> {
        if matches!(arena.node(view), Node::None) {
            return Ok((0, self.bytes));
        }
        let part = match arena.sequence(view) {
            Some(&[_, start, count]) => arena.size(start).zip(arena.size(count)),
            _ => None,
        };
        let bytes = part
            .and_then(|(start, count)| Some((start.checked_mul(self.kind.size)?, count.checked_mul(self.kind.size)?)));
        match bytes {
            Some((start, bytes)) if start.checked_add(bytes).is_some_and(|end| end <= self.bytes) => Ok((start, bytes)),
            _ => damaged("a part of a storage that exceeds it"),
        }
    }
}
