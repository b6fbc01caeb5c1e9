//! From a recipe to a trained student. Data flows one way: [`plan`] checks everything, [`session`] builds it,
//! [`mod@fit`] runs the steps, [`eval`] measures, [`state`] lets a run continue.

pub mod bench;
pub mod cache;
pub mod card;
pub mod classes;
mod config;
pub mod data;
pub mod ema;
pub mod error;
pub mod eval;
pub mod features;
pub mod fit;
pub mod meter;
pub mod net;
pub mod objective;
pub mod optim;
pub mod origin;
pub mod pair;
pub mod plan;
pub mod preflight;
pub mod present;
mod processor;
pub mod schedule;
pub mod session;
mod sound;
pub mod state;
pub mod step;
mod stored;
pub mod weight;
pub mod weights;

pub use error::{Error, Result};
pub use fit::{Event, Observer, fit};
pub use plan::{Command, Plan};
pub use session::Session;
