//! `heterodyne inspect`: a network's taps, size and speed, and what each method builds for a pair.
use std::{path::Path, time::Instant};

use anyhow::{Context, Result};
use heterodyne_methods::{BuildContext, ranks};
use heterodyne_models::{
    Model,
    package::{self, Package},
};
use heterodyne_nn::{Output, ParamStore, Pass, StageKind, StageSpec, TapSpec, catch};
use heterodyne_run::recipe;
use heterodyne_shim::{NoGrad, flops};
use heterodyne_train::device::{self, concrete, device, guards, peak_memory, wait};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::{Outcome, network::DeviceArgs, similarity};
use crate::print::{say, say_part};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model name (`heterodyne models` lists them)
    #[arg(required_unless_present = "similarity", conflicts_with = "similarity")]
    model: Option<String>,
    /// Input size in pixels [default: the model's]
    #[arg(long)]
    img: Option<i64>,
    /// Model option, for example patch=4; may be repeated
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Teacher, a model name or a package file: shows the paired stages and what each method builds
    #[arg(long)]
    teacher: Option<String>,
    /// Teacher's input size in pixels [default: the model's]
    #[arg(long, requires = "teacher")]
    teacher_img: Option<i64>,
    /// Teacher option, for example patch=4; may be repeated
    #[arg(long = "teacher-option", value_name = "KEY=VALUE", requires = "teacher")]
    teacher_options: Vec<String>,
    /// Number of classes
    #[arg(long, default_value_t = 1000)]
    num_classes: i64,
    /// Images per batch
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(i64).range(2..=65536))]
    batch: i64,
    #[command(flatten)]
    place: DeviceArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    similarity: similarity::Args,
}

#[derive(Debug, Serialize)]
struct Report {
    student: NetworkReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    teacher: Option<NetworkReport>,
    /// Each method's report on the pair.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    methods: Vec<MethodReport>,
}

