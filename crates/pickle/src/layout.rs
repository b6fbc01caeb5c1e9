//! The layout of a tensor's elements in its storage: read from the arguments of the function that would rebuild it, and
//! checked.
use crate::{
    Dtype,
    pickle::{Arena, Id, Node, Pickle, View},
};

/// Maximum number of dimensions, more than PyTorch's own operators take.
const RANK: usize = 64;

/// Type, shape and position of a tensor; all its elements are inside the storage.
#[derive(Debug)]
pub struct Layout {
    /// The storage's index in the pickle.
    pub storage: usize,
    /// The elements' type.
    pub dtype: Dtype,
    /// Sizes of the dimensions; their product, without zeros, fits into a `usize`.
    pub shape: Vec<usize>,
    /// Number of elements from one index of a dimension to the next.
    pub strides: Vec<usize>,
    /// Byte offset of the first element in the storage.
    pub start: usize,
    /// Bytes of the tensor without gaps.
    pub bytes: u64,
}

impl Layout {
    /// The layout of a tensor in the pickle; the error says what is wrong with it.
    pub fn of(pickle: &Pickle, tensor: Id) -> Result<Self, String> {
        let arena = &pickle.arena;
        let (args, typed) = match arena.node(tensor) {
            Node::Tensor { args, typed } => (*args, *typed),
            Node::Foreign { function } => return Err(foreign(arena.global(*function).unwrap_or_default())),
            _ => return Err("it is not a tensor".into()),
        };
        // storage, offset, size, stride, requires_grad, hooks, then the dtype if typed, then metadata.
        let Some(&[storage, offset, size, stride, ref rest @ ..]) = arena.sequence(args) else {
            return Err("it is rebuilt from too few values".into());
        };
        let Node::Storage(view) = *arena.node(storage) else { return Err("its storage is not in the file".into()) };
        let dtype = if typed {
            let named = rest.get(2).and_then(|&dtype| arena.global(dtype)).unwrap_or_default();
            Dtype::named(named.strip_prefix("torch.").unwrap_or_default()).ok_or_else(|| unsupported(named))?
        } else {
            let kind = pickle.storages[view.storage].kind;
            kind.dtype.ok_or_else(|| unsupported(kind.name))?
        };
        let flags = rest.get(if typed { 3 } else { 2 });
        if flags.is_some_and(|&flags| arena.entries(flags).next().is_some()) {
            return Err(
                "it is a conjugate or negative view; save a copy (`.resolve_conj().resolve_neg().clone()`)".into()
            );
        }
        let offset = arena.size(offset).ok_or("its offset is not a count of elements")?;
        let shape = sizes(arena, size).ok_or("its shape is not a list of sizes")?;
        let strides = sizes(arena, stride).ok_or("its strides are not a list of counts")?;
        Self::new(dtype, shape, strides, offset, view)
    }

    fn new(dtype: Dtype, shape: Vec<usize>, strides: Vec<usize>, offset: u64, view: View) -> Result<Self, String> {
        if shape.len() != strides.len() {
            return Err(format!("it has {} dimensions and {} strides", shape.len(), strides.len()));
        }
        let width = dtype.size() as u64;
        let count = shape.iter().try_fold(1u64, |count, &size| count.checked_mul(size.max(1) as u64));
        let count = count.filter(|count| count.checked_mul(width).is_some_and(|bytes| usize::try_from(bytes).is_ok()));
        let count = count.ok_or_else(|| format!("its shape {shape:?} has too many elements"))?;
        if shape.contains(&0) {
            return Ok(Self { storage: view.storage, dtype, shape, strides, start: 0, bytes: 0 });
        }
        let farthest = shape.iter().zip(&strides).try_fold(offset, |last, (&size, &stride)| {
            let reach = (size as u64 - 1).checked_mul(stride as u64)?;
            last.checked_add(reach)
        });
        if farthest.is_none_or(|last| last >= view.bytes / width) {
            let held = view.bytes / width;
            return Err(format!(
                "shape {shape:?} with strides {strides:?} from element {offset} exceeds its storage of {held} \
                 elements"
            ));
        }
        // Less than the storage's size, by the check above.
        let start =
            usize::try_from(view.start + offset * width).map_err(|_| "its storage exceeds this machine's memory")?;
        Ok(Self { storage: view.storage, dtype, shape, strides, start, bytes: count * width })
    }
}

/// A tuple of sizes.
fn sizes(arena: &Arena, id: Id) -> Option<Vec<usize>> {
    let items = arena.sequence(id).filter(|items| items.len() <= RANK)?;
    items.iter().map(|&item| arena.size(item).and_then(|size| usize::try_from(size).ok())).collect()
}

/// Functions that rebuild tensors that are not strided, and the kinds of those tensors.
const FOREIGN: [(&str, &str); 5] = [
    ("_rebuild_qtensor", "quantised; save `tensor.dequantize()`"),
    ("_rebuild_sparse_tensor", "sparse; save `tensor.to_dense()`"),
    ("_rebuild_sparse_csr_tensor", "sparse; save `tensor.to_dense()`"),
    ("_rebuild_meta_tensor_no_storage", "on the device `meta`: the file has its shape, not its values"),
    ("_rebuild_nested_tensor", "nested; save its parts"),
];

fn foreign(function: &str) -> String {
    let name = function.rsplit('.').next().unwrap_or_default();
    match FOREIGN.iter().find(|(known, _)| *known == name) {
        Some((_, what)) => format!("it is {what}"),
        None => {
            format!("this kind of tensor is not supported (`{name:.80}`); save it as an ordinary tensor on the CPU")
        }
    }
}

fn unsupported(dtype: &str) -> String {
    format!("its type `{dtype:.80}` is not supported; convert it before saving (`tensor.float()`)")
}
