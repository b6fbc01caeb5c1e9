//! Datasets, decoding, augmentation, sampling and loading.
//!
//! A batch travels as uint8; each network normalises and resizes it for itself on its own device ([`View`]). What a
//! sample looks like in an epoch depends on (seed, epoch, sample) alone: not on the number of threads, the batch size
//! or where a run resumed.

pub mod audit;
pub mod augment;
pub mod classes;
pub mod dataset;
pub mod datasets;
pub mod decode;
mod files;
pub mod loader;
pub mod mix;
mod ordered;
pub mod rand_augment;
pub mod random;
mod reading;
pub mod select;
pub mod transforms;
pub mod view;

pub use audit::audit;
pub use augment::Augment;
pub use dataset::{Dataset, Image, Splits, Stored};
pub use datasets::{Entry, Files, all, find, open};
pub use decode::Decode;
pub use loader::{Batch, CachedRows, Epoch, EvalLoader, LoaderConfig, SampleCache, TrainLoader, Views};
pub use mix::Mix;
pub use rand_augment::RandAugment;
pub use random::Random;
pub use reading::Reading;
pub use select::{Selection, select};
pub use view::View;
