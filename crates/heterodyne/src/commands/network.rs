//! Flags that name a network: the keys of a recipe's `[student]`, as `eval`, `export`, `features` and `inspect` take
//! them.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use heterodyne_models::ModelDef;
use heterodyne_run::recipe::{
    self,
    schema::{DeviceChoice, NetworkTable, Precision},
};
use heterodyne_train::network::{Source, Weights};

use crate::ui;

/// Which tensors of the weights, which options of the model, and how it is shown an image.
#[derive(Clone, Debug, clap::Args)]
pub struct NetworkArgs {
    /// The dictionary of tensors in a PyTorch file that holds several
    #[arg(long)]
    section: Option<String>,
    /// Only tensors whose names begin with this, which is taken away; chosen by the names if not given
    #[arg(long)]
    prefix: Option<String>,
    /// Tensors to leave out: names, beginnings of names up to a dot, or patterns with * and ?; comma-separated, may be
    /// repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    ignore: Vec<String>,
    /// An option of the model, for example patch=4; may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Input size in pixels [default: from the weights, else the model's]
    #[arg(long)]
    img: Option<i64>,
    /// Channel means, comma-separated
    #[arg(long, value_name = "R,G,B", value_parser = channels)]
    mean: Option<[f64; 3]>,
    /// Channel standard deviations, comma-separated
    #[arg(long, value_name = "R,G,B", value_parser = deviations)]
    std: Option<[f64; 3]>,
    /// Share of the resized side that the centre crop keeps [default: from the weights, else 1 for images of one size,
    /// else the model's]
    #[arg(long, value_parser = share)]
    crop_pct: Option<f64>,
    /// Side that is resized: center (the shorter), squash (both) or border (the longer)
    #[arg(long, value_parser = ["center", "squash", "border"])]
    crop_mode: Option<String>,
    /// Filter of the resizing
    #[arg(long, value_parser = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])]
    interpolation: Option<String>,
}

/// Where it computes, and how.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DeviceArgs {
    /// fp32, bf16 or auto
    #[arg(long, default_value = "fp32", value_parser = precision)]
    pub precision: Precision,
    /// auto, cpu or cuda
    #[arg(long, default_value = "auto", value_parser = device_choice)]
    pub device: DeviceChoice,
}

/// A network that was named, its weights read.
pub struct Named {
    /// Its entry in the registry.
    pub def: &'static ModelDef,
    /// Everything that was stated of it.
    pub table: NetworkTable,
    /// Its weights.
    pub weights: Weights,
    path: PathBuf,
}

impl NetworkArgs {
    /// `table` with what the flags state, and the weights at `weights`.
    ///
    /// # Errors
    /// An option cannot be read.
    pub fn over(&self, mut table: NetworkTable, weights: &Path) -> Result<NetworkTable> {
        table.options.extend(recipe::options(&self.options)?);
        Ok(NetworkTable {
            weights: Some(weights.to_owned()),
            section: self.section.clone(),
            prefix: self.prefix.clone(),
            ignore: self.ignore.clone(),
            adapt_head: false,
            img: self.img.or(table.img),
            mean: self.mean.or(table.mean),
            std: self.std.or(table.std),
            crop_pct: self.crop_pct.or(table.crop_pct),
            crop_mode: self.crop_mode.clone().or(table.crop_mode.take()),
            interpolation: self.interpolation.clone().or(table.interpolation.take()),
            ..table
        })
    }
}

impl Named {
    /// Reads the weights that `table` names; they name the model if the table does not.
    ///
    /// # Errors
    /// They cannot be read, or nothing names a model that is known.
    pub fn read(mut table: NetworkTable) -> Result<Self> {
        let path = table.weights.clone().context("which weights? Add --weights FILE")?;
        let weights = ui::read_weights(Source::of(&table).context("which weights? Add --weights FILE")?)?;
        if table.model.is_empty() {
            let unnamed = || format!("{} does not say which model it is: add --model", path.display());
            table.model = weights.model().with_context(unnamed)?.to_owned();
        }
        let def = heterodyne_models::find(&table.model)?;
        Ok(Self { def, table, weights, path })
    }

    /// The number of classes of the weights' classifier.
    ///
    /// # Errors
    /// They are weights of another model, or have no classifier.
    pub fn classes(&self) -> Result<i64> {
        self.classes_or("")
    }

    /// As [`Named::classes`], with advice for weights without a classifier.
    pub fn classes_or(&self, advice: &str) -> Result<i64> {
        let classes = self.weights.classes(self.def, &self.table.options)?;
        classes.with_context(|| format!("{} has no classifier `{}`{advice}", self.path.display(), self.def.head))
    }
}

fn named<T: serde::de::DeserializeOwned>(text: &str, choices: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|_| format!("expected {choices}"))
}

fn precision(text: &str) -> Result<Precision, String> {
    named(text, "fp32, bf16 or auto")
}

fn device_choice(text: &str) -> Result<DeviceChoice, String> {
    named(text, "auto, cpu or cuda")
}

fn channels(text: &str) -> Result<[f64; 3], String> {
    let numbers: Vec<f64> =
        text.split(',').filter_map(|part| part.trim().parse().ok()).filter(|x: &f64| x.is_finite()).collect();
    match numbers[..] {
        [r, g, b] if text.split(',').count() == 3 => Ok([r, g, b]),
        _ => Err("expected three numbers, for example 0.485,0.456,0.406".to_owned()),
    }
}

fn deviations(text: &str) -> Result<[f64; 3], String> {
    let std = channels(text)?;
    if std.iter().all(|s| *s > 0.0) { Ok(std) } else { Err("a standard deviation is greater than 0".to_owned()) }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "a share of the image is more than 0 and at most 1".to_owned())
}
