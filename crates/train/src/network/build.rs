//! Builds a network from a recipe's table or a command's flags.
use heterodyne_data::View;
use heterodyne_models::{
    Checkpoint, Model, ModelDef,
    package::{self, Package},
};
use heterodyne_nn::{InputSpec, ParamStore};
use heterodyne_run::recipe::schema::{NetworkTable, Precision};
use tch::Device;

use super::{Network, Weights, input, values};
use crate::{Error, Result, device::concrete};

/// The build options besides table and weights.
#[derive(Clone, Copy, Debug)]
pub struct BuildOptions {
    /// Number of classifier outputs.
    pub classes: i64,
    /// Used unless the table sets a precision.
    pub precision: Precision,
    /// The device of the network.
    pub device: Device,
    /// Seed of the random weights.
    pub seed: u64,
}

impl Network {
    /// Builds `def` with the table's options for `input` and loads `weights` strictly.
    ///
    /// # Errors
    /// The weights do not fit, or contain unusable values.
    pub fn build(
        def: &'static ModelDef,
        table: &NetworkTable,
        input: InputSpec,
        weights: Option<&Weights>,
        options: BuildOptions,
    ) -> Result<Self> {
        let model = model(def, table, input, weights, options)?;
        Self::of(model, input, concrete(table.precision.unwrap_or(options.precision), options.device))
    }

    /// Loads the table's `package`. The file supplies the input keys that the recipe leaves open; the returned table
    /// has both.
    ///
    /// # Errors
    /// The file cannot be loaded, or nothing states its normalisation.
    pub fn package(table: &NetworkTable, device: Device) -> Result<(Self, NetworkTable)> {
        let no_package = || Error::Plan("a teacher needs a `model` with `weights`, or a `package`".to_owned());
        let path = table.package.clone().ok_or_else(no_package)?;
        let Package { net, about, img } = package::open(&path, device, table.img)?;
        let unknown = |key: &str| {
            let path = path.display();
            Error::Plan(format!("{path}: the package does not state its `{key}`: set teacher.{key}"))
        };
        let mean = table.mean.or(about.as_ref().map(|a| a.mean)).ok_or_else(|| unknown("mean"))?;
        let std = table.std.or(about.as_ref().map(|a| a.std)).ok_or_else(|| unknown("std"))?;
        let crop_pct = about.as_ref().and_then(|a| a.crop).unwrap_or(1.0);
        let stated = input::stated(table).map_err(|e| Error::Plan(e.to_string()))?;
        let input = stated.complete(InputSpec { crop_pct, ..InputSpec::whole(img, mean, std) });
        input.check()?;
        let file = || path.file_name().map_or_else(|| "package".to_owned(), |name| name.to_string_lossy().into_owned());
        let network = Self {
            name: about.as_ref().map_or_else(file, |a| a.name.clone()),
            module: net,
            store: ParamStore::new(device, 0),
            view: View::new(img, mean, std, device)?,
            input,
            // The package's own precision: autocast does not reach compiled code.
            precision: Precision::Fp32,
            loaded: None,
        };
        Ok((network, input::with_input(table, input)))
    }
}

/// Like [`Network::build`], but returns only the model.
pub fn model(
    def: &'static ModelDef,
    table: &NetworkTable,
    input: InputSpec,
    weights: Option<&Weights>,
    options: BuildOptions,
) -> Result<Model> {
    let BuildOptions { classes, device, seed, .. } = options;
    let (img, family) = (Some(input.img), &table.options);
    let Some(w) = weights else { return Ok(Model::build(def, classes, img, family, device, seed)?) };
    w.classes(def, family)?;
    let checkpoint =
        Checkpoint { tensors: &w.tensors, from: &w.name, adapt_head: table.adapt_head, selection: &w.selection };
    let model = Model::with_weights(def, classes, img, family, device, seed, &checkpoint)?;
    match values::flaw(&model.store.tensors())? {
        None => Ok(model),
        Some(flaw) => Err(Error::Plan(format!(
            "{}: the weights of {} cannot be used: {flaw}; get a fresh copy or use another file",
            w.name, def.name
        ))),
    }
}
