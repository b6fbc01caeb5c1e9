//! Pickles of plain Python and NumPy values, such as the files of CIFAR, read as data.
//!
//! NumPy's forms are those of `numpy/_core/multiarray.py` and `numeric.py` (2.x; the same names below `numpy.core`
//! before): an array is `_reconstruct(..)` with the state (version, shape, dtype, Fortran order, bytes), or
//! `_frombuffer(bytes, dtype, shape, order)`.
use std::{io::BufReader, path::Path};

use crate::{
    Fault, Result,
    budget::Budget,
    error::damaged,
    file::Reader,
    pickle::{Arena, Id, Node, Source, load},
};

/// Functions that make bytes.
const BYTES: [&str; 4] = ["_codecs.encode", "builtins.bytes", "__builtin__.bytes", "builtins.bytearray"];

/// Maximum nesting depth of containers.
const DEPTH: usize = 32;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer of at most 64 bits.
    Integer(i64),
    /// Text; Python 2's strings if they are UTF-8.
    Text(String),
    /// Bytes, and Python 2's other strings.
    Bytes(Vec<u8>),
    /// A list or tuple.
    List(Vec<Value>),
    /// A dictionary; entries whose key is not text are omitted.
    Table(Vec<(String, Value)>),
    /// A NumPy array in C order: its type in NumPy's notation without the byte order (`u1`, `i8`, `f4`), its sizes, its
    /// bytes.
    Array {
        /// The elements' type.
        dtype: String,
        /// The sizes of the dimensions.
        shape: Vec<usize>,
        /// The elements.
        bytes: Vec<u8>,
    },
    /// Anything else.
    Other,
}

impl Value {
    /// The value of a key in a dictionary; the last one if the key occurs twice.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Table(entries) = self else { return None };
        entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The elements of a list.
    #[must_use]
    pub fn list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// Text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// An integer.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }
}

/// Reads a file with one pickle, protocol 2 to 5; nothing in it is executed.
///
/// # Errors
/// The file is not such a pickle, is damaged or truncated, or would need more memory than its size justifies.
pub fn read(path: &Path) -> Result<Value> {
    open(path).map_err(|fault| fault.at(path))
}

fn open(path: &Path) -> Result<Value, Fault> {
    let file = Reader::open(path)?;
    if file.length == 0 {
        return Err(Fault::Short("it is empty".into()));
    }
    let mut source = Source::new(BufReader::new(file.clone()), file.length);
    let pickle = load(&mut source)?;
    let budget = Budget::new(file.length);
    Plain { file, arena: pickle.arena, budget }.value(pickle.root, 0)
}

struct Plain {
    file: Reader,
    arena: Arena,
    budget: Budget,
}

