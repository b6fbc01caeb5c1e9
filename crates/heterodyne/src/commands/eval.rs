//! `heterodyne eval`: accuracy of weights on a dataset.
use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use heterodyne_data::EvalLoader;
use heterodyne_run::{
    folder::RunFolder,
    recipe::schema::{Data, DeviceChoice, NetworkTable, Precision, Recipe},
};
use heterodyne_train::{
    eval::{Measured, evaluate},
    net::Net,
    session::{Input, device},
    weights::Source,
};

use super::Outcome;
use crate::{
    print::{say, tell},
    ui,
};

/// Which images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Split {
    /// The test images.
    Test,
    /// All training images.
    Train,
}

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder: evaluates its weights on its data
    run: Option<PathBuf>,
    /// Weights: last, best or ema of the run folder; a safetensors or PyTorch file, a folder with timm's config.json, hf-hub:OWNER/NAME
    #[arg(long)]
    weights: Option<PathBuf>,
    /// The dictionary of tensors in a PyTorch file that holds several
    #[arg(long)]
    section: Option<String>,
    /// Model; weights written by heterodyne name it themselves
    #[arg(long)]
    model: Option<String>,
    /// Input size in pixels
    #[arg(long)]
    img: Option<i64>,
    /// Channel means, comma-separated
    #[arg(long, value_name = "R,G,B", value_parser = channels)]
    mean: Option<[f64; 3]>,
    /// Channel standard deviations, comma-separated
    #[arg(long, value_name = "R,G,B", value_parser = spreads)]
    std: Option<[f64; 3]>,
    /// Dataset: digits, cifar10, cifar100 or folder
    #[arg(long)]
    data: Option<String>,
    /// File or folder of the dataset
    #[arg(long)]
    path: Option<PathBuf>,
    /// Images to measure on
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    /// Images per step
    #[arg(long, default_value_t = 250, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    batch: usize,
    /// fp32, bf16 or auto
    #[arg(long, default_value = "fp32", value_parser = precision)]
    precision: Precision,
    /// auto, cpu or cuda
    #[arg(long, default_value = "auto", value_parser = device_choice)]
    device: DeviceChoice,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn named<T: serde::de::DeserializeOwned>(text: &str, choices: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|_| format!("expected {choices}"))
}

/// Numbers for the channels R, G, B.
pub(super) fn channels(text: &str) -> Result<[f64; 3], String> {
    let numbers: Vec<f64> = text.split(',').filter_map(|part| part.trim().parse().ok()).filter(|x: &f64| x.is_finite()).collect();
    match numbers[..] {
        [r, g, b] if text.split(',').count() == 3 => Ok([r, g, b]),
        _ => Err("expected three numbers, for example 0.485,0.456,0.406".to_owned()),
    }
}

/// As [`channels`], all of them above 0.
pub(super) fn spreads(text: &str) -> Result<[f64; 3], String> {
    let std = channels(text)?;
    if std.iter().all(|s| *s > 0.0) { Ok(std) } else { Err("a standard deviation is greater than 0".to_owned()) }
}

pub(super) fn precision(text: &str) -> Result<Precision, String> {
    named(text, "fp32, bf16 or auto")
}

pub(super) fn device_choice(text: &str) -> Result<DeviceChoice, String> {
    named(text, "auto, cpu or cuda")
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let subject = Subject::of(args)?;
    let weights = ui::read_weights(Source { path: &subject.weights, section: args.section.as_deref() })?;
    let mut table = subject.network;
    if table.model.is_empty() {
        let model = weights.model();
        table.model =
            model.with_context(|| format!("{} does not say which model it is: add --model", subject.weights.display()))?.to_owned();
    }
    let def = heterodyne_models::find(&table.model)?;
    let device = device(args.device)?;
    let classes = weights.classes(def)?.with_context(|| format!("{} has no classifier `{}`", subject.weights.display(), def.head))?;
    let splits = heterodyne_data::open(&subject.data.name, subject.data.path.as_deref())?;
    let dataset = if args.split == Split::Test { splits.test } else { splits.train };
    if dataset.classes().len() as i64 != classes {
        bail!(
            "{} knows {classes} classes and the data ({}) has {}",
            subject.weights.display(),
            dataset.describe(),
            dataset.classes().len()
        );
    }
    let input = Input::of(&mut table, def, Some(&weights), None)?;
    let net = Net::build(def, &table, input, classes, Some(&weights), args.precision, device, 0)?;
    if let (false, Some(report)) = (args.json, &net.loaded) {
        tell!("{}: {}", weights.name, ui::loaded(report));
    }
    let native = splits.side.map(i64::from);
    let side = subject.data.img.or(native).unwrap_or(input.img);
    let crop = if native == Some(side) { 1.0 } else { def.input.crop };
    let side = u32::try_from(side).context("the image size")?;
    let loader = EvalLoader::new(Arc::clone(&dataset), (0..dataset.len()).collect(), args.batch, side, crop, subject.data.workers)?;
    let bar = ui::bar("evaluating", dataset.len());
    let measured = evaluate(&net, &loader, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    say!("{}", if args.json { json(&table.model, &measured) } else { text(&table.model, input.img, &dataset.describe(), &measured) });
    Ok(Outcome::Done)
}

/// What is measured on what.
struct Subject {
    network: NetworkTable,
    weights: PathBuf,
    data: Data,
}

impl Subject {
    fn of(args: &Args) -> Result<Self> {
        let (mut network, mut data, weights) = match &args.run {
            Some(path) => {
                let folder = RunFolder::open(path)?;
                let recipe: Recipe = serde_json::from_value(folder.read_plan()?).with_context(|| format!("{}", folder.plan().display()))?;
                let weights = match args.weights.as_deref().and_then(|w| w.to_str()) {
                    None => folder.weights("last"),
                    Some(name @ ("last" | "best" | "ema")) => folder.weights(name),
                    Some(file) => PathBuf::from(file),
                };
                (recipe.student, recipe.data, weights)
            }
            None => {
                let weights = args.weights.clone().context("which weights? Give a run folder, or --weights FILE with --data NAME")?;
                let name = args.data.clone().context("which data? Add --data NAME (heterodyne data lists the names)")?;
                (NetworkTable::of(""), Data::of(&name), weights)
            }
        };
        if let Some(model) = &args.model {
            network.model.clone_from(model);
        }
        if let Some(name) = &args.data {
            data.name.clone_from(name);
        }
        network.img = args.img.or(network.img);
        network.mean = args.mean.or(network.mean);
        network.std = args.std.or(network.std);
        data.path = args.path.clone().or(data.path);
        network.adapt_head = false;
        Ok(Self { network, weights, data })
    }
}

fn text(model: &str, img: i64, data: &str, m: &Measured) -> String {
    let top5 = m.top5.map_or_else(String::new, |t| format!(", top-5 {t:.2} %"));
    format!(
        "{model} at {img} px on {data}: top-1 {:.2} %{top5}, loss {:.4} ({} images, {:.1} s, {:.0} img/s)",
        m.top1,
        m.loss,
        m.images,
        m.seconds,
        m.images as f64 / m.seconds
    )
}

fn json(model: &str, m: &Measured) -> String {
    serde_json::json!({"model": model, "top1": m.top1, "top5": m.top5, "loss": m.loss, "images": m.images, "seconds": m.seconds})
        .to_string()
}
