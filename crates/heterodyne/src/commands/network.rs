//! Flags that define a network for `eval`, `export`, `features`, `inspect` and `predict`; they match the keys of a
//! recipe's `[student]`.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use heterodyne_data::Decode;
use heterodyne_models::ModelDef;
use heterodyne_run::{
    folder::RunFolder,
    recipe::{
        self,
        schema::{Data, DeviceChoice, NetworkTable, Precision, Recipe},
    },
};
use heterodyne_train::network::{Source, Weights, input::DataImages};

use crate::ui;

/// Flags for the tensors of the weights, the model's options and the evaluation transform.
#[derive(Clone, Debug, clap::Args)]
pub struct NetworkArgs {
    /// Dictionary of tensors to read from a PyTorch file that holds several
    #[arg(long)]
    section: Option<String>,
    /// Read only tensors whose names begin with this, and strip it [default: chosen from the names]
    #[arg(long)]
    prefix: Option<String>,
    /// Tensors to leave out: names, name prefixes up to a dot, or patterns with * and ?; comma-separated, may be
    /// repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Model option, for example patch=4; may be repeated
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
    /// Side to resize: center (the shorter), squash (both) or border (the longer)
    #[arg(long, value_parser = ["center", "squash", "border"])]
    crop_mode: Option<String>,
    /// Resizing filter
    #[arg(long, value_parser = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])]
    interpolation: Option<String>,
}

/// Flags for device and precision.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DeviceArgs {
    /// Precision: fp32, tf32, bf16, fp16 or auto
    #[arg(long, default_value = "fp32", value_parser = precision)]
    pub precision: Precision,
    /// Device: auto, cpu or cuda
    #[arg(long, default_value = "auto", value_parser = device_choice)]
    pub device: DeviceChoice,
}

/// A named network whose weights have been read.
pub struct Named {
    /// The entry in the registry.
    pub def: &'static ModelDef,
    /// The network's settings.
    pub table: NetworkTable,
    /// The weights.
    pub weights: Weights,
    path: PathBuf,
}

/// A trained network's weights, and the data of the run that they are from.
pub struct Trained {
    /// A file, a folder with weights, or a name on the Hub.
    pub weights: PathBuf,
    data: Option<Data>,
}

impl Trained {
    /// The weights `which` of the run folder `source`, or the weights `source`.
    ///
    /// # Errors
    /// `source` does not exist, or is a folder without a run's plan and without weights.
    pub fn find(source: &Path, which: &str) -> Result<Self> {
        if !source.exists() && !heterodyne_hub::is_name(&source.display().to_string()) {
            bail!("{}: there is no such run folder or weights file", source.display());
        }
        let mut described = [heterodyne_export::CONFIG].into_iter().chain(heterodyne_hub::WEIGHTS);
        if !source.is_dir() || described.any(|name| source.join(name).exists()) {
            return Ok(Self { weights: source.to_owned(), data: None });
        }
        let folder = RunFolder::open(source)?;
        let recipe: Recipe =
            serde_json::from_value(folder.read_plan()?).with_context(|| format!("{}", folder.plan().display()))?;
        Ok(Self { weights: folder.weights(which), data: Some(recipe.data) })
    }

    /// Reads the weights as `model`, or as the model that they name, with the settings of `flags`.
    ///
    /// # Errors
    /// As [`Named::read`].
    pub fn read(&self, model: Option<&str>, flags: &NetworkArgs) -> Result<Named> {
        Named::read(flags.over(NetworkTable::of(model.unwrap_or_default()), &self.weights)?)
    }

    /// What the run's data implies for the network's input.
    #[must_use]
    pub fn images(&self) -> DataImages {
        let Some(data) = &self.data else { return DataImages::default() };
        let side = heterodyne_data::find(&data.name).ok().and_then(|entry| entry.side);
        let resized = |side: u32| data.img.is_some_and(|img| img != i64::from(side));
        DataImages { side, resized: side.is_some_and(resized), statistics: None }
    }

    /// How the run decodes pictures.
    #[must_use]
    pub fn decode(&self) -> Decode {
        let read = |data: &Data| Decode { exif: data.exif, max_pixels: data.max_pixels };
        self.data.as_ref().map_or_else(Decode::default, read)
    }
}

impl NetworkArgs {
    /// `table` overridden by the flags, with the weights at `weights`.
    ///
    /// # Errors
    /// A model option cannot be read.
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
    /// Reads the weights of `table`; if the table names no model, the weights must.
    ///
    /// # Errors
    /// The weights cannot be read, or no known model is named.
    pub fn read(mut table: NetworkTable) -> Result<Self> {
        let path = table.weights.clone().context("no weights given: add --weights FILE")?;
        let weights = ui::read_weights(Source::of(&table).context("no weights given: add --weights FILE")?)?;
        if table.model.is_empty() {
            let unnamed = || format!("{} does not name its model: add --model NAME", path.display());
            table.model = weights.model().with_context(unnamed)?.to_owned();
        }
        let def = heterodyne_models::find(&table.model)?;
        Ok(Self { def, table, weights, path })
    }

    /// The number of classes of the weights' classifier.
    ///
    /// # Errors
    /// The weights belong to another model, or have no classifier.
    pub fn classes(&self) -> Result<i64> {
        self.classes_or("")
    }

    /// Like [`Named::classes`], with `advice` for weights without a classifier.
    pub fn classes_or(&self, advice: &str) -> Result<i64> {
        let classes = self.weights.classes(self.def, &self.table.options)?;
        classes.with_context(|| format!("{} has no classifier `{}`{advice}", self.path.display(), self.def.head))
    }
}

fn named<T: serde::de::DeserializeOwned>(text: &str, choices: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|_| format!("expected {choices}"))
}

fn precision(text: &str) -> Result<Precision, String> {
    named(text, "fp32, tf32, bf16, fp16 or auto")
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
    if std.iter().all(|s| *s > 0.0) { Ok(std) } else { Err("a standard deviation must be greater than 0".to_owned()) }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "the share must be above 0 and at most 1".to_owned())
}
