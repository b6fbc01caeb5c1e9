//! Pickles as data: a stack machine that builds an arena of plain nodes. It imports nothing and calls nothing; a class
//! or function is a name, and one table ([`known`]) gives the meaning of PyTorch's own names.
mod arena;
mod known;
mod machine;
mod opcode;
mod source;
mod steps;
mod storage;

pub use arena::{Arena, Id, Node, View};
pub use machine::{Pickle, load};
pub use source::Source;
