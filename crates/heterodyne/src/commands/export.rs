//! `heterodyne export`: exports a trained network.
use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use heterodyne_export::{Export, Programs, Subject, Written, export};
use heterodyne_run::recipe::schema::Precision;
use heterodyne_train::network::{
    self, BuildOptions, Card,
    input::{self, DataImages, Resolved},
};
use tch::Device;

use super::{
    Outcome,
    network::{Named, NetworkArgs, Trained},
    python,
};
use crate::{print::say, ui};

/// Programs to write besides the weights.
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
    /// Run folder, or weights: a safetensors or PyTorch file, a folder with timm's config.json, or hf-hub:OWNER/NAME
    source: PathBuf,
    /// Output folder; must be empty or not exist
    #[arg(long)]
    out: PathBuf,
    /// Weights of the run folder
    #[arg(long, default_value = "last", value_parser = ["last", "best", "ema"])]
    weights: String,
    /// Programs to write besides the weights and timm's config.json
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["torchscript", "onnx"])]
    format: Vec<Format>,
    /// Model name; not needed if the weights name their model, as heterodyne's do
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let trained = Trained::find(&args.source, &args.weights)?;
    let named = trained.read(args.model.as_deref(), &args.network)?;
    let Named { def, weights, .. } = &named;
    let classes = named.classes()?;
    // Exported software has no loader: it resizes to the network's input at once.
    let images = DataImages { resized: false, ..trained.images() };
    let Resolved { input, table } = input::resolve(&named.table, def, Some(weights), images)?;
    let options = BuildOptions { classes, precision: Precision::Fp32, device: Device::Cpu, seed: 0 };
    let model = network::model(def, &table, input, Some(weights), options)?;
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
    let python = python::lines(&made, &args.out, &input, !card.class_names.is_empty());
    if args.json {
        let file = |f: &Written| serde_json::json!({"name": f.name, "bytes": f.bytes, "difference": f.difference});
        let files: Vec<_> = made.files.iter().map(file).collect();
        say!("{}", serde_json::json!({"model": def.name, "timm": made.timm, "files": files, "python": python}));
        return Ok(Outcome::Done);
    }
    say!("{}: {} at {} px, {classes} classes", args.out.display(), def.name, input.img);
    say!("evaluation transform: {input}");
    if let Some(report) = &model.loaded {
        say!("{}: {}", weights.name, ui::loaded(report));
    }
    show(&made);
    if let Some(python) = python {
        say!("\nIn Python, the class of a picture:\n");
        python.lines().for_each(|line| say!("    {line}"));
    }
    Ok(Outcome::Done)
}

/// The files that were written.
fn show(made: &Export) {
    for file in &made.files {
        let checked =
            file.difference.map_or_else(String::new, |d| format!("   logits differ by at most {d:.1e} of the largest"));
        say!("  {:<18} {:>9.2} MB{checked}", file.name, file.bytes as f64 / 1e6);
    }
    if made.timm.is_none() {
        say!("timm has no such network, so {} is not written", heterodyne_export::CONFIG);
    }
}
