//! What two methods share.

pub mod bank;
pub mod divergence;
pub mod heads;
pub mod levels;
pub mod lowpass;
pub mod mode;
pub mod ops;
pub mod pair;
pub mod pointwise;
pub mod spectrum;
pub mod vectors;
