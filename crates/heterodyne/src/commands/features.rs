//! `heterodyne features`: writes a network's outputs for images to a safetensors file.
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Result, bail};
use heterodyne_data::{Dataset, Decode, EvalLoader, Files};
use heterodyne_nn::{Output, Pass, StageKind, StageSpec, TapSpec, catch, file};
use heterodyne_run::recipe::schema::NetworkTable;
use heterodyne_shim::NoGrad;
use heterodyne_train::{
    device::device,
    network::{
        BuildOptions, Network,
        input::{self, DataImages, Resolved},
    },
};
use tch::{Kind, Tensor};

use super::{
    Outcome,
    network::{DeviceArgs, Named, NetworkArgs},
};
use crate::{
    print::{say, tell},
    ui,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model name (`heterodyne models` lists them)
    model: String,
    /// Weights: a safetensors or PyTorch file, a folder with timm's config.json, or hf-hub:OWNER/NAME
    #[arg(long)]
    weights: PathBuf,
    /// Image files or folders, or one safetensors file with a normalised tensor `x` (B,3,H,W)
    #[arg(long, required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Safetensors file to write: `logits`, `embedding`, `stage1` to `stage4` in float32
    #[arg(long)]
    out: PathBuf,
    /// Number of classes [default: from the weights]
    #[arg(long)]
    num_classes: Option<i64>,
    /// Ignore the EXIF orientation of images
    #[arg(long)]
    no_exif: bool,
    /// Largest number of pixels per image
    #[arg(long, value_name = "N", default_value_t = Decode::default().max_pixels)]
    max_pixels: u64,
    #[command(flatten)]
    network: NetworkArgs,
    /// Images per batch
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(i64).range(1..=65536))]
    batch: i64,
    #[command(flatten)]
    place: DeviceArgs,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let named = Named::read(args.network.over(NetworkTable::of(&args.model), &args.weights)?)?;
    let Named { def, weights, .. } = &named;
    let images = Images::open(&args.input, Decode { exif: !args.no_exif, max_pixels: args.max_pixels })?;
    if let Images::Files(files) = &images
        && !files.left_out().is_empty()
    {
        tell!("note: {} images{}", files.len(), files.left_out());
    }
    let table = NetworkTable { img: images.side(named.table.img)?, ..named.table.clone() };
    let Resolved { input, table } = input::resolve(&table, def, Some(weights), DataImages::default())?;
    let classes = args.num_classes.map_or_else(|| named.classes_or(": give --num-classes"), Ok)?;
    let options =
        BuildOptions { classes, precision: args.place.precision, device: device(args.place.device)?, seed: 0 };
    let net = Network::build(def, &table, input, Some(weights), options)?;

    let count = images.len();
    let tensors = shapes(net.taps(), count);
    let metadata = HashMap::from([
        ("model".to_owned(), def.name.to_owned()),
        ("img".to_owned(), input.img.to_string()),
        ("files".to_owned(), images.names()?),
        ("format".to_owned(), "pt".to_owned()),
    ]);
    let mut writer = file::RowWriter::create(&args.out, &tensors, metadata)?;
    let bar = ui::bar("computing", usize::try_from(count)?);
    let mut first = 0;
    images.each(&net, args.batch, |out| {
        check_finite(&out.logits, first, &images)?;
        let n = out.logits.size()[0];
        writer.write("logits", first, &out.logits)?;
        if let Some(embedding) = &out.embedding {
            writer.write("embedding", first, embedding)?;
        }
        for (i, stage) in (1..).zip(&out.stages) {
            writer.write(&format!("stage{i}"), first, stage.tensor())?;
        }
        first += n;
        bar.set_position(first as u64);
        Ok(())
    })?;
    bar.finish_and_clear();
    writer.finish()?;
    say!("{}: {} at {} px, {count} images", args.out.display(), def.name, input.img);
    if let Some(report) = &net.loaded {
        say!("{}: {}", weights.name, ui::loaded(report));
    }
    for (name, shape) in tensors {
        say!("  {name:10} {shape:?}");
    }
    Ok(Outcome::Done)
}

/// The images to run through the network.
enum Images {
    /// Image files, to be resized, cropped and normalised as in an evaluation.
    Files(Arc<Files>),
    /// Normalised images (B,3,H,H) and their file.
    Normalised(Tensor, PathBuf),
}

