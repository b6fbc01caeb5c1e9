//! Which size, normalisation and crop a network gets, and who decides it: its table, else its weights, else the data,
//! else the model.
use heterodyne_models::ModelDef;
use heterodyne_nn::{InputSpec, Interpolation, PartialInput};
use heterodyne_run::recipe::schema::NetworkTable;
use heterodyne_settings::KeyError;

use super::Weights;
use crate::{Error, Result};

/// What the data offers to a network.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataImages {
    /// Their side, if all are square and of one size.
    pub side: Option<u32>,
    /// Whether the recipe loads them at another size (`data.img`).
    pub resized: bool,
    /// Mean and standard deviation of their channels, for a network that starts from scratch.
    pub statistics: Option<([f64; 3], [f64; 3])>,
}

/// A network's input, and its table with that input and the weights' options written into it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The evaluation transform.
    pub input: InputSpec,
    /// What a run stores in its plan.
    pub table: NetworkTable,
}

impl DataImages {
    /// The side of images that are all of one size and are loaded at it.
    #[must_use]
    pub fn whole(&self) -> Option<u32> {
        self.side.filter(|_| !self.resized)
    }

    /// The part of a network's evaluation transform that the loader does: all of it; or none if the images are all of
    /// one size and are shown whole, because the network's view then resizes them on its device.
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

/// What a recipe's table, or a command's flags, state.
///
/// # Errors
/// An unknown crop mode or filter; comes with its key.
pub fn stated(table: &NetworkTable) -> Result<PartialInput, KeyError> {
    let NetworkTable { img, mean, std, crop_pct, crop_mode, interpolation, .. } = table;
    let named = |key, e: String| KeyError::new(key, e);
    let crop_mode = crop_mode.as_deref().map(str::parse).transpose().map_err(|e| named("crop_mode", e))?;
    let filter = interpolation.as_deref().map(str::parse).transpose().map_err(|e| named("interpolation", e))?;
    Ok(PartialInput { img: *img, mean: *mean, std: *std, crop_pct: *crop_pct, crop_mode, interpolation: filter })
}

/// The table with `spec` in it.
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

/// Decides a network's input: the table's own keys, else the weights', else the data's for a network that starts from
/// scratch, else the model's. Images that are all of one size are not cropped unless somebody asks for it.
///
/// # Errors
/// The input is not valid ([`InputSpec::check`]); the model's tag is not that of the weights.
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
    // The weights' options, and over them those that are given.
    options.extend(table.options.clone());
    let stated = stated(table).map_err(|e| Error::Plan(e.to_string()))?;
    let input = stated.or(weights.map(Weights::input).unwrap_or_default()).complete(default);
    input.check()?;
    Ok(Resolved { input, table: NetworkTable { options, ..with_input(table, input) } })
}
