//! Pickles as data: a stack machine that builds an arena of plain nodes. It imports nothing and calls nothing; a class
//! or a function is a name, and what PyTorch's own names stand for is said in one table ([`known`]).
mod arena;
mod known;
mod machine;
mod opcode;
mod source;

pub use arena::{Arena, Id, Node};
pub use known::View;
pub use machine::{Pickle, load};
pub use source::Source;
