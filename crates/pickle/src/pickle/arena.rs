//! The values of a pickle: nodes that refer to each other by index. Sharing and cycles cost nothing, and dropping never
//! recurses.
use crate::{Fault, Result};

/// Maximum number of nodes in a pickle. A checkpoint with a thousand tensors has about ten thousand.
const NODES: usize = 1 << 23;

/// The index of a node in the [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(u32);

/// A value.
#[derive(Debug)]
pub enum Node {
    /// `None`.
    None,
    /// `True` or `False`, distinguished by their index.
    Bool,
    /// An integer of at most 64 bits.
    Int(i64),
    /// A longer integer: two's complement, little-endian.
    Long(Box<[u8]>),
    /// A value that no tensor needs: a float.
    Other,
    /// Bytes, or text that is not UTF-8: their position in the source of the pickle.
    Bytes { start: u64, size: u64 },
    /// Text.
    Str(Box<str>),
    /// A tuple.
    Tuple(Box<[Id]>),
    /// A list.
    List(Vec<Id>),
    /// A set or frozenset.
    Set(Vec<Id>),
    /// A dictionary, ordered or not, in the order of insertion. If a key occurs twice, the last value counts.
    Dict(Vec<(Id, Id)>),
    /// A class or function by name: `module.name`.
    Global(Box<str>),
    /// An object of an unknown class.
    Object(Box<Object>),
    /// A (part of a) storage.
    Storage(View),
    /// A strided tensor: the arguments of the function that rebuilds it. `typed` if they name the dtype
    /// (`_rebuild_tensor_v3`).
    Tensor { args: Id, typed: bool },
    /// A tensor of another kind (sparse, quantised, …): the function that rebuilds it.
    Foreign { function: Id },
}

/// A part of a storage, in bytes; nearly always the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The storage's index in the pickle.
    pub storage: usize,
    /// The start of the part.
    pub start: u64,
    /// Its size.
    pub bytes: u64,
}

/// An object that is not interpreted.
#[derive(Debug)]
pub struct Object {
    /// The function that was called to make it, usually a class.
    pub class: Id,
    /// The arguments of that call.
    pub args: Id,
    /// Its entries as a dictionary.
    pub items: Vec<(Id, Id)>,
    /// The argument of `__setstate__`, usually the dictionary of its attributes.
    pub state: Option<Id>,
}

/// All nodes of a pickle.
#[derive(Debug)]
pub struct Arena(Vec<Node>);

impl Arena {
    /// `None`, shared.
    pub const NONE: Id = Id(0);
    /// `True`, shared.
    pub const TRUE: Id = Id(1);
    /// `False`, shared.
    pub const FALSE: Id = Id(2);
    /// [`Node::Other`], shared.
    pub const OTHER: Id = Id(3);

    /// An arena with only its shared nodes.
    pub fn new() -> Self {
        Self(vec![Node::None, Node::Bool, Node::Bool, Node::Other])
    }

    /// Adds a node.
    pub fn add(&mut self, node: Node) -> Result<Id, Fault> {
        if self.0.len() == NODES {
            return Err(Fault::Limit(format!("its pickle holds more than {NODES} objects; save only the weights")));
        }
        self.0.push(node);
        Ok(Id((self.0.len() - 1) as u32))
    }

    /// A node.
    pub fn node(&self, id: Id) -> &Node {
        &self.0[id.0 as usize]
    }

    /// A mutable node.
    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.0[id.0 as usize]
    }

    /// The text, if the node is text.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The name of a class or function, if the node is one.
    pub fn global(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Global(name) => Some(name),
            _ => None,
        }
    }

    /// The elements of a tuple or a list.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(items) => Some(items),
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// An integer that is not negative: a size, an offset.
    pub fn size(&self, id: Id) -> Option<u64> {
        match self.node(id) {
            Node::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// Keys and values of a dictionary; for an object, its entries as a dictionary, then its attributes.
    pub fn entries(&self, id: Id) -> impl Iterator<Item = (Id, Id)> {
        let mut parts: [&[(Id, Id)]; 3] = [&[]; 3];
        match self.node(id) {
            Node::Dict(items) => parts[0] = items,
            Node::Object(object) => {
                parts[0] = &object.items;
                match object.state.map(|state| self.node(state)) {
                    Some(Node::Dict(attributes)) => parts[1] = attributes,
                    // A class with slots: the attributes in a dictionary, then those in slots.
                    Some(Node::Tuple(pair)) if pair.len() == 2 => {
                        for (part, &half) in parts[1..].iter_mut().zip(pair) {
                            if let Node::Dict(attributes) = self.node(half) {
                                *part = attributes;
                            }
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        parts.into_iter().flatten().copied()
    }

    /// The value of a text key among the [entries](Self::entries).
    pub fn entry(&self, id: Id, key: &str) -> Option<Id> {
        self.entries(id).filter(|(k, _)| self.text(*k) == Some(key)).last().map(|(_, value)| value)
    }
}
