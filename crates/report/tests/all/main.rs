//! All tests of the crate that use its public interface.
mod page;
mod sample;
mod table;
mod wellformed;
