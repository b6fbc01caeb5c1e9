//! Networks outside this registry, in files written by PyTorch: a TorchScript program or a package of compiled code
//! (PT2, `torch.export` and AOTInductor). They teach with whatever outputs they provide.
//!
//! A program takes normalised images (B,3,H,W) in float32 for any B, and returns the logits (B,C) or a dictionary:
//!
//! | key | |
//! |---|---|
//! | `logits` | (B,C), before any softmax; required. `log_softmax` works too: it subtracts one number per row |
//! | `embedding` | (B,D), the pooled features that the classifier sees |
//! | `stage1`.. | from shallow to deep: a map (B,C,H,W), or tokens (B, prefix + H*W, C) |
//!
//! Other keys are ignored. The file may contain a description in JSON ([`Description`]); `tools/package_teacher.py`
//! writes one.
use std::{cell::RefCell, collections::HashMap, path::Path};

use heterodyne_nn::{
    Error, FeatureMap, Module, Output, Pass, Result, StageKind, StageSpec, TapSpec, shim::script::Package as Program,
};
use heterodyne_pickle::Content;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// The description in a file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Description {
    /// The network's name.
    pub name: String,
    /// Side of the square input in pixels.
    pub img: i64,
    /// Mean of the R, G and B channels, in 0..1.
    pub mean: [f64; 3],
    /// Standard deviation of the R, G and B channels.
    pub std: [f64; 3],
    /// Fraction of the shorter side that the centre crop keeps in evaluation.
    #[serde(default)]
    pub crop: Option<f64>,
    /// Names of the outputs in order; compiled code does not store them.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// The stages; needed for tokens, because their number does not determine the grid.
    #[serde(default)]
    pub stages: Vec<StageDescription>,
}

/// A stage in a file's description.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct StageDescription {
    /// Rows and columns.
    pub grid: [i64; 2],
    /// Leading tokens that are not image patches.
    #[serde(default)]
    pub prefix: i64,
}

/// A network from a file, ready to run.
pub struct Package {
    /// The network.
    pub net: Box<dyn Module>,
    /// The file's description; `None` if it has none.
    pub about: Option<Description>,
    /// Side of the input in pixels with which it was tested.
    pub img: i64,
}

/// Loads `path` for `device`. `img` is the side of the input in pixels; it is required if the file does not state it.
/// The outputs are discovered by running the program on one, two and three images of noise. A program is rejected if it
/// works for a fixed number of images only, if it returns probabilities, or if it is in training mode.
///
/// The file is a program and runs with the rights of this process: only load files from sources that you trust.
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
            "does not state its input size and normalisation: set `img` (pixels), `mean` and `std`",
        ));
    };
    if !(1..=crate::MAX_IMG).contains(&img) {
        return Err(Error::file(path, format!("images of {img} px: the side must be from 1 to {} px", crate::MAX_IMG)));
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
            return Err(Error::file(
                path,
                format!("its output shapes for {images} images differ from those for {TRIED}"),
            ));
        }
    }
    let (_, again) = probe(&x)?;
    let (_, alone) = probe(&x.narrow(0, 0, 1))?;
    teaches(&logits, &again, &alone).map_err(|why| Error::file(path, why))?;
    let net = Packaged { program: RefCell::new(program), names, about: about.clone(), taps };
    Ok(Package { net: Box::new(net), about, img })
}

/// Number of images on which a package is tested.
const TRIED: i64 = 3;
/// Largest allowed difference between the logits of two runs on the same batch, relative to the largest logit.
/// Summation order and bfloat16 cause some thousandths; a dropout of 0.01 causes several times that.
const REPEATED: f64 = 0.01;
/// The same for an image alone and in its batch. Other kernels round differently; batch statistics cause far larger
/// differences.
const ALONE: f64 = 0.05;
/// Largest deviation from 1 of the sum of a row of bfloat16 probabilities.
const ROUNDED: f64 = 0.02;

