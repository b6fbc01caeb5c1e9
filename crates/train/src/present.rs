//! How a network is shown its images: who says it, and in which order they are asked.
use heterodyne_models::ModelDef;
use heterodyne_nn::{CropMode, InputSpec, Interpolation};
use heterodyne_run::recipe::schema::NetworkTable;
use heterodyne_settings::KeyError;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, weights::Weights};

/// What one source says of an input; what it is silent about is left to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stated {
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
    /// Kernel of the resizing.
    pub interpolation: Option<Interpolation>,
}

impl Stated {
    /// What a recipe's table, or a command's flags, say.
    ///
    /// # Errors
    /// A word is unknown; comes with its key.
    pub fn by_table(table: &NetworkTable) -> Result<Self, KeyError> {
        let NetworkTable { img, mean, std, crop_pct, crop_mode, interpolation, .. } = table;
        let crop_mode =
            crop_mode.as_deref().map(str::parse).transpose().map_err(|e: String| KeyError::new("crop_mode", e))?;
        let interpolation = interpolation
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|e: String| KeyError::new("interpolation", e))?;
        Ok(Self { img: *img, mean: *mean, std: *std, crop_pct: *crop_pct, crop_mode, interpolation })
    }

    /// This, and of the rest what `other` says.
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

    /// This, and the rest as in `default`.
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

impl From<InputSpec> for Stated {
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

/// What the data says of its images.
#[derive(Clone, Copy, Debug, Default)]
pub struct Images {
    /// Their side, where all are of one size.
    pub side: Option<u32>,
    /// Whether the recipe has them loaded at another size (`data.img`).
    pub resized: bool,
    /// Mean and standard deviation of their channels, for a network that starts from scratch.
    pub statistics: Option<([f64; 3], [f64; 3])>,
}

impl Images {
    /// The side of images that are all of one size and are loaded as they are.
    #[must_use]
    pub fn whole(&self) -> Option<u32> {
        self.side.filter(|_| !self.resized)
    }

    /// What a loader does for an evaluation of a network whose input is `spec`: all of it, or nothing where the images
    /// are all of one size and are shown whole, so that the network's view can resize them on its device.
    #[must_use]
    pub fn loaded(&self, spec: InputSpec) -> InputSpec {
        match self.whole() {
            Some(side) if spec.crop_pct == 1.0 && spec.interpolation == Interpolation::Bicubic => {
                InputSpec { img: i64::from(side), ..spec }
            }
            _ => spec,
        }
    }
}

/// Settles a network's input and writes it into its table: the table's own words, else those of the weights, else the
/// data's for a network that starts from scratch, else the model's. Of images that are all of one size nothing is
/// cropped away unless somebody says so.
///
/// # Errors
/// The input that comes out is not valid ([`InputSpec::check`]); the model's tag is not that of the weights.
pub fn settle(
    table: &mut NetworkTable,
    def: &ModelDef,
    weights: Option<&Weights>,
    images: Images,
) -> Result<InputSpec> {
    let mut default = def.input;
    if images.whole().is_some() {
        default.crop_pct = 1.0;
    }
    if weights.is_none() {
        default.img = images.side.map_or(default.img, i64::from);
        (default.mean, default.std) = images.statistics.unwrap_or((default.mean, default.std));
    }
    if let Some(weights) = weights {
        weights.check_tag(&table.model)?;
        // What the weights say of their network, but for the options that are given.
        let mut options = weights.options(def)?;
        options.extend(std::mem::take(&mut table.options));
        table.options = options;
    }
    let stated = by_table(table)?.or(weights.map(Weights::input).unwrap_or_default());
    let spec = stated.complete(default);
    spec.check()?;
    write(table, spec);
    Ok(spec)
}

/// [`Stated::by_table`], for a table whose words have been checked or come from flags.
pub(crate) fn by_table(table: &NetworkTable) -> Result<Stated> {
    Stated::by_table(table).map_err(|e| Error::Plan(e.to_string()))
}

/// Writes `spec` into the table.
pub fn write(table: &mut NetworkTable, spec: InputSpec) {
    let InputSpec { img, mean, std, crop_pct, crop_mode, interpolation } = spec;
    (table.img, table.mean, table.std) = (Some(img), Some(mean), Some(std));
    (table.crop_pct, table.crop_mode, table.interpolation) =
        (Some(crop_pct), Some(crop_mode.to_string()), Some(interpolation.to_string()));
}
