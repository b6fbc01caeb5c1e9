//! `heterodyne export`: a trained network for use elsewhere.
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use heterodyne_export::{Programs, Subject, export};
use heterodyne_run::{
    folder::RunFolder,
    recipe::{
        self,
        schema::{NetworkTable, Recipe},
    },
};
use heterodyne_train::{
    card::Card,
    session::{self, Input},
    weights::Source,
};
use tch::Device;

use super::{
    Outcome,
    eval::{channels, spreads},
};
use crate::{print::say, ui};

/// Programs beside the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// `model.ts`
    Torchscript,
    /// `model.onnx`
    Onnx,
}

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder, or weights: a safetensors or PyTorch file, a folder with timm's config.json, hf-hub:OWNER/NAME
    source: PathBuf,
    /// Folder to write; it must not exist or be empty
    #[arg(long)]
    out: PathBuf,
    /// The dictionary of tensors in a PyTorch file that holds several
    #[arg(long)]
    section: Option<String>,
    /// Of a run folder: last, best or ema
    #[arg(long, default_value = "last", value_parser = ["last", "best", "ema"])]
    weights: String,
    /// What to write besides the weights and timm's config.json
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["torchscript", "onnx"])]
    format: Vec<Format>,
    /// Model; weights written by heterodyne name it themselves
    #[arg(long)]
    model: Option<String>,
    /// Input size in pixels; what the weights say, else the model's default
    #[arg(long)]
    img: Option<i64>,
    /// An option of the model, for example patch=4; may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Channel means, comma-separated
    #[arg(long, value_name = "R,G,B", value_parser = channels)]
    mean: Option<[f64; 3]>,
    /// Channel standard deviations, comma-separated
    #[arg(long, value_name = "R,G,B", value_parser = spreads)]
    std: Option<[f64; 3]>,
    /// Share of the shorter side that timm's centre crop keeps; 1 for the images of a run's dataset that are all of one size, else the
    /// model's
    #[arg(long)]
    crop: Option<f64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    if let Some(crop) = args.crop
        && !(crop > 0.0 && crop <= 1.0)
    {
        bail!("--crop {crop}: a share of the image is more than 0 and at most 1");
    }
    let exported = [heterodyne_export::CONFIG, heterodyne_export::WEIGHTS].iter().any(|name| args.source.join(name).exists());
    let (file, data) = if args.source.is_dir() && !exported {
        let folder = RunFolder::open(&args.source)?;
        let recipe: Recipe = serde_json::from_value(folder.read_plan()?).with_context(|| format!("{}", folder.plan().display()))?;
        (folder.weights(&args.weights), Some(recipe.data.name))
    } else {
        (args.source.clone(), None)
    };
    let weights = ui::read_weights(Source { path: &file, section: args.section.as_deref() })?;
    let name = args.model.clone().or_else(|| weights.model().map(str::to_owned));
    let def = heterodyne_models::find(&name.with_context(|| format!("{} does not say which model it is: add --model", file.display()))?)?;
    let mut table = NetworkTable {
        options: recipe::options(&args.options)?,
        img: args.img,
        mean: args.mean,
        std: args.std,
        ..NetworkTable::of(def.name)
    };
    let classes = weights.classes(def)?.with_context(|| format!("{} has no classifier `{}`", file.display(), def.head))?;
    let input = Input::of(&mut table, def, Some(&weights), None)?;
    let model = session::model(def, &table, input, classes, Some(&weights), Device::Cpu, 0)?;
    model.store.freeze();

    let of_one_size = data.is_some_and(|name| heterodyne_data::find(&name).is_ok_and(|d| d.side.is_some()));
    let crop = args.crop.unwrap_or(if of_one_size { 1.0 } else { def.input.crop });
    let card = Card {
        model: def.name.to_owned(),
        options: table.options.clone(),
        classes,
        img: input.img,
        mean: input.mean,
        std: input.std,
        class_names: weights.card().map(|c| c.class_names.clone()).unwrap_or_default(),
    };
    let subject = Subject {
        model: &model,
        options: &card.options,
        mean: card.mean,
        std: card.std,
        crop,
        class_names: &card.class_names,
        metadata: card.metadata()?,
        about: serde_json::to_string(&card)?,
    };
    let programs = Programs { torchscript: args.format.contains(&Format::Torchscript), onnx: args.format.contains(&Format::Onnx) };
    let made = export(&subject, programs, &args.out)?;

    if args.json {
        let files = made.files.iter().map(|f| serde_json::json!({"name": f.name, "bytes": f.bytes, "difference": f.difference}));
        let report = serde_json::json!({"model": def.name, "timm": made.timm, "files": files.collect::<Vec<_>>()});
        say!("{report}");
        return Ok(Outcome::Done);
    }
    say!("{}: {} at {} px, {classes} classes", args.out.display(), def.name, input.img);
    if let Some(report) = &model.loaded {
        say!("{}: {}", weights.name, ui::loaded(report));
    }
    for file in &made.files {
        let checked = file.difference.map_or_else(String::new, |d| format!("   logits differ by {d:.1e} of the largest"));
        say!("  {:<18} {:>9.2} MB{checked}", file.name, file.bytes as f64 / 1e6);
    }
    match made.timm {
        Some(_) => say!("in Python: timm.create_model(\"local-dir:{}\", pretrained=True)", args.out.display()),
        None => say!("timm has no such network, so there is no {}", heterodyne_export::CONFIG),
    }
    Ok(Outcome::Done)
}