/// Images of normal noise with different brightness and contrast, the same in every call, float32 (3,3,H,H).
fn noise(img: i64, device: Device) -> Result<Tensor> {
    let pixels = TRIED * 3 * img * img;
    // Computed from a counter, so no random generator changes its state: the Box-Muller transform of two
    // low-discrepancy sequences.
    let n = Tensor::f_arange(pixels, (Kind::Double, Device::Cpu))? + 1.0;
    let fraction = |step: f64| (&n * step).f_frac();
    let (u, v) = (fraction(0.754_877_666_246_692_7)?.clamp(1e-6, 1.0), fraction(0.569_840_290_998_053_2)?);
    let normal = (u.f_log()? * -2.0).f_sqrt()? * (v * std::f64::consts::TAU).f_cos()?;
    let each = |values: [f64; TRIED as usize]| Tensor::f_from_slice(&values)?.f_view([TRIED, 1, 1, 1]);
    // The first image also runs alone: its statistics differ from those of the whole batch.
    let images = normal.f_view([TRIED, 3, img, img])? * each([0.3, 1.0, 2.0])? + each([-1.0, 0.0, 1.0])?;
    Ok(images.f_to_kind(Kind::Float)?.f_to(device)?)
}

/// Rejects probabilities, and a network that is not in evaluation mode. `again` are the logits of the same batch from a
/// second run, `alone` those of its first image alone.
fn teaches(logits: &Tensor, again: &Tensor, alone: &Tensor) -> Result<(), String> {
    let finite = |t: &Tensor| bool::try_from(t.isfinite().all()).unwrap_or(false);
    if !(finite(logits) && finite(again) && finite(alone)) {
        // Non-finite logits are reported later, when the teacher is checked on real images.
        return Ok(());
    }
    let number = |t: Tensor| t.double_value(&[]);
    let sums = logits.sum_dim_intlist(-1, false, Kind::Float);
    if logits.size()[1] > 1 && number(logits.min()) >= 0.0 && number((sums - 1.0).abs().max()) < ROUNDED {
        return Err("returns probabilities: the rows of `logits` sum to 1, but methods need the values before the \
            softmax; package the network without the softmax"
            .to_owned());
    }
    let scale = number(logits.abs().max()).max(f64::MIN_POSITIVE);
    let apart = |a: &Tensor, b: &Tensor| number((a - b).abs().max()) / scale;
    let (repeated, company) = (apart(logits, again), apart(&logits.narrow(0, 0, 1), alone));
    if repeated > REPEATED {
        return Err(format!(
            "returns different logits for the same images in a second run (by {:.1} % of the largest logit): it was \
             packaged in training mode, with dropout on; call `.eval()` before packaging",
            100.0 * repeated
        ));
    }
    if company > ALONE {
        return Err(format!(
            "returns different logits for an image alone and in a batch (by {:.1} % of the largest logit): it was \
             packaged in training mode, with batch statistics; call `.eval()` before packaging",
            100.0 * company
        ));
    }
    Ok(())
}

/// The kind of a package file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    TorchScript,
    Compiled,
}

