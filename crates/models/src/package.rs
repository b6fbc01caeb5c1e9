//! Networks that are not of this registry: files that PyTorch has written, a TorchScript program or a package of
//! compiled code (PT2, `torch.export` and AOTInductor). They teach with whatever they give.
//!
//! A program takes normalised images (B,3,H,W) in float32, any B, and gives the logits (B,C), or a dictionary:
//!
//! | key | |
//! |---|---|
//! | `logits` | (B,C), before any softmax; required. Their logarithm (`log_softmax`) is as good: a row less a number of its own |
//! | `embedding` | (B,D), the pooled features that the classifier sees |
//! | `stage1`.. | from shallow to deep: a map (B,C,H,W), or tokens (B, prefix + H*W, C) |
//!
//! Other keys are ignored. The file may describe itself in JSON ([`Description`]); `tools/package_teacher.py` writes
//! files that do.
use std::{cell::RefCell, collections::HashMap, path::Path};

use heterodyne_nn::{
    Error, FeatureMap, Module, Output, Pass, Result, StageKind, StageSpec, TapSpec, shim::script::Package as Program,
};
use heterodyne_pickle::Content;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// What a file says of itself.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Description {
    /// What the network is called.
    pub name: String,
    /// Side of the square input in pixels.
    pub img: i64,
    /// Mean of the channels R, G, B, from 0 to 1.
    pub mean: [f64; 3],
    /// Standard deviation of the channels.
    pub std: [f64; 3],
    /// Share of the shorter side that an evaluation's centre crop keeps.
    #[serde(default)]
    pub crop: Option<f64>,
    /// Names of the outputs in order, for compiled code, which has none.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// The stages, for tokens, whose grid does not follow from their number.
    #[serde(default)]
    pub stages: Vec<StageDescription>,
}

/// A stage as a file describes it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct StageDescription {
    /// Rows and columns.
    pub grid: [i64; 2],
    /// Leading tokens that stand for no place in the image.
    #[serde(default)]
    pub prefix: i64,
}

/// A network from a file, ready to run.
pub struct Package {
    /// The network.
    pub net: Box<dyn Module>,
    /// What the file says of itself; `None` where it says nothing.
    pub about: Option<Description>,
    /// Side of the input in pixels with which it was tried.
    pub img: i64,
}

/// Loads `path` for `device`. `img` is the side of its input in pixels, needed where the file does not say it. What it
/// offers is found by running it on one, two and three images of noise; a program that another number of images than
/// its own breaks is refused, and so are one that gives probabilities and one that is in training mode.
///
/// The file is a program, and runs with the rights of this process: load files of people whom you trust.
pub fn open(path: &Path, device: Device, img: Option<i64>) -> Result<Package> {
    let mut program = match kind(path)? {
        Format::TorchScript => Program::torchscript(path, device),
        Format::Compiled => Program::compiled(path, device),
    }
    .map_err(|e| Error::file(path, format!("cannot be loaded ({e})")))?;
    let text = program.about().map_err(|e| Error::file(path, e))?;
    let about = match text.as_str() {
        "" => None,
        text => Some(
            serde_json::from_str::<Description>(text)
                .map_err(|e| Error::file(path, format!("its description is damaged ({e})")))?,
        ),
    };
    let Some(img) = img.or(about.as_ref().map(|a| a.img)) else {
        return Err(Error::file(
            path,
            "does not say for which images it was made: set `img` (pixels), `mean` and `std`",
        ));
    };
    if !(1..=crate::MAX_IMG).contains(&img) {
        return Err(Error::file(path, format!("images of {img} px: from 1 to {} are taken", crate::MAX_IMG)));
    }
    let names = about.as_ref().map_or_else(Vec::new, |a| a.outputs.clone());
    let mut probe = |x: &Tensor| {
        let images = x.size()[0];
        let outputs =
            program.run(x).map_err(|e| Error::file(path, format!("fails on {images} images of {img} px: {e}")))?;
        let outputs = named(outputs, &names).map_err(|why| Error::file(path, why))?;
        let taps = taps(&outputs, images, about.as_ref()).map_err(|why| Error::file(path, why))?;
        Ok::<_, Error>((taps, outputs["logits"].to_kind(Kind::Float)))
    };
    let x = noise(img, device)?;
    let (taps, logits) = probe(&x)?;
    for images in 1..=2 {
        if probe(&x.narrow(0, 0, images))?.0 != taps {
            return Err(Error::file(path, format!("gives other shapes for {images} images than for {TRIED}")));
        }
    }
    let (_, again) = probe(&x)?;
    let (_, alone) = probe(&x.narrow(0, 0, 1))?;
    teaches(&logits, &again, &alone).map_err(|why| Error::file(path, why))?;
    let net = Packaged { program: RefCell::new(program), names, about: about.clone(), taps };
    Ok(Package { net: Box::new(net), about, img })
}

