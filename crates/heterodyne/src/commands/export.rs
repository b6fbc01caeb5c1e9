//! `heterodyne export`: a trained network for use elsewhere.
use std::path::PathBuf;

use anyhow::{Context, Result};
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
    present::{self, Images},
    session,
};
use tch::Device;

use super::{Outcome, present::PresentArgs, select::SelectArgs};
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
    #[command(flatten)]
    select: SelectArgs,
    /// Of a run folder: last, best or ema
    #[arg(long, default_value = "last", value_parser = ["last", "best", "ema"])]
    weights: String,
    /// What to write besides the weights and timm's config.json
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["torchscript", "onnx"])]
    format: Vec<Format>,
    /// Model; weights written by heterodyne name it themselves
    #[arg(long)]
    model: Option<String>,
    /// An option of the model, for example patch=4; may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    #[command(flatten)]
    present: PresentArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let exported =
        [heterodyne_export::CONFIG].iter().chain(&heterodyne_hub::WEIGHTS).any(|name| args.source.join(name).exists());
    let (file, data) = if args.source.is_dir() && !exported {
        let folder = RunFolder::open(&args.source)?;
        let recipe: Recipe =
            serde_json::from_value(folder.read_plan()?).with_context(|| format!("{}", folder.plan().display()))?;
        (folder.weights(&args.weights), Some(recipe.data.name))
    } else {
        (args.source.clone(), None)
    };
    let weights = ui::read_weights(args.select.of(&file))?;
    let name = args.model.clone().or_else(|| weights.model().map(str::to_owned));
    let name = name.with_context(|| format!("{} does not say which model it is: add --model", file.display()))?;
    let def = heterodyne_models::find(&name)?;
    let mut table = NetworkTable { options: recipe::options(&args.options)?, ..NetworkTable::of(&name) };
    args.present.lay_over(&mut table);
    let classes = weights
        .classes(def, &table.options)?
        .with_context(|| format!("{} has no classifier `{}`", file.display(), def.head))?;
    let side = data.and_then(|name| heterodyne_data::find(&name).ok().and_then(|d| d.side));
    let input = present::settle(&mut table, def, Some(&weights), Images { side, ..Images::default() })?;
    let model = session::model(def, &table, input, classes, Some(&weights), Device::Cpu, 0)?;
    model.store.freeze();

    let card = Card {
        model: def.name.to_owned(),
        options: table.options.clone(),
        classes,
        input: input.into(),
        class_names: weights.class_names().to_vec(),
    };
    let subject = Subject {
        model: &model,
        options: &card.options,
        input,
        class_names: &card.class_names,
        metadata: card.metadata()?,
        about: serde_json::to_string(&card)?,
    };
    let programs =
        Programs { torchscript: args.format.contains(&Format::Torchscript), onnx: args.format.contains(&Format::Onnx) };
    let made = export(&subject, programs, &args.out)?;

    if args.json {
        let files = made
            .files
            .iter()
            .map(|f| serde_json::json!({"name": f.name, "bytes": f.bytes, "difference": f.difference}));
        let report = serde_json::json!({"model": def.name, "timm": made.timm, "files": files.collect::<Vec<_>>()});
        say!("{report}");
        return Ok(Outcome::Done);
    }
    say!("{}: {} at {} px, {classes} classes", args.out.display(), def.name, input.img);
    say!("evaluated as: {input}");
    if let Some(report) = &model.loaded {
        say!("{}: {}", weights.name, ui::loaded(report));
    }
    for file in &made.files {
        let checked =
            file.difference.map_or_else(String::new, |d| format!("   logits differ by {d:.1e} of the largest"));
        say!("  {:<18} {:>9.2} MB{checked}", file.name, file.bytes as f64 / 1e6);
    }
    match made.timm {
        Some(_) => say!("in Python: timm.create_model(\"local-dir:{}\", pretrained=True)", args.out.display()),
        None => say!("timm has no such network, so there is no {}", heterodyne_export::CONFIG),
    }
    Ok(Outcome::Done)
}
