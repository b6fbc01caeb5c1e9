//! Image transforms: pure functions of an image and numbers, and functions that draw those numbers.
mod crop;
mod erase;
mod jitter;
mod ops;
mod resize;

pub use crop::{PadMode, Region, center_region, crop, flip, pad_crop, padded, random_region};
pub use erase::{erase, erase_region};
pub use jitter::{Adjust, adjust, jitter};
pub use ops::{Op, operate};
pub use resize::{Filter, evaluation, fit, resize, resized_crop};
