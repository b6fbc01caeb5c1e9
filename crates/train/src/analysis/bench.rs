//! Times a training step part by part and compares it with the machine's peak speed.
use std::time::Instant;

use heterodyne_data::Batch;
use heterodyne_nn::Progress;
use heterodyne_run::recipe::schema::Precision;
use heterodyne_shim::{NoGrad, flops, flops::Flops, peak_device, peak_rss, profile};
use indexmap::IndexMap;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::{
    Error, Result,
    device::{self, guards, wait},
    error::guarded,
    learner::{Part, Recorder, StepInput},
    session::{Place, Session},
};

/// A small learning rate: the same arithmetic, and no divergence.
const RATE: f64 = 1e-6;

/// The result of [`measure`]. Times are medians in milliseconds unless stated otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// `cpu` or `cuda`.
    pub device: String,
    /// Threads per operation.
    pub threads: usize,
    /// Images per step.
    pub batch: usize,
    /// Number of timed steps.
    pub steps: usize,
    /// Images per second of the median step, including data loading.
    pub images_per_second: f64,
    /// Time of a step, including data loading.
    pub step_ms: f64,
    /// Times of the fastest and the slowest step.
    pub step_range_ms: [f64; 2],
    /// Peak resident size of the process, in MB (1e6 bytes).
    pub peak_rss_mb: Option<f64>,
    /// Peak size of all tensors on the GPU, in MB.
    pub peak_device_mb: Option<f64>,
    /// Times of data, upload, teacher, student, method, backward and optimizer.
    pub split_ms: IndexMap<String, f64>,
    /// GFLOP of one step: matrix products and convolutions by their definitions (a fast algorithm may need fewer).
    pub gflop: f64,
    /// GFLOP/s of the median step.
    pub gflops: f64,
    /// GFLOP/s of this machine in one large matrix product and in one 3x3 convolution.
    pub peak_gflops: Peaks,
    /// Time of the step's products and convolutions at those peaks, as a share of the step.
    pub flops_ratio: f64,
    /// libtorch's operators and this project's kernels, slowest first; empty unless requested.
    pub operators: Vec<Operator>,
}

/// The cost of one operator in a step, excluding the operators that it calls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operator {
    /// `aten::...` is an operator, `...Backward0` its gradient, `heterodyne::...` a kernel of this project.
    pub name: String,
    /// Calls per step.
    pub calls: f64,
    /// Mean milliseconds per step.
    pub ms: f64,
}

/// See [`Measured::peak_gflops`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peaks {
    /// (2048,2048) x (2048,2048).
    pub matmul: f64,
    /// 3x3 from 128 to 128 channels on (32,128,28,28).
    pub convolution: f64,
}

const PARTS: [&str; 7] = ["data", "upload", "teacher", "student", "method", "backward", "optimizer"];

/// Times `steps` steps of a session after `warm_up` steps: first whole steps, then the same number part by part and, if
/// `operators` is set, operator by operator. The session's weights change as in training; nothing is written.
pub fn measure(s: &Session, steps: usize, warm_up: usize, operators: bool) -> Result<Measured> {
    guarded("the benchmark", || Bench::new(s).run(steps, warm_up, operators))
}

struct Bench<'a> {
    s: &'a Session,
    epoch: u32,
    loader: heterodyne_data::Epoch,
    count: u64,
}

impl<'a> Bench<'a> {
    fn new(s: &'a Session) -> Self {
        Self { s, epoch: 0, loader: s.train.epoch(0, 0), count: 0 }
    }

    fn next(&mut self) -> Result<Batch> {
        if let Some(batch) = self.loader.next() {
            return Ok(batch?);
        }
        self.epoch += 1;
        self.loader = self.s.train.epoch(self.epoch, 0);
        let none = || Error::Plan("there are no training batches".to_owned());
        Ok(self.loader.next().ok_or_else(none)??)
    }

