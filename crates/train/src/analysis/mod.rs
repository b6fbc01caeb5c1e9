//! Looking at a session: where a step's time goes, and how alike the two networks' features are.
pub mod bench;
mod cka;
mod energy;
pub mod similarity;

pub use self::{
    cka::{Cka, LEAST_BATCH},
    energy::Energy,
};
