//! `heterodyne eval`: evaluates weights on a dataset.
use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use heterodyne_data::EvalLoader;
use heterodyne_nn::InputSpec;
use heterodyne_run::{
    folder::RunFolder,
    recipe::schema::{Data, NetworkTable, Recipe},
};
use heterodyne_train::{
    device::device,
    network::{
        BuildOptions, Network,
        input::{self, DataImages, Resolved},
    },
    run::eval::{Measured, evaluate},
    session::data,
};

use super::{
    Outcome,
    dataset::DataArgs,
    network::{DeviceArgs, Named, NetworkArgs},
};
use crate::{
    print::{say, tell},
    ui,
};

/// The split to evaluate on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Split {
    /// Test images, or validation images if there is no test split
    Test,
    /// Validation images
    Val,
    /// All training images
    Train,
}

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder; its weights are evaluated on its data
    run: Option<PathBuf>,
    /// Weights: last, best or ema of the run folder, a safetensors or PyTorch file, a folder with timm's config.json,
    /// or hf-hub:OWNER/NAME
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Model name; not needed if the weights name their model, as heterodyne's do
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    source: DataArgs,
    /// Images to evaluate on
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    /// Images per batch
    #[arg(long, default_value_t = 250, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    batch: usize,
    #[command(flatten)]
    place: DeviceArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let (table, data) = subject(args)?;
    let mut named = Named::read(table)?;
    let splits = data::open(&data)?;
    let dataset = match args.split {
        Split::Test => splits.reported(),
        Split::Val => splits.val(),
        Split::Train => splits.train(),
    };
    let others: Vec<_> = splits.all().map(|(name, _)| format!("--split {name}")).collect();
    let dataset =
        Arc::clone(dataset.with_context(|| format!("this split is missing (available: {})", others.join(", ")))?);
    let ordered =
        named.weights.order_classes(named.def, &named.table.options, dataset.classes(), &dataset.describe())?;
    if !args.json {
        splits.notices.iter().chain(&ordered).for_each(|note| tell!("note: {note}"));
    }
    let classes = named.classes()?;
    if dataset.classes().len() as i64 != classes {
        bail!(
            "{} has {classes} classes, but the data ({}) has {}",
            named.weights.name,
            dataset.describe(),
            dataset.classes().len()
        );
    }
    let resized = |side: u32| data.img.is_some_and(|img| img != i64::from(side));
    let images = DataImages { side: splits.side, resized: splits.side.is_some_and(resized), statistics: None };
    let Resolved { input, table } = input::resolve(&named.table, named.def, Some(&named.weights), images)?;
    let options =
        BuildOptions { classes, precision: args.place.precision, device: device(args.place.device)?, seed: 0 };
    let network = Network::build(named.def, &table, input, Some(&named.weights), options)?;
    if let (false, Some(report)) = (args.json, &network.loaded) {
        tell!("{}: {}", named.weights.name, ui::loaded(report));
    }
    let all = (0..dataset.len()).collect();
    let loader = EvalLoader::new(Arc::clone(&dataset), all, args.batch, images.loaded(input), data.workers)?;
    let bar = ui::bar("evaluating", dataset.len());
    let measured = evaluate(&network, &loader, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if args.json {
        say!("{}", json(&table.model, &input, &measured));
    } else {
        say!("{}", text(&table.model, input.img, &dataset.describe(), &measured));
        say!("  evaluation transform: {input}");
    }
    Ok(Outcome::Done)
}

/// The network and the data to evaluate, from a run or from the flags.
fn subject(args: &Args) -> Result<(NetworkTable, Data)> {
    let (mut table, data, weights) = match &args.run {
        Some(path) => {
            let folder = RunFolder::open(path)?;
            let recipe: Recipe =
                serde_json::from_value(folder.read_plan()?).with_context(|| format!("{}", folder.plan().display()))?;
            let weights = match args.weights.as_deref().and_then(|w| w.to_str()) {
                None => folder.weights("last"),
                Some(name @ ("last" | "best" | "ema")) => folder.weights(name),
                Some(file) => PathBuf::from(file),
            };
            (recipe.student, Some(recipe.data), weights)
        }
        None => {
            let weights = args.weights.clone();
            let weights = weights.context("no weights given: give a run folder, or --weights FILE and --data NAME")?;
            (NetworkTable::of(""), None, weights)
        }
    };
    if let Some(model) = &args.model {
        table.model.clone_from(model);
    }
    Ok((args.network.over(table, &weights)?, args.source.over(data)?))
}

fn text(model: &str, img: i64, data: &str, m: &Measured) -> String {
    let top5 = m.top5.map_or_else(String::new, |t| format!(", top-5 {t:.2} %"));
    format!(
        "{model} at {img} px on {data}: top-1 {:.2} %{top5}, loss {:.4}, calibration error {:.2} % ({} images, \
         {:.1} s, {:.0} img/s)",
        m.top1,
        m.loss,
        m.calibration_error,
        m.images,
        m.seconds,
        m.images as f64 / m.seconds
    )
}

fn json(model: &str, input: &InputSpec, m: &Measured) -> String {
    serde_json::json!({
        "model": model,
        "input": input,
        "top1": m.top1,
        "top5": m.top5,
        "loss": m.loss,
        "calibration_error": m.calibration_error,
        "per_class": m.per_class.iter().map(|(images, correct)| [*correct, *images]).collect::<Vec<_>>(),
        "images": m.images,
        "seconds": m.seconds,
    })
    .to_string()
}
