//! Resolves a network's input size, normalisation and crop: from its table, else its weights, else the data, else the
//! model.
use heterodyne_models::ModelDef;
use heterodyne_nn::{InputSpec, Interpolation, PartialInput};
use heterodyne_run::recipe::schema::NetworkTable;
use heterodyne_settings::KeyError;

use super::Weights;
use crate::{Error, Result};

/// The data's images, as far as they affect a network's input.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataImages {
    /// Their side, if all images are square and of one size.
    pub side: Option<u32>,
    /// Whether `data.img` loads them at another size.
    pub resized: bool,
    /// Channel means and standard deviations, for a network trained from scratch.
    pub statistics: Option<([f64; 3], [f64; 3])>,
}

/// A network's input, and its table completed with that input and the weights' options.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The evaluation transform.
    pub input: InputSpec,
    /// The completed table, which a run stores in its plan.
    pub table: NetworkTable,
}

impl DataImages {
    /// The images' common side, if they are loaded at that size.
    #[must_use]
    pub fn whole(&self) -> Option<u32> {
        self.side.filter(|_| !self.resized)
    }

    /// The part of a network's evaluation transform that the loader performs: all of it, or none if the images have one
    /// size and are not cropped. In that case the network's view resizes them on its device.
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

/// The input keys that a recipe's table or a command's flags set.
///
/// # Errors
/// The crop mode or the filter is unknown; the error names the key.
pub fn stated(table: &NetworkTable) -> Result<PartialInput, KeyError> {
    let NetworkTable { img, mean, std, crop_pct, crop_mode, interpolation, .. } = table;
    let named = |key, e: String| KeyError::new(key, e);
    let crop_mode = crop_mode.as_deref().map(str::parse).transpose().map_err(|e| named("crop_mode", e))?;
    let filter = interpolation.as_deref().map(str::parse).transpose().map_err(|e| named("interpolation", e))?;
    Ok(PartialInput { img: *img, mean: *mean, std: *std, crop_pct: *crop_pct, crop_mode, interpolation: filter })
}

/// The table with its input keys set to `spec`.
#[must_use]
pub fn with_input(table: &NetworkTable, spec: InputSpec) -> NetworkTable {
    NetworkTable {
        img: Some(spec.img),
        mean: Some(spec.mean),
        std: Some(spec.std),
        crop_pct: Some(spec.crop_pct),
        crop_mode: Some(spec.crop_mode.to_string()),
        interpolation: Some(spec.interpolation.to_string()),
        ..table.clone()
    }
}

/// Resolves a network's input: the table's keys, else the weights', else the data's for a network trained from scratch,
/// else the model's. Images of one size are not cropped unless the table or the weights set a crop.
///
/// # Errors
/// The input is invalid ([`InputSpec::check`]), or the model's tag is not that of the weights.
pub fn resolve(
    table: &NetworkTable,
    def: &ModelDef,
    weights: Option<&Weights>,
    images: DataImages,
) -> Result<Resolved> {
    let mut default = def.input;
    let mut options = toml::Table::new();
    if images.whole().is_some() {
        default.crop_pct = 1.0;
    }
    if let Some(weights) = weights {
        weights.check_tag(&table.model)?;
        options = weights.options(def)?;
    } else {
        default.img = images.side.map_or(default.img, i64::from);
        (default.mean, default.std) = images.statistics.unwrap_or((default.mean, default.std));
    }
    // The table's options override the weights' options.
    options.extend(table.options.clone());
    let stated = stated(table).map_err(|e| Error::Plan(e.to_string()))?;
    let input = stated.or(weights.map(Weights::input).unwrap_or_default()).complete(default);
    input.check()?;
    Ok(Resolved { input, table: NetworkTable { options, ..with_input(table, input) } })
}
