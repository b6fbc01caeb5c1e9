//! The recipe table `[data.augment]` and what it does to an image.
use heterodyne_nn::{Error, Result};
use heterodyne_settings::{KeyError, Settings, settings};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    Image, RandAugment, Random,
    transforms::{self, Filter, PadMode},
};

/// How a training image gets its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// As in evaluation: the shorter side is resized, the middle is taken.
    #[default]
    None,
    /// Brought to size as for `none`, then padded and cut out at a random place.
    Pad,
    /// A random region of random size and ratio, resized.
    Resized,
}

/// The kernel for resizing training images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Cubic.
    #[default]
    Bicubic,
    /// Triangle.
    Bilinear,
    /// One of the two for each image.
    Random,
}

settings! {
    /// What happens to training images, in the order of the keys. The default changes nothing.
    pub struct Augment {
        /// How an image gets its size: "none" as in an evaluation; "pad" pads and cuts out a random place; "resized"
        /// resizes a random region.
        pub crop: Crop = Crop::None, Plain;
        /// For `crop = "pad"`: pixels added on each side.
        pub pad: u32 = 4, Plain;
        /// For `crop = "pad"`: what is added, "reflect" or "zero".
        pub pad_mode: PadMode = PadMode::Reflect, Plain;
        /// For `crop = "resized"`: smallest and largest share of the area.
        pub scale: [f64; 2] = [0.08, 1.0], Plain;
        /// For `crop = "resized"`: smallest and largest ratio of width to height.
        pub ratio: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0], Plain;
        /// Kernel for resizing: "bicubic", "bilinear", or "random" for one of the two.
        pub interpolation: Interpolation = Interpolation::Bicubic, Plain;
        /// Probability of mirroring left and right; `true` is 0.5.
        #[serde(deserialize_with = "chance")]
        pub flip: f64 = 0.0, Plain, probability;
        /// Strength of brightness jitter: the factor is in 1 +- this.
        pub brightness: f64 = 0.0, Plain, non_negative;
        /// Strength of contrast jitter.
        pub contrast: f64 = 0.0, Plain, non_negative;
        /// Strength of saturation jitter.
        pub saturation: f64 = 0.0, Plain, non_negative;
        /// RandAugment, if the table is there.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub rand_augment: Option<RandAugment> = None, Plain;
        /// Probability of erasing a rectangle.
        pub erase: f64 = 0.0, Plain, probability;
    }
}

/// `true`, `false` or a number.
fn chance<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    struct Chance;
    impl serde::de::Visitor<'_> for Chance {
        type Value = f64;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("true, false or a probability")
        }
        fn visit_bool<E>(self, on: bool) -> Result<f64, E> {
            Ok(if on { 0.5 } else { 0.0 })
        }
        fn visit_f64<E>(self, p: f64) -> Result<f64, E> {
            Ok(p)
        }
        fn visit_i64<E>(self, p: i64) -> Result<f64, E> {
            Ok(p as f64)
        }
        fn visit_u64<E>(self, p: u64) -> Result<f64, E> {
            Ok(p as f64)
        }
    }
    deserializer.deserialize_any(Chance)
}

impl Augment {
    /// Reads and checks the table.
    ///
    /// # Errors
    /// A key is unknown, or a value has the wrong type or is out of range.
    pub fn parse(table: &toml::Table) -> Result<Self, KeyError> {
        match table.get("rand_augment") {
            Some(toml::Value::Table(rand_augment)) => {
                RandAugment::read(rand_augment).map_err(|e| e.inside("rand_augment"))?;
            }
            Some(toml::Value::String(text)) => return Err(RandAugment::not_text(text).inside("rand_augment")),
            _ => {}
        }
        let parsed = Self::read(table)?;
        parsed.check()?;
        Ok(parsed)
    }

    /// Whether all values are in their ranges.
    fn check(&self) -> Result<(), KeyError> {
        self.in_range()?;
        self.rand_augment.as_ref().map_or(Ok(()), Settings::in_range).map_err(|e| e.inside("rand_augment"))?;
        let ordered = |[low, high]: [f64; 2]| low > 0.0 && low <= high && high.is_finite();
        let error = |key: &str, message: String| Err(KeyError::new(key, message));
        if !ordered(self.scale) || self.scale[1] > 1.0 {
            let message = format!("{:?} is not a range of shares; give 0 < smallest <= largest <= 1", self.scale);
            return error("scale", message);
        }
        if !ordered(self.ratio) {
            let message = format!("{:?} is not a range of ratios; give 0 < smallest <= largest", self.ratio);
            return error("ratio", message);
        }
        Ok(())
    }

    /// Whether the table can be used with images of `side` pixels.
    ///
    /// # Errors
    /// A value is out of range, or the padding is too large to be mirrored.
    pub fn check_for(&self, side: u32) -> Result<()> {
        self.check().map_err(|e| Error::invalid(format!("augmentation: {e}")))?;
        if self.crop == Crop::Pad && self.pad >= side {
            return Err(Error::invalid(format!(
                "augmentation: `pad` is {}, which must be smaller than the image side {side}",
                self.pad
            )));
        }
        Ok(())
    }

    /// The kernel for resizing.
    pub(crate) fn draw_filter(&self, rng: &mut Random) -> Filter {
        match self.interpolation {
            Interpolation::Bicubic => Filter::Bicubic,
            Interpolation::Bilinear => Filter::Bilinear,
            Interpolation::Random => [Filter::Bicubic, Filter::Bilinear][rng.below(2)],
        }
    }

    /// First row and column of a window in the padded image.
    pub(crate) fn draw_corner(&self, rng: &mut Random) -> (usize, usize) {
        if self.crop != Crop::Pad {
            return (0, 0);
        }
        let places = 2 * self.pad as usize + 1;
        (rng.below(places), rng.below(places))
    }

    /// A `side` x `side` training image.
    ///
    /// # Errors
    /// `side` is 0.
    pub fn apply(&self, image: Image, side: usize, rng: &mut Random) -> Result<Image> {
        let filter = self.draw_filter(rng);
        let mut image = match self.crop {
            Crop::None => fitted(image, side, filter)?,
            Crop::Pad => {
                let (top, left) = self.draw_corner(rng);
                transforms::pad_crop(&fitted(image, side, filter)?, self.pad as usize, self.pad_mode, top, left)
            }
            Crop::Resized => {
                let region = transforms::random_region(&image, self.scale, self.ratio, rng);
                transforms::resized_crop(&image, region, side, side, filter)?
            }
        };
        if rng.chance(self.flip) {
            transforms::flip(&mut image);
        }
        transforms::jitter(&mut image, self.brightness, self.contrast, self.saturation, rng);
        if let Some(rand_augment) = &self.rand_augment {
            rand_augment.apply(&mut image, rng);
        }
        if rng.chance(self.erase) {
            transforms::erase(&mut image, rng);
        }
        Ok(image)
    }
}

fn fitted(image: Image, side: usize, filter: Filter) -> Result<Image> {
    if image.size() == (side, side) { Ok(image) } else { transforms::fit(&image, side, side, filter) }
}
