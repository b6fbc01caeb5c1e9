//! Measurements on a session: the time of a step, and the similarity of the two networks' features.
pub mod bench;
mod cka;
mod energy;
pub mod repetition;
pub mod similarity;
pub mod trial;

pub use self::{
    cka::{Cka, LEAST_BATCH},
    energy::Energy,
};