/// Both kinds are zip archives; the names of their entries tell them apart.
fn kind(path: &Path) -> Result<Format> {
    let file = std::fs::File::open(path).map_err(|e| Error::file(path, e))?;
    let content = Content::of(path).map_err(|e| Error::file(path, e.fault))?;
    if let Some(what) = content.foreign() {
        return Err(Error::file(path, format!("is {what}")));
    }
    if matches!(content, Content::Safetensors | Content::Pickle) {
        let message =
            format!("is {content}, which holds weights but no program: set `model`, and pass the file as `weights`");
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
    // libtorch crashes on a package that lacks one of these.
    if has("/archive_format") && has(".wrapper.so") && has(".wrapper_metadata.json") {
        return Ok(Format::Compiled);
    }
    let what = if has("/archive_format") || names.iter().any(|name| name.contains("models/")) {
        "is an exported program that is not compiled: compile it with `torch._inductor.aoti_compile_and_package`"
    } else if has("/data.pkl") {
        "holds weights but no program: set `model` and pass the file as `weights`, or package it with \
         tools/package_teacher.py"
    } else {
        "is neither TorchScript nor a PT2 package"
    };
    Err(Error::file(path, what))
}

type Outputs = HashMap<String, Tensor>;

/// The outputs by name; `names` are the described names, for compiled code.
fn named(outputs: Vec<(String, Tensor)>, names: &[String]) -> Result<Outputs, String> {
    let unnamed = outputs.iter().all(|(name, _)| name.is_empty());
    match (unnamed, outputs.len()) {
        (false, _) => Ok(outputs.into_iter().collect()),
        (true, 1) => Ok(outputs.into_iter().map(|(_, t)| ("logits".to_owned(), t)).collect()),
        (true, count) if count == names.len() => {
            Ok(names.iter().cloned().zip(outputs.into_iter().map(|(_, t)| t)).collect())
        }
        (true, count) => Err(format!(
            "returns {count} outputs but describes {}, so the logits cannot be identified: package it with \
             tools/package_teacher.py, which describes the outputs",
            names.len()
        )),
    }
}

/// The name of stage `i`, counted from 0.
fn stage_name(i: usize) -> String {
    format!("stage{}", i + 1)
}

/// The taps that the outputs for `images` images provide.
fn taps(outputs: &Outputs, images: i64, about: Option<&Description>) -> Result<TapSpec, String> {
    let wrong = |name: &str, t: &Tensor, expected: &str| {
        format!("`{name}` is {:?} {:?}, expected {expected}", t.kind(), t.size())
    };
    let of = |name: &str, t: &Tensor| t.is_floating_point() && t.size().first() == Some(&images) && !name.is_empty();
    let Some(logits) = outputs.get("logits") else {
        let mut names: Vec<_> = outputs.keys().map(|name| format!("`{name}`")).collect();
        names.sort();
        return Err(format!("does not return `logits`, only {}", names.join(", ")));
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
                    // At most a class token and a distillation token; more are not guessed.
                    None => square(n).ok_or_else(|| {
                        format!(
                            "`{name}` has {n} tokens, which is not a square grid plus at most two other tokens: \
                             describe it (`stages`: `grid`, `prefix`)"
                        )
                    })?,
                };
                if prefix < 0
                    || grid.0 < 1
                    || grid.1 < 1
                    || grid.0.checked_mul(grid.1).and_then(|p| p.checked_add(prefix)) != Some(n)
                {
                    return Err(format!(
                        "`{name}` has {n} tokens, but its description states {prefix} and a grid of {}x{}",
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

/// The prefix and grid of `n` tokens, if they are a square grid with at most two tokens before it.
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
    /// Runs the program. The outputs must have the shapes found in the test, because a program may depend on its input.
    fn run(&self, x_bchw: &Tensor) -> Result<Outputs, String> {
        // A program may assume contiguous memory; compiled code does.
        let x = x_bchw.f_contiguous().map_err(|e| e.to_string())?;
        let outputs = self.program.borrow_mut().run(&x).map_err(|e| e.to_string())?;
        let outputs = named(outputs, &self.names)?;
        let found = taps(&outputs, x.size()[0], self.about.as_ref())?;
        if found == self.taps {
            return Ok(outputs);
        }
        Err(format!(
            "the packaged teacher returns {found:?} for these images, but returned {:?} when it was loaded",
            self.taps
        ))
    }

    /// Converts the program's outputs to a network's.
    fn output(&self, mut outputs: Outputs, pass: Pass) -> Result<Output, String> {
        let mut take = |name: &str| {
            outputs.remove(name).map(|t| t.to_kind(Kind::Float)).ok_or_else(|| {
                format!(
                    "the program does not return \
                `{name}`"
                )
            })
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
    /// Always in evaluation mode and without a graph.
    ///
    /// # Panics
    /// If the program fails, as tch's operators do.
    fn forward(&self, x_bchw: &Tensor, pass: Pass) -> Output {
        self.run(x_bchw).and_then(|outputs| self.output(outputs, pass)).unwrap_or_else(|e| panic!("{e}"))
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