/// Images that a package is tried on.
const TRIED: i64 = 3;
/// The most by which the logits of a batch may differ when it is asked again, as a share of the largest: sums in
/// another order and bfloat16 make some thousandths, dropout of a hundredth several times that.
const REPEATED: f64 = 0.01;
/// The same for an image without its batch: other kernels round otherwise, the statistics of a batch change far more.
const ALONE: f64 = 0.05;
/// The most by which a row of probabilities in bfloat16 misses 1.
const ROUNDED: f64 = 0.02;

/// Images of normal noise, each of another brightness and contrast, always the same, float32 (3,3,H,H).
fn noise(img: i64, device: Device) -> Result<Tensor> {
    let pixels = TRIED * 3 * img * img;
    // Of a counter, so that no generator's state changes: Box and Muller's transform of two low-discrepancy sequences.
    let n = Tensor::f_arange(pixels, (Kind::Double, Device::Cpu))? + 1.0;
    let fraction = |step: f64| (&n * step).f_frac();
    let (u, v) = (fraction(0.754_877_666_246_692_7)?.clamp(1e-6, 1.0), fraction(0.569_840_290_998_053_2)?);
    let normal = (u.f_log()? * -2.0).f_sqrt()? * (v * std::f64::consts::TAU).f_cos()?;
    let each = |values: [f64; TRIED as usize]| Tensor::f_from_slice(&values)?.f_view([TRIED, 1, 1, 1]);
    // The first is alone once: without the others its statistics are others than theirs together.
    let images = normal.f_view([TRIED, 3, img, img])? * each([0.3, 1.0, 2.0])? + each([-1.0, 0.0, 1.0])?;
    Ok(images.f_to_kind(Kind::Float)?.f_to(device)?)
}

/// Refuses logits that are none, and a network that is not in evaluation: `again` are the logits of the same batch once
/// more, `alone` those of its first image without the others.
fn teaches(logits: &Tensor, again: &Tensor, alone: &Tensor) -> Result<(), String> {
    let finite = |t: &Tensor| bool::try_from(t.isfinite().all()).unwrap_or(false);
    if !(finite(logits) && finite(again) && finite(alone)) {
        // What is wrong with it is said where the teacher is looked at, on images.
        return Ok(());
    }
    let number = |t: Tensor| t.double_value(&[]);
    let sums = logits.sum_dim_intlist(-1, false, Kind::Float);
    if logits.size()[1] > 1 && number(logits.min()) >= 0.0 && number((sums - 1.0).abs().max()) < ROUNDED {
        return Err("gives probabilities: the rows of `logits` add up to 1. Methods need the numbers before the \
            softmax: package the network without it"
            .to_owned());
    }
    let scale = number(logits.abs().max()).max(f64::MIN_POSITIVE);
    let apart = |a: &Tensor, b: &Tensor| number((a - b).abs().max()) / scale;
    let (repeated, company) = (apart(logits, again), apart(&logits.narrow(0, 0, 1), alone));
    if repeated > REPEATED {
        return Err(format!(
            "says something else of the same images when it is asked twice ({:.1} % of the largest logit): it was \
             packaged in training mode, with dropout on; call `.eval()` before",
            100.0 * repeated
        ));
    }
    if company > ALONE {
        return Err(format!(
            "says something else of an image alone than of the same image in a batch ({:.1} % of the largest logit): \
             it was packaged in training mode, with the statistics of a \
             batch; call `.eval()` before",
            100.0 * company
        ));
    }
    Ok(())
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    TorchScript,
    Compiled,
}

