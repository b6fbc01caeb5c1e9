//! Writes files that are either complete or absent, with a checksum, and only in place of ordinary files.
//!
//! * [`atomic`]: a file that takes its name once it is complete.
//! * [`checksum`]: shows later whether a file is unchanged.
//! * [`own`]: opens a file that grows, in a folder that may belong to another user.
pub mod atomic;
pub mod checksum;
pub mod own;
