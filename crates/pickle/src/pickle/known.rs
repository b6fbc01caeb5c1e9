//! PyTorch's and Python's own names: the values of calls to them.
use super::{
    arena::{Arena, Id, Node},
    steps::Steps,
};
use crate::Fault;

/// The value of a call, if the function is known; otherwise the caller makes an uninterpreted object of it.
pub(super) fn call(arena: &mut Arena, steps: &mut Steps, mut function: Id, mut args: Id) -> Result<Option<Id>, Fault> {
    loop {
        // Arguments in a list may refer to themselves; the limit on steps ends such a cycle.
        steps.count(1)?;
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
            "collections.OrderedDict" | "builtins.dict" | "__builtin__.dict" => match pairs(arena, steps, first)? {
                Some(pairs) => Node::Dict(pairs),
                None => return Ok(None),
            },
            "collections.defaultdict" => Node::Dict(Vec::new()),
            "torch.Size" | "builtins.tuple" | "__builtin__.tuple" => Node::Tuple(elements(arena, steps, first)?.into()),
            "builtins.list" | "__builtin__.list" => Node::List(elements(arena, steps, first)?),
            "builtins.set" | "__builtin__.set" | "builtins.frozenset" | "__builtin__.frozenset" => {
                Node::Set(elements(arena, steps, first)?)
            }
            _ => return Ok(None),
        };
        return arena.add(node).map(Some);
    }
}

/// A copy of a list's or set's elements.
fn elements(arena: &Arena, steps: &mut Steps, from: Option<Id>) -> Result<Vec<Id>, Fault> {
    let items = match from.map(|from| arena.node(from)) {
        Some(Node::List(items) | Node::Set(items)) => &items[..],
        Some(Node::Tuple(items)) => items,
        _ => &[],
    };
    let items = items.to_vec();
    steps.count(items.len() as u64)?;
    Ok(items)
}

/// A copy of a dictionary's pairs; Python 2 wrote them as a list of lists.
fn pairs(arena: &Arena, steps: &mut Steps, from: Option<Id>) -> Result<Option<Vec<(Id, Id)>>, Fault> {
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
    steps.count(pairs.as_ref().map_or(0, Vec::len) as u64)?;
    Ok(pairs)
}
