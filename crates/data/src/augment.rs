//! The recipe table `[data.augment]` and what it does to an image.
use heterodyne_nn::{Error, Result};
use heterodyne_settings::{KeyError, parse};
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

/// The recipe table `[data.augment]`: what happens to training images, in the order of the fields. The default changes
/// nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// How an image gets its size.
    pub crop: Crop,
    /// For `crop = "pad"`: pixels added on each side.
    pub pad: u32,
    /// For `crop = "pad"`: what is added.
    pub pad_mode: PadMode,
    /// For `crop = "resized"`: smallest and largest share of the area.
    pub scale: [f64; 2],
    /// For `crop = "resized"`: smallest and largest ratio of width to height.
    pub ratio: [f64; 2],
    /// Kernel for resizing.
    pub interpolation: Interpolation,
    /// Probability of mirroring left and right; `true` is 0.5.
    #[serde(deserialize_with = "chance")]
    pub flip: f64,
    /// Strength of brightness jitter: the factor lies in 1 +- this.
    pub brightness: f64,
    /// Strength of contrast jitter.
    pub contrast: f64,
    /// Strength of saturation jitter.
    pub saturation: f64,
    /// RandAugment, where the table is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rand_augment: Option<RandAugment>,
    /// Probability of erasing a rectangle.
    pub erase: f64,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            crop: Crop::None,
            pad: 4,
            pad_mode: PadMode::Reflect,
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            interpolation: Interpolation::Bicubic,
            flip: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            rand_augment: None,
            erase: 0.0,
        }
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
    /// A key is unknown, or a value has the wrong type or lies out of range.
    pub fn parse(table: &toml::Table) -> Result<Self, KeyError> {
        let parsed: Self = parse(table)?;
        parsed.check()?;
        Ok(parsed)
    }

    /// Whether all values lie in their ranges.
    fn check(&self) -> Result<(), KeyError> {
        let error = |key: &str, message: String| Err(KeyError::new(key, message));
        for (key, p) in [("flip", self.flip), ("erase", self.erase)] {
            if !(0.0..=1.0).contains(&p) {
                return error(key, format!("{p} is not a probability; give a number from 0 to 1"));
            }
        }
        for (key, strength) in
            [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)]
        {
            if !(strength >= 0.0 && strength.is_finite()) {
                return error(
                    key,
                    format!("{strength} is no strength; give 0 (off) or a positive number, 0.4 for instance"),
                );
            }
        }
        if let Some(rand_augment) = &self.rand_augment {
            rand_augment.check()?;
        }
        let ordered = |[low, high]: [f64; 2]| low > 0.0 && low <= high && high.is_finite();
        if !ordered(self.scale) || self.scale[1] > 1.0 {
            return error(
                "scale",
                format!("{:?} is no range of shares; give 0 < smallest <= largest <= 1", self.scale),
            );
        }
        if !ordered(self.ratio) {
            return error("ratio", format!("{:?} is no range of ratios; give 0 < smallest <= largest", self.ratio));
        }
        Ok(())
    }

    /// Whether the table can be used with images of `side` pixels.
    ///
    /// # Errors
    /// A value lies out of range, or the padding is too large to be mirrored.
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

    /// A `side` x `side` training image.
    ///
    /// # Errors
    /// `side` is 0.
    pub fn apply(&self, image: Image, side: usize, rng: &mut Random) -> Result<Image> {
        let filter = match self.interpolation {
            Interpolation::Bicubic => Filter::Bicubic,
            Interpolation::Bilinear => Filter::Bilinear,
            Interpolation::Random => [Filter::Bicubic, Filter::Bilinear][rng.below(2)],
        };
        let mut image = match self.crop {
            Crop::None => fitted(image, side, filter)?,
            Crop::Pad => {
                let pad = self.pad as usize;
                let (top, left) = (rng.below(2 * pad + 1), rng.below(2 * pad + 1));
                transforms::pad_crop(&fitted(image, side, filter)?, pad, self.pad_mode, top, left)
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
