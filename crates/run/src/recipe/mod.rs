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

/// A stored plan with the defaults of keys that its version did not have; unchanged if it is not a recipe.
#[must_use]
pub fn filled(stored: &serde_json::Value) -> serde_json::Value {
    let recipe = serde_json::from_value::<Recipe>(stored.clone());
    recipe.and_then(serde_json::to_value).unwrap_or_else(|_| stored.clone())
}

/// A plan without some of its keys, given as `table.key`.
#[must_use]
pub fn without(mut plan: serde_json::Value, keys: &[&str]) -> serde_json::Value {
    for key in keys {
        let pointer = format!("/{}", key.replace('.', "/"));
        let (table, name) = pointer.rsplit_once('/').unwrap_or_default();
        if let Some(table) = plan.pointer_mut(table).and_then(serde_json::Value::as_object_mut) {
            table.shift_remove(name);
        }
    }
    plan
}
