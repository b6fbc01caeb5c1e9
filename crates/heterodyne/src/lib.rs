//! Knowledge distillation between vision networks of different families: a transformer or an MLP teaches a CNN, or vice
//! versa. This crate re-exports the workspace and contains the command line.
//!
//! ```no_run,standalone_crate
//! use heterodyne::{run::recipe::Layered, train};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layered = Layered::read("recipes/cifar100/uhkd.toml".as_ref(), &[])?;
//! let stop = std::sync::atomic::AtomicBool::new(false);
//! let session = train::Session::build(train::Plan::resolve(&layered, train::Mode::Distill)?, &stop)?;
//! let folder = heterodyne::run::folder::RunFolder::create("runs/uhkd".as_ref())?;
//! let summary = train::fit(&session, &folder, false, &stop, &mut |_: &train::Event| {})?;
//! println!("{:?}", summary.last.map(|eval| eval.top1));
//! # Ok(())
//! # }
//! ```
//!
//! A crate of one's own turns the default feature `cli` off and takes what it needs of `export`, `hub` (downloads) and
//! `parquet`. `docs/guide.md` has the set-up: where libtorch is, the run path, the profile.

pub use heterodyne_data as data;
#[cfg(feature = "export")]
pub use heterodyne_export as export;
pub use heterodyne_methods as methods;
pub use heterodyne_models as models;
pub use heterodyne_nn as nn;
pub use heterodyne_pickle as pickle;
pub use heterodyne_report as report;
pub use heterodyne_run as run;
pub use heterodyne_settings as settings;
pub use heterodyne_shim as shim;
pub use heterodyne_train as train;
pub use tch;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod commands;
#[cfg(feature = "cli")]
pub mod print;
#[cfg(feature = "cli")]
pub mod ui;