/// Both are zip archives, told apart by the names in them.
fn kind(path: &Path) -> Result<Format> {
    let file = std::fs::File::open(path).map_err(|e| Error::file(path, e))?;
    let content = Content::of(path).map_err(|e| Error::file(path, e.fault))?;
    if let Some(what) = content.foreign() {
        return Err(Error::file(path, format!("is {what}")));
    }
    if matches!(content, Content::Safetensors | Content::Pickle) {
        let message = format!(
            "is {content}, which holds weights and no program: name the `model` and give the file as `weights`"
        );
        return Err(Error::file(path, message));
    }
    let archive = zip::ZipArchive::new(std::io::BufReader::new(file)).map_err(|e| {
        Error::file(
            path,
            format!("is neither TorchScript nor a PT2 package ({e}); was the download or the copy cut short?"),
        )
    })?;
    let names: Vec<_> = archive.file_names().filter_map(Result::ok).collect();
    let has = |end: &str| names.iter().any(|name| name.ends_with(end));
    if has("/constants.pkl") {
        return Ok(Format::TorchScript);
    }
    // libtorch does not survive a package that lacks one of these.
    if has("/archive_format") && has(".wrapper.so") && has(".wrapper_metadata.json") {
        return Ok(Format::Compiled);
    }
    let what = if has("/archive_format") || names.iter().any(|name| name.contains("models/")) {
        "is an exported program that is not compiled: compile it with torch._inductor.aoti_compile_and_package"
    } else if has("/data.pkl") {
        "holds weights and no program: name the `model` and give the file as `weights`, or package it with \
         tools/package_teacher.py"
    } else {
        "is neither TorchScript nor a PT2 package"
    };
    Err(Error::file(path, what))
}

type Outputs = HashMap<String, Tensor>;

/// The outputs by name; `names` are those of compiled code.
fn named(outputs: Vec<(String, Tensor)>, names: &[String]) -> Result<Outputs, String> {
    let unnamed = outputs.iter().all(|(name, _)| name.is_empty());
    match (unnamed, outputs.len()) {
        (false, _) => Ok(outputs.into_iter().collect()),
        (true, 1) => Ok(outputs.into_iter().map(|(_, t)| ("logits".to_owned(), t)).collect()),
        (true, count) if count == names.len() => {
            Ok(names.iter().cloned().zip(outputs.into_iter().map(|(_, t)| t)).collect())
        }
        (true, count) => Err(format!(
            "gives {count} outputs and describes {}: which one is the logits? tools/package_teacher.py writes \
             packages that say it",
            names.len()
        )),
    }
}

/// The name of stage `i`, counted from 0.
fn stage_name(i: usize) -> String {
    format!("stage{}", i + 1)
}

