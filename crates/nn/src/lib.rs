//! The types that models, methods and the trainer share, and the layers that they are built from.
//!
//! Shape letters in this workspace: `b` batch, `c` channels or classes, `h` height, `w` width, `n` tokens, `d` width of
//! an embedding.

pub mod error;
pub mod feature;
pub mod file;
pub mod init;
pub mod input;
pub mod labels;
pub mod layers;
pub mod load;
pub mod module;
pub mod store;
pub mod terms;

pub use error::{Error, Result, catch};
pub use feature::{FeatureMap, StageKind, StageSpec, TapSpec};
pub use heterodyne_shim as shim;
pub use init::Init;
pub use input::{CropMode, InputSpec, Interpolation, PartialInput};
pub use labels::Labels;
pub use load::LoadReport;
pub use module::{Module, Output, Pass};
pub use store::{Entry, ParamStore, Role, Scope};
pub use terms::{Progress, Term, Terms};

/// Named tensors in a fixed order, as in a weights file.
pub type Tensors = indexmap::IndexMap<String, tch::Tensor>;
