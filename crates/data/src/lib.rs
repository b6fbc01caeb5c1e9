//! Datasets, decoding, augmentation, sampling and loading.
//!
//! Batches are uint8; each network normalises and resizes them on its own device ([`View`]). How a sample looks in an
//! epoch depends only on (seed, epoch, sample): not on the number of threads, the batch size or the point at which a
//! run resumed.

pub mod audit;
pub mod augment;
pub mod census;
pub mod classes;
pub mod dataset;
pub mod datasets;
pub mod decode;
pub mod faults;
mod files;
pub mod loader;
mod loading;
pub mod memory;
pub mod mix;
mod ordered;
pub mod rand_augment;
pub mod random;
mod reading;
pub mod resident;
pub mod select;
pub mod transforms;
pub mod view;

pub use audit::{Audit, audit};
pub use augment::Augment;
pub use dataset::{Dataset, Image, Splits, Stored};
pub use datasets::{Entry, Files, all, examine, find, open};
pub use decode::Decode;
pub use loader::{Batch, CachedRows, Epoch, EvalLoader, SampleCache, TrainLoader};
pub use loading::{LoaderConfig, Share, Views};
pub use memory::{HostMemory, Memory};
pub use mix::Mix;
pub use rand_augment::RandAugment;
pub use random::Random;
pub use reading::Reading;
pub use resident::Resident;
pub use select::{Selection, select};
pub use view::View;
