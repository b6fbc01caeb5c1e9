//! What the user wrote and what a run leaves behind, without libtorch.
//!
//! * [`recipe`]: a recipe file with its base layers and `--set` overrides, read strictly; every error says where.
//! * [`folder`]: the folder of one run: its lock, the names in it, files that are replaced atomically.
//! * [`metrics`], [`summary`]: what was measured, as the run goes and at its end.
//! * [`features`]: how alike the features of a run's two networks are.
//! * [`events`]: the same measurements for TensorBoard.
pub mod error;
pub mod events;
pub mod folder;
pub mod metrics;
pub mod recipe;
pub mod similarity;
pub mod summary;

pub use error::{Error, Result};
pub use folder::{RunFolder, read_json, write_json_atomic};
pub use metrics::Metric;
pub use recipe::{Layered, Recipe, RecipeError};
pub use similarity::Similarity;
pub use summary::{Eval, Status, Summary, Versions};
