//! A trained network that classifies pictures.
use std::path::Path;

use heterodyne_data::{Image, transforms};
use heterodyne_nn::Pass;
use heterodyne_run::recipe::schema::{DeviceChoice, NetworkTable, Precision};
use tch::{Kind, Tensor};

use super::{
    BuildOptions, Network, Source, Weights,
    input::{self, DataImages, Resolved},
};
use crate::{Error, Result, device::device, error::guarded};

/// A trained network with the names of its classes.
pub struct Classifier {
    /// The network.
    pub network: Network,
    /// The classes in the order of the logits; their numbers if the weights have no names.
    pub classes: Vec<String>,
}

impl Classifier {
    /// Loads the network of a finished run, or of weights that name their model: a file of heterodyne, a folder
    /// with the `config.json` of timm or transformers, or `hf-hub:` and a name.
    ///
    /// # Errors
    /// As [`Classifier::of`].
    pub fn load(path: &Path, place: DeviceChoice) -> Result<Self> {
        Self::of(&NetworkTable { weights: Some(path.to_owned()), ..NetworkTable::default() }, place)
    }

    /// Loads the network that `table` describes as in a recipe; its `model` may be empty if the weights name theirs.
    ///
    /// # Errors
    /// The weights cannot be read, have no classifier or do not fit; the model is unknown; the device is not usable.
    pub fn of(table: &NetworkTable, place: DeviceChoice) -> Result<Self> {
        let source = Source::of(table).ok_or_else(|| Error::Plan("a classifier needs weights".to_owned()))?;
        let weights = Weights::read(source)?;
        let name = &weights.name;
        let model = Some(table.model.as_str()).filter(|model| !model.is_empty()).or(weights.model());
        let model =
            model.ok_or_else(|| Error::Plan(format!("{name} does not name its model: name it in the table")))?;
        let def = heterodyne_models::find(model)?;
        let table = NetworkTable { model: model.to_owned(), ..table.clone() };
        let Resolved { input, table } = input::resolve(&table, def, Some(&weights), DataImages::default())?;
        let count = weights.classes(def, &table.options)?;
        let classes = count.ok_or_else(|| Error::Plan(format!("{name} has no classifier `{}`", def.head)))?;
        let precision = table.precision.unwrap_or(Precision::Fp32);
        let options = BuildOptions { classes, precision, device: device(place)?, seed: 0 };
        let network = Network::build(def, &table, input, Some(&weights), options)?;
        let names = weights.class_names();
        let classes = if names.is_empty() { (0..classes).map(|n| n.to_string()).collect() } else { names.to_vec() };
        Ok(Self { network, classes })
    }

    /// The probability of every class for a picture of any size, the most probable first.
    ///
    /// # Errors
    /// The picture cannot be resized, or libtorch fails.
    pub fn classify(&self, picture: Image) -> Result<Vec<(&str, f64)>> {
        let image = transforms::evaluation(picture, &self.network.input)?;
        let (height, width) = image.size();
        let x_bhwc = Tensor::f_from_data_size(&image.rgb, &[1, height as i64, width as i64, 3], Kind::Uint8)?;
        let x_bchw = x_bhwc.f_permute([0, 3, 1, 2])?.f_to(self.network.device())?;
        let p_c: Vec<f64> = guarded(&self.network.name, || {
            let z_bc = self.network.infer(&x_bchw, Pass::EVAL)?.logits;
            Ok(z_bc.f_softmax(1, Kind::Double)?.f_view(-1)?.try_into()?)
        })?;
        let mut all: Vec<(&str, f64)> = self.classes.iter().map(String::as_str).zip(p_c).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(all)
    }
}
