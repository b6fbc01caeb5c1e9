//! The input transform that a network expects.
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Longest side to which an image is resized; a limit, because a typing error could otherwise exhaust the memory.
const MAX_SIDE: i64 = 32_768;

/// The evaluation transform: resize, centre crop, normalise. It follows timm's `create_transform(..,
/// is_training=False)` with the keys of the same names in a `pretrained_cfg`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// Side of the square input in pixels.
    pub img: i64,
    /// Mean of the channels R, G, B, for values in 0..1.
    pub mean: [f64; 3],
    /// Standard deviation of the channels.
    pub std: [f64; 3],
    /// Share of the resized side that the crop keeps: the image is resized to floor(img / `crop_pct`).
    pub crop_pct: f64,
    /// Which side is resized to that.
    pub crop_mode: CropMode,
    /// Resampling kernel.
    pub interpolation: Interpolation,
}

/// The part of an [`InputSpec`] that one source gives: a recipe, flags, a weights file or a description beside it. The
/// next source fills the gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartialInput {
    /// Side in pixels.
    pub img: Option<i64>,
    /// Channel means.
    pub mean: Option<[f64; 3]>,
    /// Channel standard deviations.
    pub std: Option<[f64; 3]>,
    /// Share of the resized side that the crop keeps.
    pub crop_pct: Option<f64>,
    /// Which side is resized.
    pub crop_mode: Option<CropMode>,
    /// Resampling kernel.
    pub interpolation: Option<Interpolation>,
}

impl PartialInput {
    /// This, with its gaps filled from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            img: self.img.or(other.img),
            mean: self.mean.or(other.mean),
            std: self.std.or(other.std),
            crop_pct: self.crop_pct.or(other.crop_pct),
            crop_mode: self.crop_mode.or(other.crop_mode),
            interpolation: self.interpolation.or(other.interpolation),
        }
    }

    /// This, with its gaps filled from `default`.
    #[must_use]
    pub fn complete(self, default: InputSpec) -> InputSpec {
        InputSpec {
            img: self.img.unwrap_or(default.img),
            mean: self.mean.unwrap_or(default.mean),
            std: self.std.unwrap_or(default.std),
            crop_pct: self.crop_pct.unwrap_or(default.crop_pct),
            crop_mode: self.crop_mode.unwrap_or(default.crop_mode),
            interpolation: self.interpolation.unwrap_or(default.interpolation),
        }
    }
}

impl From<InputSpec> for PartialInput {
    fn from(spec: InputSpec) -> Self {
        let InputSpec { img, mean, std, crop_pct, crop_mode, interpolation } = spec;
        Self {
            img: Some(img),
            mean: Some(mean),
            std: Some(std),
            crop_pct: Some(crop_pct),
            crop_mode: Some(crop_mode),
            interpolation: Some(interpolation),
        }
    }
}

/// Which side of an image becomes floor(img / `crop_pct`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CropMode {
    /// The shorter side; anything outside the central square is lost.
    #[default]
    Center,
    /// Both sides, whatever the image's shape.
    Squash,
    /// The longer side; the rest of the square is filled with the mean colour.
    Border,
}

/// Pillow's resampling filters, by timm's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// The mean of the covered pixels.
    Box,
    /// The triangle kernel.
    Bilinear,
    /// A raised cosine, as wide as the triangle.
    Hamming,
    /// Keys' cubic with a = -0.5 (Catmull-Rom).
    #[default]
    Bicubic,
    /// A sinc of three lobes.
    Lanczos,
}

impl std::fmt::Display for Interpolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nearest => "nearest",
            Self::Box => "box",
            Self::Bilinear => "bilinear",
            Self::Hamming => "hamming",
            Self::Bicubic => "bicubic",
            Self::Lanczos => "lanczos",
        })
    }
}

impl std::fmt::Display for CropMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Center => "center",
            Self::Squash => "squash",
            Self::Border => "border",
        })
    }
}

impl std::str::FromStr for Interpolation {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let all = [Self::Nearest, Self::Box, Self::Bilinear, Self::Hamming, Self::Bicubic, Self::Lanczos];
        all.into_iter().find(|known| known.to_string() == name).ok_or_else(|| {
            format!("unknown filter `{name}`: expected nearest, box, bilinear, hamming, bicubic or lanczos")
        })
    }
}

impl std::str::FromStr for CropMode {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let known = [Self::Center, Self::Squash, Self::Border].into_iter().find(|known| known.to_string() == name);
        known.ok_or_else(|| format!("unknown crop mode `{name}`: expected center, squash or border"))
    }
}

impl InputSpec {
    /// The whole image, bicubic, at `img` pixels.
    #[must_use]
    pub const fn whole(img: i64, mean: [f64; 3], std: [f64; 3]) -> Self {
        Self { img, mean, std, crop_pct: 1.0, crop_mode: CropMode::Center, interpolation: Interpolation::Bicubic }
    }

    /// As [`InputSpec::whole`], with a crop and ImageNet's statistics.
    #[must_use]
    pub const fn imagenet(img: i64, crop_pct: f64) -> Self {
        Self { crop_pct, ..Self::whole(img, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) }
    }

    /// As [`InputSpec::whole`], with a crop and values scaled to [-1,1].
    #[must_use]
    pub const fn centred(img: i64, crop_pct: f64) -> Self {
        Self { crop_pct, ..Self::whole(img, [0.5; 3], [0.5; 3]) }
    }

    /// The length of a resized side.
    #[must_use]
    pub fn resized(&self) -> i64 {
        (self.img as f64 / self.crop_pct).floor() as i64
    }

    /// Checks that the transform is valid.
    ///
    /// # Errors
    /// `img` is below 1, the resized side exceeds 32,768, `crop_pct` is outside (0, 1], a number is not finite, or a
    /// standard deviation is not above 0.
    pub fn check(&self) -> Result<()> {
        let Self { img, mean, std, crop_pct, .. } = self;
        if *img < 1 {
            return Err(Error::invalid(format!("an input side of {img} pixels is too small; give at least 1")));
        }
        if !(*crop_pct > 0.0 && *crop_pct <= 1.0) {
            return Err(Error::invalid(format!(
                "crop_pct is {crop_pct}; give a share above 0 and at most 1, for example 0.9"
            )));
        }
        if self.resized() > MAX_SIDE {
            return Err(Error::invalid(format!(
                "img = {img} with crop_pct = {crop_pct} resizes every image to {} pixels; at most {MAX_SIDE} are \
                 allowed: give a larger crop_pct",
                self.resized()
            )));
        }
        if !mean.iter().chain(std).all(|v| v.is_finite()) || std.iter().any(|&s| s <= 0.0) {
            return Err(Error::invalid(format!(
                "mean {mean:?} and std {std:?} cannot normalise an image; a std must be above 0"
            )));
        }
        Ok(())
    }
}

impl std::fmt::Display for InputSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (resized, [r, g, b], [u, v, w]) = (self.resized(), self.mean, self.std);
        let side = match self.crop_mode {
            CropMode::Center => "shorter side",
            CropMode::Squash => "both sides",
            CropMode::Border => "longer side",
        };
        let Self { img, interpolation, .. } = self;
        write!(
            f,
            "{side} to {resized} px ({interpolation}), centre {img} px, mean {r:.4} {g:.4} {b:.4}, std {u:.4} {v:.4} \
             {w:.4}"
        )
    }
}
