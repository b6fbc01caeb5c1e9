//! Synthetic run folders.
use std::path::{Path, PathBuf};

use heterodyne_report::Group;
use heterodyne_run::{
    Eval, Machine, Metric, RunFolder, Status, Summary, Versions,
    metrics::Writer,
    summary::{Agreement, ClassScore, Detail, TeacherScore},
};
use serde_json::json;

/// The properties of a synthetic run.
#[derive(Clone)]
pub struct Spec<'s> {
    pub name: &'s str,
    pub method: Option<&'s str>,
    pub seed: u64,
    pub top1: f64,
    pub status: Option<Status>,
    pub error: Option<&'s str>,
    pub epochs: u32,
    pub selected_on: &'s str,
    pub networks: (&'s str, &'s str),
    pub data: &'s str,
}

impl Default for Spec<'_> {
    fn default() -> Self {
        Self {
            name: "scratch",
            method: None,
            seed: 0,
            top1: 80.0,
            status: Some(Status::Finished),
            error: None,
            epochs: 100,
            selected_on: "test",
            networks: ("vit_nano", "resnet8"),
            data: "digits",
        }
    }
}

/// A deterministic generator of random-looking numbers.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64 - 0.5
    }
}

pub fn eval(step: u64, epoch: f64, top1: f64) -> Eval {
    Eval {
        step,
        epoch,
        split: "test".to_owned(),
        weights: "live".to_owned(),
        top1,
        top5: Some(99.0),
        loss: 1.0,
        images: 500,
        seconds: 0.25,
    }
}

/// Writes a run folder.
pub fn run(path: &Path, spec: &Spec) {
    let folder = RunFolder::create(path).unwrap();
    let (teacher, student) = spec.networks;
    let mut plan = json!({
        "name": spec.name, "seed": spec.seed, "device": "auto",
        "data": {"name": spec.data, "per_class": 10, "augment": {"crop": "pad", "pad": 1}},
        "student": {"model": student, "options": {}}, "train": {"epochs": 100, "batch": 50, "precision": "fp32"},
        "optim": {"name": "sgd", "lr": 0.05, "betas": [0.9, 0.999]}, "methods": {}
    });
    if let Some(method) = spec.method {
        plan["teacher"] = json!({"model": teacher, "weights": "target/demo/teacher/weights/last.safetensors"});
        plan["methods"][method] = json!({"weight": 1.0, "temperature": 4.0, "scales": [1, 2, 4]});
    }
    folder.write_plan(&plan).unwrap();
    let mut writer = Writer::open(&folder.metrics(), None).unwrap();
    let mut noise = Noise(spec.seed * 7919 + spec.name.len() as u64 * 104_729 + 1);
    let mut evals = Vec::new();
    for epoch in 1..=spec.epochs {
        let t = f64::from(epoch) / 100.0;
        let step = u64::from(epoch) * 20;
        let lr = if epoch <= 5 { 0.01 * f64::from(epoch) } else { 0.025 * (1.0 + (std::f64::consts::PI * t).cos()) };
        let ce = 2.3 * (-3.0 * t).exp() + 0.02 + 0.05 * noise.next().abs();
        let mut terms = vec![("ce".to_owned(), ce)];
        if let Some(method) = spec.method {
            terms.push((method.to_owned(), 8.0 * (-2.0 * t).exp() + 0.3 * noise.next()));
            if method == "hcd" {
                terms.push(("hcd.ol".to_owned(), 0.02 * (-t).exp() + 0.002 * noise.next()));
            }
        }
        let metric = Metric::Train {
            step,
            epoch: f64::from(epoch),
            lr,
            loss: terms.iter().map(|(_, v)| v).sum(),
            terms: terms.into_iter().collect(),
            grad_norm: Some(1.0),
            images_per_second: 900.0 + 50.0 * noise.next(),
            data_wait: 0.05,
            seconds: f64::from(epoch) * 0.1,
        };
        writer.write(&metric).unwrap();
        if epoch % 5 == 0 {
            let top1 = if epoch == 100 {
                spec.top1
            } else {
                (spec.top1 - 60.0 * (-6.0 * t).exp() + 1.5 * noise.next()).clamp(0.0, 100.0)
            };
            evals.push(eval(step, f64::from(epoch), top1));
            writer.write(&Metric::Eval(evals[evals.len() - 1].clone())).unwrap();
        }
    }
    let Some(status) = spec.status else { return };
    let summary = Summary {
        name: spec.name.to_owned(),
        command: if spec.method.is_some() { "distill" } else { "train" }.to_owned(),
        status,
        error: spec.error.map(str::to_owned),
        student: student.to_owned(),
        teacher: spec.method.map(|_| teacher.to_owned()),
        teacher_score: spec.method.map(|_| TeacherScore { split: "test".to_owned(), top1: 98.4, images: 500 }),
        methods: spec.method.map(str::to_owned).into_iter().collect(),
        seed: spec.seed,
        epochs: spec.epochs,
        steps: u64::from(spec.epochs) * 20,
        parameters: 78_042,
        train_images: 100,
        last: evals.last().cloned(),
        detail: Some(detail(spec)),
        best: evals.iter().max_by(|a, b| a.top1.total_cmp(&b.top1)).cloned(),
        selected_on: spec.selected_on.to_owned(),
        seconds: f64::from(spec.epochs) * 0.1 + spec.seed as f64 * 0.1,
        images_per_second: 1000.0,
        device: "cpu".to_owned(),
        precision: "fp32".to_owned(),
        metrics: Some(writer.extent().unwrap()),
        versions: Versions { heterodyne: "0.1.0".to_owned(), libtorch: "2.11.0".to_owned() },
        machine: Some(Machine { processor: "EPYC".to_owned(), instructions: "avx2".to_owned(), threads: 2, gpu: None }),
    };
    folder.write_summary(&summary).unwrap();
}