impl Images {
    fn open(paths: &[PathBuf], decode: Decode) -> Result<Self> {
        let is_tensors = |path: &Path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
        let [path] = paths else {
            if let Some(path) = paths.iter().find(|path| is_tensors(path)) {
                bail!("{}: a safetensors file must be the only input", path.display());
            }
            return Ok(Self::Files(Arc::new(Files::open(paths, decode)?)));
        };
        if !is_tensors(path) {
            return Ok(Self::Files(Arc::new(Files::open(paths, decode)?)));
        }
        let (mut tensors, _) = file::read(path)?;
        let names = || tensors.keys().take(5).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let Some(x) = tensors.get("x").map(Tensor::shallow_clone) else {
            bail!("{}: has no tensor `x` (B,3,H,W), only {}", path.display(), names());
        };
        tensors.clear();
        match x.size()[..] {
            [b, 3, h, w] if b > 0 && h > 0 && h == w && x.is_floating_point() => Ok(Self::Normalised(x, path.clone())),
            _ => bail!(
                "{}: `x` is {:?} {:?}; expected normalised square images (B,3,H,H) in floating point",
                path.display(),
                x.kind(),
                x.size()
            ),
        }
    }

    fn len(&self) -> i64 {
        match self {
            Self::Files(files) => files.len() as i64,
            Self::Normalised(x, _) => x.size()[0],
        }
    }

    /// The input size: that of the tensor, or `wanted` for image files.
    fn side(&self, wanted: Option<i64>) -> Result<Option<i64>> {
        let Self::Normalised(x, path) = self else { return Ok(wanted) };
        let side = x.size()[3];
        if let Some(wanted) = wanted
            && wanted != side
        {
            bail!("{}: `x` has images of {side} px, but --img is {wanted}", path.display());
        }
        Ok(Some(side))
    }

    /// The files as a JSON list.
    fn names(&self) -> Result<String> {
        let paths = match self {
            Self::Files(files) => files.paths(),
            Self::Normalised(_, path) => std::slice::from_ref(path),
        };
        Ok(serde_json::to_string(&paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>())?)
    }

    /// The name of image `index`, for messages.
    fn name(&self, index: i64) -> String {
        match self {
            Self::Files(files) => files.paths()[index as usize].display().to_string(),
            Self::Normalised(_, path) => format!("image {index} of `x` in {}", path.display()),
        }
    }

    /// Passes the network's outputs to `take`, batch by batch.
    fn each(&self, net: &Network, batch: i64, mut take: impl FnMut(&Output) -> Result<()>) -> Result<()> {
        let device = net.device();
        match self {
            Self::Files(files) => {
                let dataset: Arc<dyn Dataset> = Arc::clone(files) as _;
                let loader = EvalLoader::new(dataset, (0..files.len()).collect(), batch as usize, net.input, 0)?;
                for loaded in loader.iter() {
                    let images = loaded?.images.to_device(device);
                    take(&guarded(|| Ok(net.infer(&images, Pass::TEACH)?))?)?;
                }
            }
            Self::Normalised(x, _) => {
                for part in x.split(batch, 0) {
                    let infer = || {
                        let (_guard, _cast) = (NoGrad::new(), net.autocast()?);
                        Ok(net.module.forward(&part.to_device(device).to_kind(Kind::Float), Pass::TEACH))
                    };
                    take(&guarded(infer)?)?;
                }
            }
        }
        Ok(())
    }
}

/// Runs `work`; a libtorch panic inside it becomes an error.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch(|| "the network".to_owned(), || Ok(work()))?
}

/// Names and shapes of the tensors written for `count` images.
fn shapes(taps: &TapSpec, count: i64) -> Vec<(String, Vec<i64>)> {
    let stage = |s: &StageSpec| match s.kind {
        StageKind::Map => vec![count, s.channels, s.grid.0, s.grid.1],
        StageKind::Tokens { prefix } => vec![count, prefix + s.grid.0 * s.grid.1, s.channels],
    };
    let head = [("logits".to_owned(), vec![count, taps.classes])];
    let embedding = taps.embedding.map(|d| ("embedding".to_owned(), vec![count, d]));
    let stages = (1..).zip(&taps.stages).map(|(i, s)| (format!("stage{i}"), stage(s)));
    head.into_iter().chain(embedding).chain(stages).collect()
}

fn check_finite(logits: &Tensor, first: i64, images: &Images) -> Result<()> {
    let finite = logits.isfinite().all_dim(1, false);
    let bad = finite.logical_not().nonzero().flatten(0, -1);
    if bad.numel() == 0 {
        return Ok(());
    }
    bail!(
        "the network's logits for {} are not finite: its weights or activations have overflowed",
        images.name(first + bad.int64_value(&[0]))
    )
}
