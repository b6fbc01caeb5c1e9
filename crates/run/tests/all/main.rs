//! All tests of the crate that use its public interface.
mod events;
mod folder;
mod layers;
mod metrics;
mod recipe;
