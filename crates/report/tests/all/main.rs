//! All tests of the crate that use its public interface.
mod page;
mod plan;
mod sample;
mod table;
mod wellformed;
