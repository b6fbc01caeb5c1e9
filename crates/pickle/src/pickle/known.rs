//! PyTorch's and Python's own names: what they stand for where they are called.
use std::io::{Read, Seek};

use super::{
    arena::{Arena, Id, Node},
    machine::Machine,
};
use crate::{Dtype, Fault, error::damaged};

/// A class of storages.
#[derive(Debug, PartialEq, Eq)]
pub struct StorageType {
    /// Its name in `torch`.
    pub name: &'static str,
    /// Bytes of an element.
    pub size: u64,
    /// The elements' type, where it is one of ours.
    pub dtype: Option<Dtype>,
}

/// PyTorch adds no more of these: newer dtypes lie in an `UntypedStorage` and are named by the tensor.
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

/// A part of a storage, in bytes; nearly always the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The storage's index in the pickle.
    pub storage: usize,
    /// Where the part begins.
    pub start: u64,
    /// Its size.
    pub bytes: u64,
}

impl Storage {
    /// The storage of a class and a number of elements, as a persistent id names them.
    pub fn new(arena: &Arena, class: Id, count: Id) -> Result<Self, Fault> {
        let Some(class) = arena.global(class) else { return damaged("a storage whose type is no class") };
        let name = class.rsplit('.').next().unwrap_or_default();
        let kind = STORAGE_TYPES.iter().find(|kind| kind.name == name && class.starts_with("torch."));
        let Some(kind) = kind else { return damaged(format!("a storage of the unknown type `{class:.80}`")) };
        let bytes = arena.size(count).and_then(|count| count.checked_mul(kind.size));
        let Some(bytes) = bytes else { return damaged("a storage whose size is no count of elements") };
        Ok(Self { kind, bytes })
    }

    /// Start and size in bytes of the part that old files name beside the storage: (key, first element, elements), or
    /// `None` for all.
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
            _ => damaged("a part of a storage that does not lie in it"),
        }
    }
}

/// The value of a call, where the function is known; otherwise the caller makes an object of it that is not understood.
pub(super) fn call<R: Read + Seek>(
    machine: &mut Machine<R>,
    mut function: Id,
    mut args: Id,
) -> Result<Option<Id>, Fault> {
    loop {
        // Arguments in a list may name themselves: a circle ends when the steps do.
        machine.count(1)?;
        let arena = &machine.arena;
        let (Some(name), Some(values)) = (arena.global(function), arena.sequence(args)) else { return Ok(None) };
        let first = values.first().copied();
        let node = match name {
            // A tensor with attributes, or of a subclass: (function, class, arguments, state).
            "torch._tensor._rebuild_from_type_v2" => {
                let &[inner, _, inner_args, ..] = values else { return Ok(None) };
                (function, args) = (inner, inner_args);
                continue;
            }
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => Node::Tensor { args, typed: false },
            "torch._utils._rebuild_tensor_v3" => Node::Tensor { args, typed: true },
            // The last two are how PyTorch before 0.4 wrote parameters and variables.
            "torch._utils._rebuild_parameter"
            | "torch._utils._rebuild_parameter_with_state"
            | "torch.nn.parameter.Parameter"
            | "torch.autograd.variable.Variable" => {
                return Ok(first.filter(|&data| matches!(arena.node(data), Node::Tensor { .. } | Node::Foreign { .. })));
            }
            _ if name.starts_with("torch._utils._rebuild_") => Node::Foreign { function },
            "collections.OrderedDict" | "builtins.dict" | "__builtin__.dict" => match pairs(machine, first)? {
                Some(pairs) => Node::Dict(pairs),
                None => return Ok(None),
            },
            "collections.defaultdict" => Node::Dict(Vec::new()),
            "torch.Size" | "builtins.tuple" | "__builtin__.tuple" => Node::Tuple(elements(machine, first)?.into()),
            "builtins.list" | "__builtin__.list" => Node::List(elements(machine, first)?),
            "builtins.set" | "__builtin__.set" | "builtins.frozenset" | "__builtin__.frozenset" => {
                Node::Set(elements(machine, first)?)
            }
            _ => return Ok(None),
        };
        return machine.arena.add(node).map(Some);
    }
}

/// A copy of a list's or set's elements.
fn elements<R: Read + Seek>(machine: &mut Machine<R>, from: Option<Id>) -> Result<Vec<Id>, Fault> {
    let items = match from.map(|from| machine.arena.node(from)) {
        Some(Node::List(items) | Node::Set(items)) => &items[..],
        Some(Node::Tuple(items)) => items,
        _ => &[],
    };
    let items = items.to_vec();
    machine.count(items.len() as u64)?;
    Ok(items)
}

/// A copy of a dictionary's pairs; Python 2 wrote them as a list of lists.
fn pairs<R: Read + Seek>(machine: &mut Machine<R>, from: Option<Id>) -> Result<Option<Vec<(Id, Id)>>, Fault> {
    let arena = &machine.arena;
    let pairs = match from {
        None => Some(Vec::new()),
        Some(from) => match arena.node(from) {
            Node::Dict(items) => Some(items.clone()),
            _ => arena.sequence(from).and_then(|items| {
                let pair = |&item| match arena.sequence(item) {
                    Some(&[key, value]) => Some((key, value)),
                    _ => None,
                };
                items.iter().map(pair).collect()
            }),
        },
    };
    machine.count(pairs.as_ref().map_or(0, Vec::len) as u64)?;
    Ok(pairs)
}
