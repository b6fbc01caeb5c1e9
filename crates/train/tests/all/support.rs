//! Small runs on the embedded digits.
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use heterodyne_models::Model;
use heterodyne_nn::{InputSpec, Tensors, file};
use heterodyne_run::{folder::RunFolder, recipe::Layered, summary::Status};
use heterodyne_train::{Event, Mode, Plan, Result, Session, fit, network::Card};
use tch::Device;

/// Forty images per epoch in batches of ten; a run takes a second or two.
pub const STUDENT: &str = r#"
name = "test"
device = "cpu"
[data]
name = "digits"
per_class = 4
holdout = 20
augment = { crop = "pad", pad = 1 }
[student]
model = "resnet8"
[train]
epochs = 3
batch = 10
log_every = 2
ema_decay = 0.9
clip_grad = 5.0
[optim]
lr = 0.02
"#;

/// Writes a random teacher with `classes` classes and returns its path.
pub fn teacher(folder: &Path, classes: i64) -> String {
    let def = heterodyne_models::find("vit_nano").unwrap();
    let model = Model::build(def, classes, None, &toml::Table::new(), Device::Cpu, 5).unwrap();
    let card = Card {
        model: def.name.to_owned(),
        options: toml::Table::new(),
        classes,
        input: InputSpec::whole(8, [0.3; 3], [0.4; 3]).into(),
        class_names: Vec::new(),
    };
    let path = folder.join(format!("teacher{classes}.safetensors"));
    let tensors = model.store.tensors();
    file::write(&path, tensors.iter().map(|(n, t)| (n.as_str(), t)), card.metadata().unwrap()).unwrap();
    path.display().to_string()
}

/// The settings that make [`STUDENT`] a distillation.
pub fn taught_by(weights: &str, methods: &[&str]) -> Vec<String> {
    let mut sets = vec!["teacher.model=vit_nano".to_owned(), format!("teacher.weights='{weights}'")];
    sets.extend(methods.iter().map(|m| format!("methods.{m}={{}}")));
    sets
}

/// The device of the runs: `HETERODYNE_TEST_DEVICE`, or the CPU.
pub fn test_device() -> String {
    std::env::var("HETERODYNE_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned())
}

/// The plan of [`STUDENT`] with changes.
pub fn plan(sets: &[String]) -> Result<Plan> {
    let command = if sets.iter().any(|s| s.starts_with("teacher.")) { Mode::Distill } else { Mode::Train };
    // Equal bits need operations in a fixed order, which a CPU has anyway.
    let device = test_device();
    let deterministic = device != "cpu";
    let text = STUDENT.replace(r#"device = "cpu""#, &format!("device = \"{device}\"\ndeterministic = {deterministic}"));
    Plan::resolve(&Layered::from_str("test.toml", &text, sets)?, command)
}

/// The session of [`STUDENT`] with changes.
pub fn session(sets: &[String]) -> Result<Session> {
    Session::build(plan(sets)?, &AtomicBool::new(false))
}

/// A run folder with its plan.
pub fn folder(path: &Path, s: &Session) -> RunFolder {
    let folder = RunFolder::create(path).unwrap();
    folder.write_plan(&serde_json::to_value(&s.plan.recipe).unwrap()).unwrap();
    folder
}

/// The settings of a distillation with several methods.
pub fn all_methods(folder: &Path) -> Vec<String> {
    taught_by(&teacher(folder, 10), &["kd", "fitnet", "crd", "uhkd", "lfcc", "hcd"])
}

pub fn tensors(path: &Path) -> Tensors {
    file::read(path).unwrap().0
}

/// Names of the tensors that are not bit-identical. The global generator is ignored: tests in other threads draw from
/// it.
pub fn differing(a: &Tensors, b: &Tensors) -> Vec<String> {
    assert_eq!(a.len(), b.len());
    let drawn = |name: &str| name.starts_with("rng/");
    a.iter().filter(|(name, t)| b.get(*name) != Some(*t) && !drawn(name)).map(|(name, _)| name.clone()).collect()
}

/// Starts a run and stops it after some steps.
pub fn interrupted_after(steps: usize, s: &Session, run: &RunFolder) {
    let (stop, mut done) = (AtomicBool::new(false), 0);
    let mut watch = |event: &Event| {
        if matches!(event, Event::Step { .. }) {
            done += 1;
            stop.store(done == steps, Ordering::Relaxed);
        }
    };
    assert_eq!(fit(s, run, false, &stop, &mut watch).unwrap().status, Status::Interrupted);
}