/// What the outputs of `images` images offer.
fn taps(outputs: &Outputs, images: i64, about: Option<&Description>) -> Result<TapSpec, String> {
    let wrong = |name: &str, t: &Tensor, expected: &str| {
        format!("`{name}` is {:?} {:?}; {expected} is expected", t.kind(), t.size())
    };
    let of = |name: &str, t: &Tensor| t.is_floating_point() && t.size().first() == Some(&images) && !name.is_empty();
    let Some(logits) = outputs.get("logits") else {
        let mut names: Vec<_> = outputs.keys().map(|name| format!("`{name}`")).collect();
        names.sort();
        return Err(format!("gives no `logits`, but {}", names.join(", ")));
    };
    let &[_, classes] = &logits.size()[..] else { return Err(wrong("logits", logits, "(B,classes)")) };
    if !of("logits", logits) || classes < 1 {
        return Err(wrong("logits", logits, &format!("({images},classes) for {images} images")));
    }
    let embedding = match outputs.get("embedding") {
        None => None,
        Some(t) if of("embedding", t) && t.dim() == 2 => Some(t.size()[1]),
        Some(t) => return Err(wrong("embedding", t, &format!("({images},D) for {images} images"))),
    };
    let mut stages = Vec::new();
    while let Some(t) = outputs.get(&stage_name(stages.len())) {
        let name = stage_name(stages.len());
        let described = about.and_then(|a| a.stages.get(stages.len()));
        let spec = match t.size()[..] {
            [_, channels, h, w] if of(&name, t) => StageSpec { kind: StageKind::Map, channels, grid: (h, w) },
            [_, n, channels] if of(&name, t) => {
                let (prefix, grid) = match described {
                    Some(d) => (d.prefix, (d.grid[0], d.grid[1])),
                    // A class and a distillation token at most; more are not guessed.
                    None => square(n).ok_or_else(|| {
                        format!(
                            "`{name}` has {n} tokens, which are no square grid with up to two others: describe it \
                            (`stages`: `grid`, `prefix`)"
                        )
                    })?,
                };
                if prefix < 0
                    || grid.0 < 1
                    || grid.1 < 1
                    || grid.0.checked_mul(grid.1).and_then(|p| p.checked_add(prefix)) != Some(n)
                {
                    return Err(format!(
                        "`{name}` has {n} tokens and describes {prefix} and a grid of {}x{}",
                        grid.0, grid.1
                    ));
                }
                StageSpec { kind: StageKind::Tokens { prefix }, channels, grid }
            }
            _ => return Err(wrong(&name, t, &format!("({images},C,H,W) or ({images},N,C) for {images} images"))),
        };
        stages.push(spec);
    }
    Ok(TapSpec { stages, stem: false, embedding, classes })
}

/// The prefix and grid of `n` tokens, where a square grid has at most two tokens before it.
fn square(n: i64) -> Option<(i64, (i64, i64))> {
    let side = (n as f64).sqrt() as i64;
    let prefix = n - side * side;
    (side > 0 && prefix <= 2).then_some((prefix, (side, side)))
}

struct Packaged {
    program: RefCell<Program>,
    names: Vec<String>,
    about: Option<Description>,
    taps: TapSpec,
}

impl Packaged {
    /// What it gives, which must be what it gave when it was tried: a program may decide by what it sees.
    fn run(&self, x_bchw: &Tensor) -> Result<Outputs, String> {
        // A program may read memory in the order of the sizes; compiled code does.
        let x = x_bchw.f_contiguous().map_err(|e| e.to_string())?;
        let outputs = self.program.borrow_mut().run(&x).map_err(|e| e.to_string())?;
        let outputs = named(outputs, &self.names)?;
        let found = taps(&outputs, x.size()[0], self.about.as_ref())?;
        if found == self.taps {
            return Ok(outputs);
        }
        Err(format!(
            "the packaged teacher gives {found:?} for these images, and gave {:?} when it was tried",
            self.taps
        ))
    }

    /// The run's outputs as a network's.
    fn output(&self, mut outputs: Outputs, pass: Pass) -> Result<Output, String> {
        let mut take = |name: &str| {
            outputs.remove(name).map(|t| t.to_kind(Kind::Float)).ok_or_else(|| format!("the program gives no {name}"))
        };
        let logits = take("logits")?;
        if !pass.taps {
            return Ok(Output { logits, embedding: None, stages: Vec::new() });
        }
        let stage = |(i, spec): (usize, &StageSpec)| {
            let t = take(&stage_name(i))?;
            Ok::<_, String>(match spec.kind {
                StageKind::Map => FeatureMap::Map(t),
                StageKind::Tokens { prefix } => FeatureMap::Tokens { tokens: t, prefix, grid: spec.grid },
            })
        };
        let stages = self.taps.stages.iter().enumerate().map(stage).collect::<Result<_, _>>()?;
        let embedding = self.taps.embedding.map(|_| take("embedding")).transpose()?;
        Ok(Output { logits, embedding, stages })
    }
}

impl Module for Packaged {
    /// Always in evaluation and without a graph.
    ///
    /// # Panics
    /// Where the program fails, as tch's operators do.
    fn forward(&self, x_bchw: &Tensor, pass: Pass) -> Output {
        self.run(x_bchw).and_then(|outputs| self.output(outputs, pass)).unwrap_or_else(|e| panic!("{e}"))
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
