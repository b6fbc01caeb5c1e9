//! Building blocks shared by methods.

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
