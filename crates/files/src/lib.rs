//! Files that are written here: whole or not there at all, with a checksum, and only where an ordinary file belongs.
//!
//! * [`atomic`]: a file that takes its name once it is complete.
//! * [`checksum`]: what tells later that it is as it was written.
//! * [`own`]: opening a file that grows, in a folder that may be somebody else's.
pub mod atomic;
pub mod checksum;
pub mod own;