/// One network. Speed and memory are those of this process on this machine.
#[derive(Debug, Serialize)]
struct NetworkReport {
    model: String,
    img: i64,
    classes: i64,
    stages: Vec<Stage>,
    embedding: Option<i64>,
    /// Unknown for a package.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<usize>,
    /// Multiplications and additions of one image's forward pass.
    /// Unknown for compiled code, which does not call libtorch's operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    gflop_per_image: Option<f64>,
    infer_images_per_second: f64,
    /// `None` for a package, which cannot be trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    train_images_per_second: Option<f64>,
    /// `cpu` or `cuda`.
    device: &'static str,
    /// Peak memory, of tensors on a GPU, else of the process: after passes without a graph (`infer`) and after passes
    /// with one (`train`).
    infer_peak_mb: Option<f64>,
    train_peak_mb: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Stage {
    stage: usize,
    kind: &'static str,
    channels: i64,
    grid: [i64; 2],
    prefix_tokens: i64,
}

#[derive(Debug, Serialize)]
struct MethodReport {
    method: &'static str,
    /// Why the method refuses the pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    parameters: usize,
    /// Names and shapes of the learned tensors.
    learned: Vec<(String, Vec<i64>)>,
    /// Names and shapes (for one image) of the teacher's signals besides the logits.
    signals: Vec<(String, Vec<i64>)>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    if let Some(path) = &args.similarity.similarity {
        return similarity::run(path, &args.similarity, args.place.device, args.json);
    }
    args.similarity.check()?;
    let model = args.model.as_deref().context("no model given: give its name, or --similarity RUN")?;
    let device = device(args.place.device)?;
    let look = |name: &str, img: Option<i64>, options: &[String]| -> Result<(NetworkReport, TapSpec)> {
        let subject = if Path::new(name).is_file() {
            let Package { net, about, img } = package::open(Path::new(name), device, img)?;
            Subject { name: about.map_or_else(|| name.to_owned(), |a| a.name), net, store: None, img, device }
        } else {
            let def = heterodyne_models::find(name)?;
            let Model { net, store, img, .. } =
                Model::build(def, args.num_classes, img, &recipe::options(options)?, device, 0)?;
            Subject { name: def.name.to_owned(), net, store: Some(store), img, device }
        };
        let network = catch(|| format!("running {name}"), || Ok(measure(&subject, args)))??;
        Ok((network, subject.net.taps().clone()))
    };
    let (student, taps) = look(model, args.img, &args.options)?;
    let mut report = Report { student, teacher: None, methods: Vec::new() };
    if let Some(name) = &args.teacher {
        let (teacher, teacher_taps) = look(name, args.teacher_img, &args.teacher_options)?;
        report.teacher = Some(teacher);
        report.methods = heterodyne_methods::all()
            .iter()
            .map(|def| method(def, &taps, &teacher_taps, args.batch))
            .collect::<Result<_>>()?;
    }
    if args.json {
        say!("{}", serde_json::to_string(&report)?);
    } else {
        say_part!("{}", text(&report, args));
    }
    Ok(Outcome::Done)
}

/// The network to inspect.
struct Subject {
    name: String,
    net: Box<dyn heterodyne_nn::Module>,
    /// `None` for a package.
    store: Option<ParamStore>,
    img: i64,
    device: Device,
}

fn measure(subject: &Subject, args: &Args) -> Result<NetworkReport> {
    let Subject { net, store, device, .. } = subject;
    let device = *device;
    let precision = concrete(args.place.precision, device);
    let x = Tensor::randn([args.batch, 3, subject.img, subject.img], (Kind::Float, device));
    let x = heterodyne_shim::channels_last(&x)?;
    let one = x.narrow(0, 0, 1);
    let (_, arithmetic) = flops::count(|| {
        let _guard = NoGrad::new();
        net.forward(&one, Pass::EVAL)
    })?;
    let forward = |pass: Pass| -> Result<Output> {
        let _guards = guards(device, precision)?;
        Ok(net.forward(&x, pass))
    };
    let megabytes = || peak_memory(device).map(|bytes| bytes as f64 / 1e6);
    let infer = speed(args.batch, device, || {
        let _guard = NoGrad::new();
        forward(Pass::EVAL).map(drop)
    })?;
    let infer_peak_mb = megabytes();
    let step = |store: &ParamStore| {
        forward(Pass::TRAIN)?.logits.to_kind(Kind::Float).square().mean(Kind::Float).f_backward()?;
        for (_, mut parameter, _) in store.parameters() {
            parameter.zero_grad();
        }
        Ok(())
    };
    let train = store.as_ref().map(|store| speed(args.batch, device, || step(store))).transpose()?;
    let taps = net.taps();
    Ok(NetworkReport {
        model: subject.name.clone(),
        img: subject.img,
        classes: taps.classes,
        stages: (1..).zip(&taps.stages).map(|(i, stage)| Stage::of(i, stage)).collect(),
        embedding: taps.embedding,
        parameters: store.as_ref().map(ParamStore::num_parameters),
        gflop_per_image: Some(arithmetic.products + arithmetic.convolutions)
            .filter(|sum| *sum > 0)
            .map(|sum| sum as f64 / 1e9),
        device: device::name(device),
        infer_images_per_second: infer,
        train_images_per_second: train,
        infer_peak_mb,
        train_peak_mb: megabytes(),
    })
}

/// Images per second of the fastest pass, of at least three passes and one second, after a warm-up pass.
fn speed(batch: i64, device: Device, mut pass: impl FnMut() -> Result<()>) -> Result<f64> {
    pass()?;
    wait(device);
    let (start, mut fastest, mut passes) = (Instant::now(), f64::INFINITY, 0);
    while passes < 3 || start.elapsed().as_secs_f64() < 1.0 {
        let before = Instant::now();
        pass()?;
        wait(device);
        fastest = fastest.min(before.elapsed().as_secs_f64());
        passes += 1;
    }
    Ok(batch as f64 / fastest)
}

impl Stage {
    fn of(stage: usize, spec: &StageSpec) -> Self {
        let (kind, prefix_tokens) = match spec.kind {
            StageKind::Map => ("map", 0),
            StageKind::Tokens { prefix } => ("tokens", prefix),
        };
        Self { stage, kind, channels: spec.channels, grid: [spec.grid.0, spec.grid.1], prefix_tokens }
    }

