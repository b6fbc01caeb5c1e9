//! The stack machine.
use std::{
    collections::HashMap,
    io::{Read, Seek},
};

use indexmap::IndexMap;

use super::{
    arena::{Arena, Id, Node, Object, View},
    known,
    opcode::*,
    source::Source,
    steps::Steps,
    storage::Storage,
};
use crate::{Fault, error::damaged};

/// Maximum number of memo entries in a pickle.
const MEMO: usize = 1 << 23;

/// Maximum length of a storage's key: PyTorch's are decimal numbers.
const KEY: usize = 256;

/// The newest protocol, from Python 3.8.
const PROTOCOL: u8 = 5;

/// The contents of a pickle.
#[derive(Debug)]
pub struct Pickle {
    /// Its values.
    pub arena: Arena,
    /// The outermost value.
    pub root: Id,
    /// The storages that it refers to, by their keys.
    pub storages: IndexMap<Box<str>, Storage>,
}

/// Reads one pickle, from its first opcode to its STOP.
pub fn load<R: Read + Seek>(source: &mut Source<R>) -> Result<Pickle, Fault> {
    let mut machine = Machine::new(source);
    loop {
        let at = machine.source.position();
        let [code] = machine.source.array()?;
        match machine.step(code) {
            Ok(None) => {}
            Ok(Some(root)) => return Ok(Pickle { arena: machine.arena, root, storages: machine.storages }),
            Err(Fault::Damaged(what)) => return damaged(format!("{what} (byte {at} of its pickle)")),
            Err(other) => return Err(other),
        }
    }
}

struct Machine<'a, R> {
    source: &'a mut Source<R>,
    arena: Arena,
    storages: IndexMap<Box<str>, Storage>,
    stack: Vec<Id>,
    /// Heights of the stack where a MARK was set.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    steps: Steps,
}

impl<'a, R: Read + Seek> Machine<'a, R> {
    fn new(source: &'a mut Source<R>) -> Self {
        let (arena, storages) = (Arena::new(), IndexMap::new());
        Self {
            source,
            arena,
            storages,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            steps: Steps::default(),
        }
    }

