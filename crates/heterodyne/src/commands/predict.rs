//! `heterodyne predict`: names the classes of pictures.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, bail};
use heterodyne_data::{Dataset, Decode, EvalLoader, Files, Image, transforms};
use heterodyne_nn::{Error, InputSpec, Pass, catch};
use heterodyne_train::{
    device::device,
    network::{
        BuildOptions, Network,
        input::{self, Resolved},
    },
};
use tch::{Kind, Tensor};

use super::{
    Outcome,
    network::{DeviceArgs, NetworkArgs, Trained},
};
use crate::print::{say, tell};

/// Number of classes that are printed for a single picture.
const TOP: usize = 5;
/// Longest class name, in characters, to which the column of names is widened.
const WIDEST: usize = 24;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder, or weights: a safetensors or PyTorch file, a folder of `heterodyne export` or of timm, or
    /// hf-hub:OWNER/NAME
    source: PathBuf,
    /// Pictures, and folders of pictures at any depth
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    /// Classes per picture, the most probable first [default: 5 for one picture, 1 for several]
    #[arg(long, value_name = "K", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    top: Option<usize>,
    /// Weights of the run folder
    #[arg(long, default_value = "last", value_parser = ["last", "best", "ema"])]
    weights: String,
    /// Model name; not needed if the weights name their model, as heterodyne's do
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Ignore the EXIF orientation of pictures
    #[arg(long)]
    no_exif: bool,
    /// Largest number of pixels per picture [default: the run's, else 178956970]
    #[arg(long, value_name = "N")]
    max_pixels: Option<u64>,
    /// Pictures per batch
    #[arg(long, default_value_t = 64, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    batch: usize,
    #[command(flatten)]
    place: DeviceArgs,
    /// Print one JSON object per picture
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let trained = Trained::find(&args.source, &args.weights)?;
    let named = trained.read(args.model.as_deref(), &args.network)?;
    let classes = named.classes()?;
    let images = trained.images();
    let Resolved { input, table } = input::resolve(&named.table, named.def, Some(&named.weights), images)?;
    let options =
        BuildOptions { classes, precision: args.place.precision, device: device(args.place.device)?, seed: 0 };
    let network = Network::build(named.def, &table, input, Some(&named.weights), options)?;

    let read = trained.decode();
    let decode = Decode { exif: read.exif && !args.no_exif, max_pixels: args.max_pixels.unwrap_or(read.max_pixels) };
    let (files, mut failed) = Files::find(&args.pictures, decode);
    if !args.json && !files.left_out().is_empty() {
        tell!("note: {} pictures{}", files.len(), files.left_out());
    }
    let total = files.len() + failed.len();
    let single = matches!(&args.pictures[..], [one] if !one.is_dir());
    let show = Show {
        names: named.weights.class_names(),
        width: files.paths().iter().map(|path| path.display().to_string().chars().count()).max().unwrap_or(0),
        single,
        json: args.json,
    };
    failed.iter().for_each(|fault| show.failure(fault));
    if !files.is_empty() {
        let top = args.top.unwrap_or(if single { TOP } else { 1 });
        failed.extend(predict(&network, files, images.loaded(input), args.batch, top, &show)?);
    }
    if !failed.is_empty() {
        bail!("{} of {total} {} no prediction", failed.len(), if total == 1 { "picture has" } else { "pictures have" });
    }
    Ok(Outcome::Done)
}

/// Predicts batch by batch and shows the result of each picture; returns why pictures have none.
fn predict(
    network: &Network,
    files: Files,
    load: InputSpec,
    batch: usize,
    top: usize,
    show: &Show,
) -> Result<Vec<Error>> {
    let count = files.len();
    let loaded = Arc::new(Loaded { files, input: load, broken: Mutex::default() });
    let dataset: Arc<dyn Dataset> = Arc::clone(&loaded) as _;
    let whole = InputSpec::whole(load.img, load.mean, load.std);
    let mut failed = Vec::new();
    for batch in EvalLoader::new(dataset, (0..count).collect(), batch, whole, 0)?.iter() {
        let batch = batch?;
        let rows = catch(|| "the network".to_owned(), || Ok(ranked(network, &batch.images, top)))??;
        for (index, row) in batch.indices.into_iter().zip(rows) {
            let path = &loaded.files.paths()[index];
            let broken = loaded.broken.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
            match broken {
                None if row.iter().all(|(_, p)| p.is_finite()) => show.prediction(path, &row),
                broken => {
                    let overflow = "its logits are NaN or infinite: the weights or activations have overflowed";
                    let fault = broken.unwrap_or_else(|| Error::file(path, overflow));
                    show.failure(&fault);
                    failed.push(fault);
                }
            }
        }
    }
    Ok(failed)
}