    fn text(&self) -> String {
        let prefix = if self.prefix_tokens > 0 { format!(" + {}", self.prefix_tokens) } else { String::new() };
        format!("{} {} x {}x{}{prefix}", self.kind, self.channels, self.grid[0], self.grid[1])
    }
}

/// What `def` builds for a pair with its default settings.
fn method(
    def: &'static heterodyne_methods::MethodDef,
    student: &TapSpec,
    teacher: &TapSpec,
    batch: i64,
) -> Result<MethodReport> {
    let settings = (def.configure)(&toml::Table::new()).map_err(|e| anyhow::anyhow!("{}: {e}", def.name))?;
    let mut report =
        MethodReport { method: def.name, refused: None, parameters: 0, learned: Vec::new(), signals: Vec::new() };
    if let Err(e) = settings.check(student, teacher, usize::try_from(batch)?) {
        report.refused = Some(e.to_string());
        return Ok(report);
    }
    let store = ParamStore::new(Device::Cpu, 0);
    // Two images of two classes: the smallest training set for which a memory of all training images can be built.
    let pair = BuildContext { scope: &store.root(), student, teacher, sample_classes: &[0, 1], ranks: &ranks::Alone };
    let built = settings.build(&pair).with_context(|| def.name)?;
    report.parameters = store.num_parameters();
    report.learned = store.parameters().into_iter().map(|(name, t, _)| (name, t.size())).collect();
    report.signals = built.signals().into_iter().map(|signal| (signal.name, signal.shape)).collect();
    Ok(report)
}

fn text(report: &Report, args: &Args) -> String {
    let mut out = network(&report.student, args);
    let Some(teacher) = &report.teacher else { return out };
    out += &format!("\n{}", network(teacher, args));
    out += &format!("\nstage by stage\n        {:28} {}\n", report.student.model, teacher.model);
    for (s, t) in report.student.stages.iter().zip(&teacher.stages) {
        out += &format!("  {}     {:28} {}\n", s.stage, s.text(), t.text());
    }
    out += "\nmethods with default settings\n";
    for m in &report.methods {
        if let Some(why) = &m.refused {
            out += &format!("  {:8} refuses the pair: {why}\n", m.method);
            continue;
        }
        let values: i64 = m.signals.iter().map(|(_, shape)| shape.iter().product::<i64>()).sum();
        out += &match m.parameters {
            0 => format!("  {:8} learns nothing of its own", m.method),
            n => format!("  {:8} learns {n} parameters in {} tensors", m.method, m.learned.len()),
        };
        out += &match values {
            0 => "; reads the teacher's logits\n".to_owned(),
            n => format!("; reads the teacher's logits and {n} values per image\n"),
        };
        for (prefix, count, parameters) in parts(&m.learned) {
            out += &format!("             {prefix:24} {count} tensors, {parameters} parameters\n");
        }
    }
    out
}

/// The learned tensors grouped by the first two parts of their names: (name, tensors, parameters).
fn parts(learned: &[(String, Vec<i64>)]) -> Vec<(String, usize, i64)> {
    let mut parts: Vec<(String, usize, i64)> = Vec::new();
    for (name, shape) in learned {
        let prefix = name.split('.').take(2).collect::<Vec<_>>().join(".");
        let parameters: i64 = shape.iter().product();
        match parts.iter_mut().find(|(known, ..)| *known == prefix) {
            Some((_, count, sum)) => (*count, *sum) = (*count + 1, *sum + parameters),
            None => parts.push((prefix, 1, parameters)),
        }
    }
    parts
}

fn network(n: &NetworkReport, args: &Args) -> String {
    let mut out = format!(
        "{} at {} px, {} classes: {}{}\n",
        n.model,
        n.img,
        n.classes,
        n.parameters
            .map_or_else(|| "a package".to_owned(), |count| format!("{:.2} million parameters", count as f64 / 1e6)),
        n.gflop_per_image.map_or_else(String::new, |gflop| format!(", {gflop:.2} GFLOP per image"))
    );
    out += "  stage  kind    channels  grid      prefix tokens\n";
    for s in &n.stages {
        let grid = format!("{}x{}", s.grid[0], s.grid[1]);
        out += &format!("  {:<5}  {:6}  {:8}  {grid:8}  {}\n", s.stage, s.kind, s.channels, s.prefix_tokens);
    }
    if let Some(embedding) = n.embedding {
        out += &format!("  embedding of {embedding}\n");
    }
    let whose = if n.device == "cpu" { "process" } else { "GPU" };
    let memory = |mb: Option<f64>| mb.map_or_else(String::new, |mb| format!(", {whose} memory {mb:.0} MB at peak"));
    out += &format!(
        "  forward pass            {:8.1} images/s in batches of {}{}\n",
        n.infer_images_per_second,
        args.batch,
        memory(n.infer_peak_mb)
    );
    if let Some(speed) = n.train_images_per_second {
        out += &format!("  forward and backward    {speed:8.1} images/s{}\n", memory(n.train_peak_mb));
    }
    out
}