impl Plain {
    fn value(&mut self, id: Id, depth: usize) -> Result<Value, Fault> {
        self.budget.spend(1)?;
        if depth > DEPTH {
            return damaged(format!("its values are nested deeper than {DEPTH}, or in a cycle"));
        }
        Ok(match self.arena.node(id) {
            Node::Int(value) => Value::Integer(*value),
            Node::Str(text) => {
                self.budget.spend(text.len() as u64)?;
                Value::Text(text.to_string())
            }
            Node::Bytes { .. } => Value::Bytes(self.bytes(id)?),
            Node::List(_) | Node::Tuple(_) => {
                let items = self.arena.sequence(id).unwrap_or_default().to_vec();
                Value::List(items.into_iter().map(|item| self.value(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            Node::Dict(entries) => {
                let mut table = Vec::new();
                for (key, value) in entries.clone() {
                    if let Some(name) = self.key(key)? {
                        table.push((name, self.value(value, depth + 1)?));
                    }
                }
                Value::Table(table)
            }
            Node::Object(_) => self.object(id)?,
            _ => Value::Other,
        })
    }

    /// The key of a dictionary's entry; Python 3 pickles those of CIFAR as bytes.
    fn key(&mut self, id: Id) -> Result<Option<String>, Fault> {
        Ok(match self.arena.node(id) {
            Node::Str(text) => Some(text.to_string()),
            Node::Bytes { .. } | Node::Object(_) => match self.bytes(id) {
                Ok(bytes) => String::from_utf8(bytes).ok(),
                Err(Fault::Damaged(_)) => None,
                Err(other) => return Err(other),
            },
            _ => None,
        })
    }

    /// The bytes of a node: bytes, a string of Python 2, or a call that makes bytes from text (Python 3 in protocol 2).
    fn bytes(&mut self, id: Id) -> Result<Vec<u8>, Fault> {
        let none = || damaged("bytes are expected, but the value is not bytes");
        match self.arena.node(id) {
            Node::Bytes { start, size } => {
                self.budget.spend(*size)?;
                let size =
                    usize::try_from(*size).or_else(|_| damaged("a length that exceeds this machine's memory"))?;
                self.file.bytes(*start, size)
            }
            Node::Str(text) => {
                self.budget.spend(text.len() as u64)?;
                Ok(text.as_bytes().to_vec())
            }
            Node::Object(object) => {
                let function = self.arena.global(object.class).unwrap_or_default();
                let args = self.arena.sequence(object.args).unwrap_or_default();
                match (function, args) {
                    // (text, "latin1"): characters are bytes.
                    ("_codecs.encode", [text, ..]) => {
                        let text = self.arena.text(*text).unwrap_or_default();
                        let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
                        self.budget.spend(text.len() as u64)?;
                        bytes.map_or_else(none, Ok)
                    }
                    ("builtins.bytes" | "__builtin__.bytes" | "builtins.bytearray", []) => Ok(Vec::new()),
                    ("builtins.bytes" | "builtins.bytearray", [inner]) if *inner != id => self.bytes(*inner),
                    _ => none(),
                }
            }
            _ => none(),
        }
    }

    /// Interprets an object: NumPy's arrays and numbers, and Python's bytes.
    fn object(&mut self, id: Id) -> Result<Value, Fault> {
        let Node::Object(object) = self.arena.node(id) else { return Ok(Value::Other) };
        let name = self.arena.global(object.class).unwrap_or_default();
        let args: Vec<Id> = self.arena.sequence(object.args).unwrap_or_default().to_vec();
        let state: Vec<Id> = object.state.and_then(|state| self.arena.sequence(state)).unwrap_or_default().to_vec();
        let last = name.strip_prefix("numpy.").map(|name| name.rsplit('.').next().unwrap_or_default());
        match (last, &args[..], &state[..]) {
            (Some("_reconstruct"), _, &[_, shape, dtype, order, data]) => {
                self.array(data, dtype, shape, order == Arena::TRUE)
            }
            (Some("_frombuffer"), &[data, dtype, shape, order], _) => {
                let fortran = self.arena.text(order) == Some("F");
                self.array(data, dtype, shape, fortran)
            }
            // One number: its type, its bytes.
            (Some("scalar"), &[dtype, data], _) => {
                let (dtype, bytes) = (self.dtype(dtype), self.bytes(data)?);
                Ok(integer(&dtype, &bytes).map_or(Value::Other, Value::Integer))
            }
            (None, ..) if BYTES.contains(&name) => self.bytes(id).map(Value::Bytes),
            _ => Ok(Value::Other),
        }
    }

    fn array(&mut self, data: Id, dtype: Id, shape: Id, fortran: bool) -> Result<Value, Fault> {
        let sizes: Option<Vec<usize>> = match self.arena.sequence(shape) {
            Some(sizes) => sizes.iter().map(|&size| usize::try_from(self.arena.size(size)?).ok()).collect(),
            None => None,
        };
        let shape = sizes.map_or_else(|| damaged("an array whose shape is not a list of sizes"), Ok)?;
        if fortran && shape.len() > 1 {
            return Ok(Value::Other);
        }
        let bytes = self.bytes(data)?;
        Ok(Value::Array { dtype: self.dtype(dtype), shape, bytes })
    }

    /// The argument of `numpy.dtype`, without the byte order.
    fn dtype(&self, id: Id) -> String {
        let Node::Object(object) = self.arena.node(id) else { return String::new() };
        let args = self.arena.sequence(object.args).unwrap_or_default();
        let name = args.first().and_then(|&name| self.arena.text(name)).unwrap_or_default();
        name.trim_start_matches(['<', '|', '=']).to_owned()
    }
}

/// A little-endian NumPy integer.
fn integer(dtype: &str, bytes: &[u8]) -> Option<i64> {
    let signed = dtype.starts_with('i');
    if !(signed || dtype.starts_with('u')) || bytes.is_empty() || bytes.len() > 8 {
        return None;
    }
    let negative = signed && bytes.last().is_some_and(|&last| last >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Some(i64::from_le_bytes(wide))
}