/// The `top` most probable classes of uint8 images (B,3,H,W), with their probabilities in float32.
fn ranked(network: &Network, images: &Tensor, top: usize) -> Result<Vec<Vec<(i64, f32)>>, Error> {
    let output = network.infer(&images.to_device(network.device()), Pass::EVAL);
    let logits_bc = output.map_err(|e| Error::invalid(e.to_string()))?.logits;
    let k = i64::try_from(top).unwrap_or(i64::MAX).min(network.taps().classes);
    let (p_bk, class_bk) = logits_bc.f_softmax(-1, Kind::Float)?.f_topk(k, -1, true, true)?;
    let p = Vec::<Vec<f32>>::try_from(p_bk)?;
    Ok(Vec::<Vec<i64>>::try_from(class_bk)?.into_iter().zip(p).map(|(c, p)| c.into_iter().zip(p).collect()).collect())
}

/// Pictures as a network sees them. A broken one is black and its reason is kept, so the others of its batch go on.
struct Loaded {
    files: Files,
    input: InputSpec,
    broken: Mutex<BTreeMap<usize, Error>>,
}

impl Dataset for Loaded {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        self.files.classes()
    }

    fn label(&self, index: usize) -> usize {
        self.files.label(index)
    }

    fn image(&self, index: usize) -> heterodyne_nn::Result<Image> {
        let path = &self.files.paths()[index];
        let view = || transforms::evaluation(self.files.image(index)?, &self.input);
        catch(|| path.display().to_string(), view).or_else(|e| {
            let fault = match e {
                Error::File { .. } => e,
                other => Error::file(path, other),
            };
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).insert(index, fault);
            Image::new(1, 1, vec![0; 3])
        })
    }

    fn describe(&self) -> String {
        self.files.describe()
    }
}

/// How results are printed.
struct Show<'a> {
    /// Class names; empty if the weights have none.
    names: &'a [String],
    /// Characters of the longest path.
    width: usize,
    /// Whether the path is left out, because only one picture was given.
    single: bool,
    json: bool,
}

impl Show<'_> {
    fn prediction(&self, path: &Path, row: &[(i64, f32)]) {
        if self.json {
            let class = |&(class, p): &(i64, f32)| {
                let name = self.names.get(class as usize);
                serde_json::json!({"class": class, "name": name, "probability": p})
            };
            let classes: Vec<_> = row.iter().map(class).collect();
            say!("{}", serde_json::json!({"path": path.display().to_string(), "classes": classes}));
            return;
        }
        let length = |name: &str| name.chars().count();
        let longest = match self.single {
            true => row.iter().map(|(class, _)| length(&self.name(*class))).max(),
            false => self.names.iter().map(|name| length(name)).filter(|length| *length <= WIDEST).max(),
        };
        let longest = longest.unwrap_or(0);
        for (class, p) in row {
            let name = self.name(*class);
            match self.single {
                true => say!("{name:longest$}  {p:.2}"),
                false => say!("{:width$}  {name:longest$}  {p:.2}", path.display().to_string(), width = self.width),
            }
        }
    }

    fn failure(&self, fault: &Error) {
        match fault {
            Error::File { path, message } if self.json => {
                say!("{}", serde_json::json!({"path": path.display().to_string(), "error": message}));
            }
            _ => tell!("error: {fault}"),
        }
    }

    fn name(&self, class: i64) -> String {
        self.names.get(class as usize).cloned().unwrap_or_else(|| class.to_string())
    }
}
