//! heterodyne's worker for `make bench`: reads a job and then orders as JSON lines from standard input, runs training
//! steps and replies with their times (see bench/README.md for the protocol).
use std::{
    io::{BufRead, Write},
    path::PathBuf,
    time::{Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use heterodyne::nn::{InputSpec, Labels, Progress, Tensors, catch, file};
use heterodyne::run::recipe::{
    Layered,
    schema::{NetworkTable, Precision},
};
use heterodyne::train::{
    Mode, Plan, World,
    device::{self, wait},
    learner::{Learner, StepInput},
    network::{BuildOptions, Network, Weights},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Tensor};

#[derive(Debug, Deserialize)]
struct Job {
    teacher: Side,
    student: Side,
    method: String,
    #[serde(default)]
    method_options: serde_json::Value,
    precision: Precision,
    device: String,
    batch: i64,
    classes: i64,
    inputs: PathBuf,
    heads: Option<PathBuf>,
    threads: i32,
    /// Record the step (`train.graph`).
    #[serde(default)]
    graph: bool,
    optimizer: Sgd,
    spawned_at: f64,
}

#[derive(Debug, Deserialize)]
struct Side {
    model: String,
    img: i64,
    options: toml::Table,
    weights: PathBuf,
    mean: [f64; 3],
    std: [f64; 3],
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Sgd {
    lr: f64,
    momentum: f64,
    weight_decay: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Steps(usize),
    Quit(bool),
}

fn main() -> Result<()> {
    heterodyne::shim::keep_freed_memory();
    let mut lines = std::io::stdin().lock().lines();
    let first = lines.next().context("expected a job on standard input: one line of JSON")??;
    let job: Job = serde_json::from_str(&first).context("the job")?;
    let mut bench = guarded(|| Bench::new(&job))?;
    let _stream = bench.learner.own_stream()?;
    let (_, loss) = guarded(|| bench.step())?;
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    say(&json!({ "ready": true, "startup_s": since_epoch - job.spawned_at, "loss": loss }))?;
    for line in lines {
        match serde_json::from_str(&line?).context("an order")? {
            Order::Quit(true) => break,
            Order::Quit(false) => {}
            Order::Steps(n) => {
                let done = (0..n).map(|_| guarded(|| bench.step())).collect::<Result<Vec<_>>>()?;
                let (ms, losses): (Vec<f64>, Vec<f64>) = done.into_iter().unzip();
                let megabytes = |bytes: Option<u64>| bytes.map(|b| b as f64 / 1e6);
                let (rss, cuda) = (heterodyne::shim::peak_rss(), heterodyne::shim::peak_device(bench.learner.device()));
                say(&json!({ "ms": ms, "losses": losses, "rss_mb": megabytes(rss), "cuda_mb": megabytes(cuda) }))?;
            }
        }
    }
    Ok(())
}

/// Runs `work`; a libtorch panic inside it becomes an error.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch(|| "the job".to_owned(), || Ok(work()))?
}

fn say(answer: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")?;
    Ok(out.flush()?)
}

struct Bench {
    learner: Learner,
    /// Inputs without the teacher's output, which is computed in the step.
    batches: Vec<StepInput>,
    lr: f64,
    count: usize,
}

impl Bench {
    fn new(job: &Job) -> Result<Self> {
        tch::set_num_threads(job.threads);
        let device = match job.device.as_str() {
            "cpu" => Device::Cpu,
            "cuda" => device::device(heterodyne::run::recipe::schema::DeviceChoice::Cuda)?,
            other => bail!("there is no device {other}; use cpu or cuda"),
        };
        let plan = job.plan()?;
        let (student, teacher) = (job.network(&job.student, device)?, job.network(&job.teacher, device)?);
        teacher.store.freeze();
        let (inputs, _) = file::read(&job.inputs)?;
        let labels = input(&inputs, "labels")?;
        let learner = Learner::new(
            student,
            Some(teacher),
            &plan.methods,
            &plan.recipe,
            &Vec::<i64>::try_from(labels)?,
            &World::alone(),
        )?;
        if let Some(path) = &job.heads {
            learner.loss.heads.load(&file::read(path)?.0)?.strict(&path.display().to_string())?;
        }
        let all = |name: &str| input(&inputs, name);
        let (images, labels) = (all("images")?.to_device(device), labels.to_device(device));
        let mut first = 0;
        let batch = |(x, y): (Tensor, Tensor)| {
            let samples = first..first + x.size()[0] as usize;
            first = samples.end;
            StepInput { images: x, labels: Labels::Hard(y), samples: samples.collect(), teacher: None }
        };
        let batches = images.split(job.batch, 0).into_iter().zip(labels.split(job.batch, 0)).map(batch).collect();
        Ok(Self { learner, batches, lr: job.optimizer.lr, count: 0 })
    }

    /// Runs one step; returns its time in milliseconds and its loss.
    fn step(&mut self) -> Result<(f64, f64)> {
        let place = self.count % self.batches.len();
        let input = &mut self.batches[place];
        self.count += 1;
        let device = self.learner.device();
        wait(device);
        let start = Instant::now();
        input.teacher = Some(self.learner.teach(&input.images)?);
        let done = self.learner.step(input, self.lr, Progress::default())?;
        wait(device);
        input.teacher = None;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        // The values are: terms, total, gradient norm, teacher's trace.
        Ok((ms, done.values.double_value(&[done.values.size()[0] - 2])))
    }
}

fn input<'a>(inputs: &'a Tensors, name: &str) -> Result<&'a Tensor> {
    inputs.get(name).with_context(|| format!("the inputs lack `{name}`"))
}

impl Job {
    /// The plan of a recipe with this method and optimizer; its data is not opened.
    fn plan(&self) -> Result<Plan> {
        let Sgd { lr, momentum, weight_decay } = self.optimizer;
        let options = if self.method_options.is_object() { self.method_options.clone() } else { json!({}) };
        let recipe = json!({
            "data": { "name": "digits" },
            "student": { "model": self.student.model, "options": self.student.options },
            "teacher": {
                "model": self.teacher.model,
                "options": self.teacher.options,
                "weights": self.teacher.weights,
            },
            "train": { "batch": self.batch, "graph": self.graph },
            "optim": { "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": false },
            "methods": { &self.method: options },
        });
        Ok(Plan::resolve(&Layered::from_json("job", &recipe)?, Mode::Distill)?)
    }

    fn network(&self, side: &Side, device: Device) -> Result<Network> {
        let def = heterodyne::models::find(&side.model)?;
        let table = NetworkTable {
            options: side.options.clone(),
            precision: Some(self.precision),
            ..NetworkTable::of(&side.model)
        };
        let input = InputSpec::whole(side.img, side.mean, side.std);
        let weights = Weights::read(side.weights.as_path().into())?;
        let options = BuildOptions { classes: self.classes, precision: self.precision, device, seed: 0 };
        Ok(Network::build(def, &table, input, Some(&weights), options)?)
    }
}
