//! Recipes and run folders: what the user writes and what a run leaves behind, without libtorch.
//!
//! * [`recipe`]: a recipe file with its base layers and `--set` overrides, read strictly; every error names its place.
//! * [`folder`]: the folder of one run: its file names, its lock, and atomic file replacement.
//! * [`metrics`], [`summary`]: the measurements during a run and at its end.
//! * [`machine`]: the machine that computes a run.
//! * [`similarity`]: the similarity of the features of a run's two networks.
//! * [`events`]: the same measurements for TensorBoard.
pub mod error;
pub mod events;
pub mod folder;
pub mod machine;
pub mod metrics;
pub mod recipe;
pub mod similarity;
pub mod summary;

pub use error::{Error, Result};
pub use folder::{RunFolder, read_json, write_json_atomic};
pub use machine::Machine;
pub use metrics::Metric;
pub use recipe::{Layered, Recipe, RecipeError};
pub use similarity::Similarity;
pub use summary::{Eval, Status, Summary, TeacherScore, Versions};