    /// Executes one opcode; the result is the pickle's value after a STOP.
    fn step(&mut self, code: u8) -> Result<Option<Id>, Fault> {
        self.steps.count(1)?;
        match code {
            PROTO => match self.source.array()? {
                [version @ ..=PROTOCOL] if version >= 2 => {}
                [version] => return damaged(format!("pickle protocol {version}; only 2 to {PROTOCOL} are supported")),
            },
            // Frames serve readers that fetch ahead.
            FRAME => {
                let size = self.long_length()?;
                if size > self.source.left() {
                    return Err(Fault::Short("a frame of its pickle continues beyond the end".into()));
                }
            }
            STOP => return self.pop().map(Some),
            MARK => self.marks.push(self.stack.len()),
            POP if self.stack.len() > self.fence() => drop(self.pop()?),
            POP | POP_MARK => drop(self.pop_mark()?),
            DUP => {
                let top = self.top()?;
                self.stack.push(top);
            }

            NONE => self.stack.push(Arena::NONE),
            NEWTRUE => self.stack.push(Arena::TRUE),
            NEWFALSE => self.stack.push(Arena::FALSE),
            BININT => {
                let value = i32::from_le_bytes(self.source.array()?);
                self.push(Node::Int(value.into()))?;
            }
            BININT1 => {
                let [value] = self.source.array()?;
                self.push(Node::Int(value.into()))?;
            }
            BININT2 => {
                let value = u16::from_le_bytes(self.source.array()?);
                self.push(Node::Int(value.into()))?;
            }
            LONG1 | LONG4 => {
                let size = if code == LONG1 { self.short_length()? } else { self.signed_length()? };
                self.long(size)?;
            }
            BINFLOAT => {
                self.source.skip(8)?;
                self.stack.push(Arena::OTHER);
            }

            SHORT_BINUNICODE | SHORT_BINSTRING => {
                let size = self.short_length()?;
                self.text(size)?;
            }
            BINUNICODE => {
                let size = self.length()?;
                self.text(size)?;
            }
            BINSTRING => {
                let size = self.signed_length()?;
                self.text(size)?;
            }
            BINUNICODE8 => {
                let size = self.long_length()?;
                self.text(size)?;
            }
            SHORT_BINBYTES => {
                let size = self.short_length()?;
                self.bytes(size)?;
            }
            BINBYTES => {
                let size = self.length()?;
                self.bytes(size)?;
            }
            BINBYTES8 | BYTEARRAY8 => {
                let size = self.long_length()?;
                self.bytes(size)?;
            }

            EMPTY_TUPLE => self.push(Node::Tuple(Box::default()))?,
            TUPLE1 | TUPLE2 | TUPLE3 => {
                let start =
                    self.stack.len().checked_sub((code - TUPLE1) as usize + 1).filter(|&start| start >= self.fence());
                let Some(start) = start else { return underflow() };
                let items = self.stack.split_off(start);
                self.push(Node::Tuple(items.into()))?;
            }
            TUPLE => {
                let items = self.pop_mark()?;
                self.push(Node::Tuple(items.into()))?;
            }
            EMPTY_LIST => self.push(Node::List(Vec::new()))?,
            EMPTY_SET => self.push(Node::Set(Vec::new()))?,
            EMPTY_DICT => self.push(Node::Dict(Vec::new()))?,
            FROZENSET => {
                let items = self.pop_mark()?;
                self.push(Node::Set(items))?;
            }
            APPEND => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            APPENDS | ADDITEMS => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            SETITEMS => {
                let items = self.pop_mark()?;
                self.set(&items)?;
            }

            BINPUT => {
                let [key] = self.source.array()?;
                self.put(key.into())?;
            }
            LONG_BINPUT => {
                let key = u32::from_le_bytes(self.source.array()?);
                self.put(key)?;
            }
            MEMOIZE => self.put(self.memo.len() as u32)?,
            BINGET => {
                let [key] = self.source.array()?;
                self.get(key.into())?;
            }
            LONG_BINGET => {
                let key = u32::from_le_bytes(self.source.array()?);
                self.get(key)?;
            }

            GLOBAL => {
                let (module, name) = (self.source.line()?, self.source.line()?);
                self.push(Node::Global(format!("{module}.{name}").into()))?;
            }
            STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.arena.text(module), self.arena.text(name)) else {
                    return damaged("a class whose name is not text");
                };
                let name = format!("{module}.{name}");
                self.steps.count(name.len() as u64)?;
                self.push(Node::Global(name.into()))?;
            }
            NEWOBJ_EX => {
                // The keyword arguments are for the class and not needed.
                self.pop()?;
                self.call()?;
            }
            REDUCE | NEWOBJ => self.call()?,
            BUILD => {
                let state = self.pop()?;
                self.build(state)?;
            }
            BINPERSID => {
                let id = self.pop()?;
                let value = self.persistent(id)?;
                self.stack.push(value);
            }
            other => return damaged(unknown(other)),
        }
        Ok(None)
    }

    fn short_length(&mut self) -> Result<u64, Fault> {
        let [size] = self.source.array()?;
        Ok(size.into())
    }

    fn length(&mut self) -> Result<u64, Fault> {
        Ok(u32::from_le_bytes(self.source.array()?).into())
    }

    fn long_length(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.source.array()?))
    }

    fn signed_length(&mut self) -> Result<u64, Fault> {
        u64::try_from(i32::from_le_bytes(self.source.array()?)).or_else(|_| damaged("a negative length"))
    }

    fn push(&mut self, node: Node) -> Result<(), Fault> {
        let id = self.arena.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    fn text(&mut self, size: u64) -> Result<(), Fault> {
        let start = self.source.position();
        match String::from_utf8(self.source.take(size)?) {
            Ok(text) => self.push(Node::Str(text.into())),
            Err(_) => self.push(Node::Bytes { start, size }),
        }
    }

    fn bytes(&mut self, size: u64) -> Result<(), Fault> {
        let start = self.source.position();
        self.source.skip(size)?;
        self.push(Node::Bytes { start, size })
    }

    fn long(&mut self, size: u64) -> Result<(), Fault> {
        let bytes = self.source.take(size)?;
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        let node = match wide.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(&bytes);
                Node::Int(i64::from_le_bytes(wide))
            }
            None => Node::Long(bytes.into()),
        };
        self.push(node)
    }

    /// Nothing below the last mark may be popped.
    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, Fault> {
        match self.stack.last() {
            Some(&top) if self.stack.len() > self.fence() => Ok(top),
            _ => underflow(),
        }
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, Fault> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => damaged("an end without its MARK"),
        }
    }

    fn put(&mut self, key: u32) -> Result<(), Fault> {
        let value = self.top()?;
        if self.memo.len() == MEMO {
            return Err(Fault::Limit(format!("its pickle keeps more than {MEMO} values; save only the weights")));
        }
        self.memo.insert(key, value);
        Ok(())
    }

    fn get(&mut self, key: u32) -> Result<(), Fault> {
        match self.memo.get(&key) {
            Some(&value) => self.stack.push(value),
            None => return damaged(format!("memo entry {key} is used before it is set")),
        }
        Ok(())
    }

    fn append(&mut self, new: &[Id]) -> Result<(), Fault> {
        let target = self.top()?;
        match self.arena.node_mut(target) {
            Node::List(items) | Node::Set(items) => items.extend(new),
            // A list of another class has no names and thus no section.
            Node::Object(_) => {}
            _ => return damaged("elements for a value that is not a list"),
        }
        Ok(())
    }

    fn set(&mut self, new: &[Id]) -> Result<(), Fault> {
        let target = self.top()?;
        let (pairs, []) = new.as_chunks() else { return damaged("a key without a value") };
        match self.arena.node_mut(target) {
            Node::Dict(items) => items.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Node::Object(object) => object.items.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return damaged("keys for a value that is not a dictionary"),
        }
        Ok(())
    }

    fn build(&mut self, state: Id) -> Result<(), Fault> {
        let target = self.top()?;
        match self.arena.node_mut(target) {
            Node::Object(object) => object.state = Some(state),
            // Attributes in addition to the contents, such as a state dict's `_metadata`.
            Node::Dict(_)
            | Node::List(_)
            | Node::Set(_)
            | Node::Tensor { .. }
            | Node::Foreign { .. }
            | Node::Other
            | Node::Bytes { .. } => {}
            _ => return damaged("a state for a value that has none"),
        }
        Ok(())
    }

    fn call(&mut self) -> Result<(), Fault> {
        let (args, function) = (self.pop()?, self.pop()?);
        if !matches!(self.arena.node(args), Node::Tuple(_)) {
            return damaged("arguments that are not a tuple");
        }
        let value = match known::call(&mut self.arena, &mut self.steps, function, args)? {
            Some(value) => value,
            None => self.arena.add(Node::Object(Box::new(Object {
                class: function,
                args,
                items: Vec::new(),
                state: None,
            })))?,
        };
        self.stack.push(value);
        Ok(())
    }

    /// The value of a persistent id: a storage; in legacy files also a class, with its source text.
    fn persistent(&mut self, id: Id) -> Result<Id, Fault> {
        let Node::Tuple(parts) = self.arena.node(id) else { return damaged("a persistent id that is not a tuple") };
        match (parts.first().and_then(|&kind| self.arena.text(kind)), &parts[..]) {
            (Some("module"), &[_, class, ..]) => Ok(class),
            (Some("storage"), &[_, class, key, _, count]) => self.storage(class, key, count, Arena::NONE),
            (Some("storage"), &[_, class, key, _, count, part]) => self.storage(class, key, count, part),
            _ => damaged("a persistent id of unknown form"),
        }
    }

    fn storage(&mut self, class: Id, key: Id, count: Id, part: Id) -> Result<Id, Fault> {
        let storage = Storage::new(&self.arena, class, count)?;
        let (start, bytes) = storage.part(&self.arena, part)?;
        let Some(key) = self.arena.text(key).filter(|key| key.len() <= KEY) else {
            return damaged("a storage without a short key");
        };
        let index = match self.storages.get_full(key) {
            Some((_, _, known)) if *known != storage => {
                return damaged(format!("storage `{key}` has two types or sizes"));
            }
            Some((index, ..)) => index,
            None => self.storages.insert_full(key.into(), storage).0,
        };
        self.arena.add(Node::Storage(View { storage: index, start, bytes }))
    }
}

fn underflow<T>() -> Result<T, Fault> {
    damaged("an opcode that needs more values than there are")
}
