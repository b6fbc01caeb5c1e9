//! Recipes: TOML layers with origins ([`Layered`]), then typed tables ([`Recipe`]).
mod check;
mod error;
pub mod home;
mod layer;
pub(crate) mod places;
pub mod reference;
pub mod schema;
mod tree;
mod wording;

pub use error::{RecipeError, shortened};
pub use layer::{Layered, MOVABLE, options};
pub use schema::{
    Data, DeviceChoice, Loss, NetworkTable, Optim, OptimName, Precision, Recipe, Schedule, ScheduleName, Train,
};
pub use wording::key_for;