    /// The input of a step; calls `done` at the end of each part.
    fn input(&mut self, done: &mut dyn FnMut(&'static str)) -> Result<(StepInput, Progress)> {
        let s = self.s;
        let batch = self.next()?;
        done("data");
        let at = Place { epoch: self.epoch, batch: self.count, time: 0.0 };
        let input = s.feed(batch, at, || done("upload"))?;
        done("teacher");
        let progress = Progress { step: self.count, steps: s.total_steps(), epoch: 0.0 };
        self.count += 1;
        Ok((input, progress))
    }

    /// One step as training does it, recorded if the recipe asks for it.
    fn whole(&mut self) -> Result<()> {
        let (input, progress) = self.input(&mut |_| {})?;
        self.s.learner.step(&input, RATE, progress)?;
        Ok(())
    }

    /// One step that is not recorded; calls `done` at the end of each part.
    fn step(&mut self, done: &mut dyn FnMut(&'static str)) -> Result<()> {
        let (input, progress) = self.input(done)?;
        let mut part = |part| {
            done(match part {
                Part::Student => "student",
                Part::Method => "method",
                Part::Backward => "backward",
                Part::Optimizer => "optimizer",
            });
        };
        self.s.learner.step_in_parts(&input, RATE, progress, &mut part)?;
        Ok(())
    }

    fn run(mut self, steps: usize, warm_up: usize, operators: bool) -> Result<Measured> {
        let device = self.s.learner.device();
        let _stream = self.s.learner.own_stream()?;
        let recording = if self.s.learner.recorder.is_some() { Recorder::STEPS } else { 1 };
        for _ in 0..warm_up.max(recording) {
            self.whole()?;
        }
        let mut whole = Vec::with_capacity(steps);
        for _ in 0..steps {
            wait(device);
            let start = Instant::now();
            self.whole()?;
            wait(device);
            whole.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let mut split: IndexMap<&str, Vec<f64>> = PARTS.iter().map(|part| (*part, Vec::new())).collect();
        for _ in 0..steps {
            let mut before = Instant::now();
            self.step(&mut |part| {
                wait(device);
                let now = Instant::now();
                split.entry(part).or_default().push((now - before).as_secs_f64() * 1e3);
                before = now;
            })?;
        }
        let megabytes = |bytes: Option<u64>| bytes.map(|b| b as f64 / 1e6);
        let (peak_rss_mb, peak_device_mb) = (megabytes(peak_rss()), megabytes(peak_device(device)));
        let operators = if operators { self.operators(steps)? } else { Vec::new() };
        let (counted, arithmetic) = flops::count(|| self.step(&mut |_| {}))?;
        counted?;

        let batch = self.s.plan.recipe.train.batch.min(self.s.train_images);
        let step_ms = median(&mut whole);
        let peaks = peaks(device, self.s.learner.student.precision)?;
        let Flops { products, convolutions } = arithmetic;
        let at_peak_s = products as f64 / (peaks.matmul * 1e9) + convolutions as f64 / (peaks.convolution * 1e9);
        let gflop = (products + convolutions) as f64 / 1e9;
        Ok(Measured {
            device: device::name(device).to_owned(),
            threads: usize::try_from(tch::get_num_threads()).unwrap_or_default(),
            batch,
            steps,
            images_per_second: batch as f64 / step_ms * 1e3,
            step_ms,
            // `median` has sorted them.
            step_range_ms: [whole.first().copied().unwrap_or_default(), whole.last().copied().unwrap_or_default()],
            peak_rss_mb,
            peak_device_mb,
            split_ms: split.into_iter().map(|(part, mut times)| (part.to_owned(), median(&mut times))).collect(),
            gflop,
            gflops: gflop / step_ms * 1e3,
            peak_gflops: peaks,
            flops_ratio: at_peak_s / step_ms * 1e3,
            operators,
        })
    }

    fn operators(&mut self, steps: usize) -> Result<Vec<Operator>> {
        let (done, operators) = profile::operators(|| (0..steps).try_for_each(|_| self.step(&mut |_| {})))?;
        done?;
        let per_step = |total: f64| total / steps as f64;
        let operator = |o: profile::Operator| Operator {
            name: o.name,
            calls: per_step(o.calls as f64),
            ms: per_step(o.own.as_secs_f64() * 1e3),
        };
        Ok(operators.into_iter().map(operator).collect())
    }
}

/// Sorts `values` and returns the median.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The fastest of several large operations in the number format of `precision`.
fn peaks(device: Device, precision: Precision) -> Result<Peaks> {
    let _constant = NoGrad::new();
    let _guards = guards(device, precision)?;
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, device));
    let best = |flop: f64, work: &dyn Fn() -> Tensor| {
        let time = |_| {
            wait(device);
            let start = Instant::now();
            let _result = work();
            wait(device);
            start.elapsed().as_secs_f64()
        };
        flop / (0..12).map(time).fold(f64::INFINITY, f64::min) / 1e9
    };
    let (a, b) = (random(&[2048, 2048]), random(&[2048, 2048]));
    let x = heterodyne_shim::channels_last(&random(&[32, 128, 28, 28]))?;
    let w = heterodyne_shim::channels_last(&random(&[128, 128, 3, 3]))?;
    Ok(Peaks {
        matmul: best(2.0 * 2048f64.powi(3), &|| a.matmul(&b)),
        convolution: best(2.0 * (32 * 128 * 28 * 28) as f64 * (128 * 9) as f64, &|| {
            x.conv2d::<&Tensor>(&w, None, [1, 1], [1, 1], [1, 1], 1)
        }),
    })
}
