//! `heterodyne eval`: accuracy of weights on a dataset.
use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use heterodyne_data::EvalLoader;
use heterodyne_nn::InputSpec;
use heterodyne_run::{
    folder::RunFolder,
    recipe::schema::{Data, DeviceChoice, NetworkTable, Precision, Recipe},
};
use heterodyne_train::{
    data,
    eval::{Measured, evaluate},
    net::Net,
    present::{self, Images},
    session::device,
};

use super::{Outcome, present::PresentArgs, select::SelectArgs, source::DataArgs};
use crate::{
    print::{say, tell},
    ui,
};

/// Which images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Split {
    /// The test images, or the validation images where there are no others.
    Test,
    /// The validation images.
    Val,
    /// All training images.
    Train,
}

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder: evaluates its weights on its data
    run: Option<PathBuf>,
    /// Weights: last, best or ema of the run folder; a safetensors or PyTorch file, a folder with timm's config.json,
    /// hf-hub:OWNER/NAME
    #[arg(long)]
    weights: Option<PathBuf>,
    #[command(flatten)]
    select: SelectArgs,
    /// Model; weights written by heterodyne name it themselves
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    present: PresentArgs,
    #[command(flatten)]
    source: DataArgs,
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

pub(super) fn precision(text: &str) -> Result<Precision, String> {
    named(text, "fp32, bf16 or auto")
}

pub(super) fn device_choice(text: &str) -> Result<DeviceChoice, String> {
    named(text, "auto, cpu or cuda")
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let subject = Subject::of(args)?;
    let mut weights = ui::read_weights(args.select.of(&subject.weights))?;
    let mut table = subject.network;
    if table.model.is_empty() {
        let model = weights.model();
        table.model = model
            .with_context(|| format!("{} does not say which model it is: add --model", subject.weights.display()))?
            .to_owned();
    }
    let def = heterodyne_models::find(&table.model)?;
    let device = device(args.device)?;
    let splits = data::open(&subject.data)?;
    let dataset = match args.split {
        Split::Test => splits.reported(),
        Split::Val => splits.val(),
        Split::Train => splits.train(),
    };
    let others: Vec<_> = splits.all().map(|(name, _)| format!("--split {name}")).collect();
    let dataset = Arc::clone(dataset.with_context(|| format!("there is {}", others.join(", ")))?);
    if !args.json {
        splits.notices.iter().for_each(|notice| tell!("note: {notice}"));
    }
    if let Some(note) = weights.order_classes(def, &table.options, dataset.classes(), &dataset.describe())? {
        tell!("note: {note}");
    }
    let classes = weights
        .classes(def, &table.options)?
        .with_context(|| format!("{} has no classifier `{}`", subject.weights.display(), def.head))?;
    if dataset.classes().len() as i64 != classes {
        bail!(
            "{} knows {classes} classes and the data ({}) has {}",
            subject.weights.display(),
            dataset.describe(),
            dataset.classes().len()
        );
    }
    let resized = |side: &u32| subject.data.img.is_some_and(|img| img != i64::from(*side));
    let images = Images { side: splits.side, resized: splits.side.as_ref().is_some_and(resized), statistics: None };
    let input = present::settle(&mut table, def, Some(&weights), images)?;
    let net = Net::build(def, &table, input, classes, Some(&weights), args.precision, device, 0)?;
    if let (false, Some(report)) = (args.json, &net.loaded) {
        tell!("{}: {}", weights.name, ui::loaded(report));
    }
    let loaded = images.loaded(input);
    let loader =
        EvalLoader::new(Arc::clone(&dataset), (0..dataset.len()).collect(), args.batch, loaded, subject.data.workers)?;
    let bar = ui::bar("evaluating", dataset.len());
    let measured = evaluate(&net, &loader, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if args.json {
        say!("{}", json(&table.model, &input, &measured));
    } else {
        say!("{}", text(&table.model, input.img, &dataset.describe(), &measured));
        say!("  shown as: {input}");
    }
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
        let (mut network, data, weights) = match &args.run {
            Some(path) => {
                let folder = RunFolder::open(path)?;
                let recipe: Recipe = serde_json::from_value(folder.read_plan()?)
                    .with_context(|| format!("{}", folder.plan().display()))?;
                let weights = match args.weights.as_deref().and_then(|w| w.to_str()) {
                    None => folder.weights("last"),
                    Some(name @ ("last" | "best" | "ema")) => folder.weights(name),
                    Some(file) => PathBuf::from(file),
                };
                (recipe.student, Some(recipe.data), weights)
            }
            None => {
                let weights = args
                    .weights
                    .clone()
                    .context("which weights? Give a run folder, or --weights FILE with --data NAME")?;
                (NetworkTable::of(""), None, weights)
            }
        };
        if let Some(model) = &args.model {
            network.model.clone_from(model);
        }
        args.present.lay_over(&mut network);
        let data = args.source.over(data)?;
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

fn json(model: &str, input: &InputSpec, m: &Measured) -> String {
    serde_json::json!({"model": model, "input": input, "top1": m.top1, "top5": m.top5, "loss": m.loss, "images": m.images, "seconds": m.seconds})
        .to_string()
}
