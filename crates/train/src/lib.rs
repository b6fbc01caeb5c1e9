//! From a recipe to a trained student. Data flows one way: a [`plan`] is checked, a [`network`] is built and loaded, a
//! [`learner`] takes one step, a [`session`] adds the data, and a [`run`] is many steps with evaluations and
//! checkpoints. The teacher's outputs can come from a [`cache`]; [`analysis`] measures a session.

pub mod analysis;
pub mod cache;
pub mod device;
pub mod error;
pub mod learner;
pub mod network;
pub mod plan;
pub mod run;
pub mod session;
pub mod world;

pub use error::{Error, Result};
pub use plan::{Mode, Plan};
pub use run::{Event, Observer, fit};
pub use session::Session;
pub use world::World;

/// The versions of this crate and of libtorch.
#[must_use]
pub fn versions() -> heterodyne_run::Versions {
    heterodyne_run::Versions {
        heterodyne: env!("CARGO_PKG_VERSION").to_owned(),
        libtorch: heterodyne_shim::LIBTORCH.to_owned(),
    }
}
