//! Training in bfloat16 and float16.
use std::sync::atomic::AtomicBool;

use heterodyne_nn::{Progress, Tensors, file};
use heterodyne_run::{
    folder::RunFolder,
    metrics::{self, Metric},
    summary::Status,
};
use heterodyne_train::{Event, Session, fit, session::Place};
use tch::{Kind, Tensor};

use crate::support::{all_methods, differing, folder, interrupted_after, session, tensors};

/// Runs the recipe to its end; the folder's name is `name`.
fn run(dir: &std::path::Path, name: &str, sets: &[String]) -> RunFolder {
    let s = session(sets).unwrap();
    let run = folder(&dir.join(name), &s);
    let summary = fit(&s, &run, false, &AtomicBool::new(false), &mut |_: &Event| {}).unwrap();
    assert_eq!(summary.status, Status::Finished);
    run
}

fn losses(run: &RunFolder) -> Vec<f64> {
    let losses = metrics::read(&run.metrics()).unwrap().into_iter().filter_map(|metric| match metric {
        Metric::Train { loss, .. } => Some(loss),
        Metric::Eval(_) => None,
    });
    losses.collect()
}

#[test]
fn every_method_trains_in_half_precision() {
    for precision in ["bf16", "fp16"] {
        let dir = tempfile::tempdir().unwrap();
        let mut sets = all_methods(dir.path());
        sets.extend(["optim.name=adamw", "optim.lr=1e-3", "train.epochs=1"].map(str::to_owned));
        sets.push(format!("train.precision={precision}"));
        let weights = tensors(&run(dir.path(), "run", &sets).weights("last"));
        assert!(weights.values().all(|t| t.kind() == Kind::Float && bool::try_from(t.isfinite().all()).unwrap()));
    }
}

/// float16 has 11 significant bits: the losses of the first epochs stay close to those of float32.
#[test]
fn float16_follows_float32() {
    let dir = tempfile::tempdir().unwrap();
    let of = |precision: &str| losses(&run(dir.path(), precision, &[format!("train.precision={precision}")]));
    let (exact, rounded) = (of("fp32"), of("fp16"));
    assert_eq!(exact.len(), rounded.len());
    assert!(exact != rounded, "float16 changes nothing");
    for (a, b) in exact.iter().zip(&rounded) {
        assert!((a - b).abs() < 0.02 * a, "{exact:?} and {rounded:?}");
    }
}

fn with_scale(s: &Session, scale: f32) {
    let scaler = s.learner.scaler.as_ref().unwrap();
    let mut state: Tensors = scaler.state().into_iter().map(|(name, t)| (name, t.copy())).collect();
    state.insert("scale".to_owned(), Tensor::from_slice(&[scale]));
    scaler.load_state(&state).unwrap();
}

fn scale(s: &Session) -> f64 {
    s.learner.scaler.as_ref().unwrap().state()["scale"].double_value(&[0])
}

#[test]
fn a_gradient_that_overflows_is_skipped_and_the_run_goes_on() {
    let s = session(&["train.precision=fp16".to_owned()]).unwrap();
    with_scale(&s, 16_777_216.0);
    let weights = |s: &Session| -> Vec<Tensor> { s.learner.optimizer.parameters().iter().map(Tensor::copy).collect() };
    let start = weights(&s);
    let mut batches = s.train.epoch(0, 0);
    let mut step = |number: u64| {
        let batch = batches.next_until(&AtomicBool::new(false)).unwrap().unwrap();
        let at = Place { epoch: 0, batch: number, time: 0.0 };
        let progress = Progress { step: number, steps: 12, epoch: 0.0 };
        s.learner.step(&s.feed(batch, at, || ()).unwrap(), 0.02, progress).unwrap().values
    };
    let values = step(0);
    assert!(bool::try_from(values.isfinite().all()).unwrap(), "{values}: a skipped step ends the run");
    assert!(weights(&s) == start && scale(&s) < 16_777_216.0, "the step was not skipped");
    // The scale falls until the gradients fit.
    with_scale(&s, 1024.0);
    let _ = step(1);
    assert!(weights(&s) != start && scale(&s) == 1024.0);
}

#[test]
fn an_interrupted_run_in_float16_continues_with_its_scale() {
    let dir = tempfile::tempdir().unwrap();
    let mut sets = all_methods(dir.path());
    sets.extend(["train.keep_checkpoints=true", "train.precision=fp16"].map(str::to_owned));
    let straight = run(dir.path(), "straight", &sets);
    let s = session(&sets).unwrap();
    let broken = folder(&dir.path().join("broken"), &s);
    interrupted_after(6, &s, &broken);
    drop((s, broken));
    let broken = RunFolder::resume(&dir.path().join("broken")).unwrap();
    fit(&session(&sets).unwrap(), &broken, true, &AtomicBool::new(false), &mut |_: &Event| {}).unwrap();
    let (a, b) = (tensors(&broken.checkpoint()), tensors(&straight.checkpoint()));
    assert!(a.contains_key("scaler/scale") && differing(&a, &b).is_empty(), "{:?}", differing(&a, &b));
    // A checkpoint in another precision lacks it.
    let whole = file::read(&straight.checkpoint()).unwrap().0;
    assert_eq!(whole.keys().filter(|name| name.starts_with("scaler/")).count(), 3);
}