/// Two classes, of which `elm` is 10 points above `ash`.
fn detail(spec: &Spec) -> Detail {
    let class = |class: &str, correct| ClassScore { class: class.to_owned(), images: 250, correct };
    Detail {
        split: "test".to_owned(),
        calibration_error: 4.0 + spec.seed as f64,
        classes: vec![class("elm", 225), class("ash", 200)],
        agreement: spec.method.map(|_| Agreement { images: 500, percent: 80.0 + spec.seed as f64 }),
    }
}

/// Runs of a group with one accuracy per seed.
pub fn group(dir: &Path, method: Option<&str>, top1: &[f64]) -> Group {
    let name = method.unwrap_or("scratch");
    let runs: Vec<PathBuf> = top1
        .iter()
        .enumerate()
        .map(|(seed, top1)| {
            let path = dir.join(format!("{name}-s{seed}"));
            run(&path, &Spec { name, method, seed: seed as u64, top1: *top1, ..Spec::default() });
            path
        })
        .collect();
    Group::new(name, runs)
}

/// The demo's five rows, with a failed, an interrupted and a killed run among them.
pub fn everything(dir: &Path) -> Vec<Group> {
    let mut groups = vec![
        group(dir, None, &[84.2, 85.6, 83.4]),
        group(dir, Some("kd"), &[90.4, 91.2, 90.0]),
        group(dir, Some("uhkd"), &[92.6, 93.0, 91.8]),
        group(dir, Some("lfcc"), &[92.2, 91.4, 93.6]),
        group(dir, Some("hcd"), &[91.0, 92.4, 91.6]),
    ];
    for (seed, status, epochs, error) in [
        (
            7,
            Some(Status::Failed),
            12,
            Some(
                "step 241 (epoch 12.05): hcd is NaN. The update was skipped; files on disk are intact.\n  hint: \
                 lower optim.lr",
            ),
        ),
        (8, Some(Status::Interrupted), 40, None),
        (9, None, 30, None),
    ] {
        let path = dir.join(format!("hcd-s{seed}"));
        run(&path, &Spec { name: "hcd", method: Some("hcd"), seed, status, epochs, error, ..Spec::default() });
        groups[4].runs.push(path);
    }
    groups
}
