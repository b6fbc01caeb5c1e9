//! `train.graph`: a recorded step is the step itself. On a CPU the recorded work runs again on the recording's tensors,
//! which shows that nothing else goes into it; on a GPU (`HETERODYNE_TEST_DEVICE=cuda`) it is a CUDA graph.
use std::{path::Path, sync::atomic::AtomicBool};

use heterodyne_train::{Event, fit, learner::Recorder};

use crate::support::{differing, folder, interrupted_after, session, taught_by, teacher, tensors};

/// Weights that change, methods that end, batches that are mixed and others that are not. The rate is a float32.
fn recipe(weights: &str, optimizer: &str) -> Vec<String> {
    let mut sets = taught_by(weights, &["fitnet", "uhkd", "lfcc", "hcd", "ofa"]);
    sets.extend(
        [
            "train.epochs=6",
            "train.keep_checkpoints=true",
            "data.mix={mixup=0.8,cutmix=1.0,probability=0.5}",
            "methods.kd={weight=0.75,decay='step',decay_start=3.5}",
            "methods.rkd={weight=0.5,warmup_epochs=5.0}",
            "schedule={name='step',milestones=[2.0],gamma=0.5}",
            &format!("optim={{name='{optimizer}',lr=0.0078125}}"),
        ]
        .map(str::to_owned),
    );
    sets
}

fn with_graph(sets: &[String]) -> Vec<String> {
    [sets, &["train.graph=true".to_owned()]].concat()
}

fn train(sets: &[String], path: &Path) -> (heterodyne_nn::Tensors, heterodyne_nn::Tensors) {
    let s = session(sets).unwrap();
    let run = folder(path, &s);
    let steps = fit(&s, &run, false, &AtomicBool::new(false), &mut |_: &Event| {}).unwrap().steps;
    assert!(steps as usize > 3 * Recorder::STEPS);
    (tensors(&run.weights("last")), tensors(&run.checkpoint()))
}

#[test]
fn a_recorded_run_ends_with_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let weights = teacher(dir.path(), 10);
    for optimizer in ["sgd", "adamw"] {
        let sets = recipe(&weights, optimizer);
        let plain = train(&sets, &dir.path().join(format!("{optimizer}-plain")));
        let recorded = train(&with_graph(&sets), &dir.path().join(format!("{optimizer}-recorded")));
        assert_eq!(differing(&recorded.0, &plain.0), Vec::<String>::new(), "{optimizer}");
        assert_eq!(differing(&recorded.1, &plain.1), Vec::<String>::new(), "{optimizer}");
    }
}

#[test]
fn a_recorded_run_that_is_interrupted_continues_to_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let sets = with_graph(&recipe(&teacher(dir.path(), 10), "sgd"));
    let straight = train(&sets, &dir.path().join("straight"));
    let s = session(&sets).unwrap();
    let broken = folder(&dir.path().join("broken"), &s);
    interrupted_after(11, &s, &broken);
    drop((s, broken));

    let s = session(&sets).unwrap();
    let broken = heterodyne_run::folder::RunFolder::resume(&dir.path().join("broken")).unwrap();
    fit(&s, &broken, true, &AtomicBool::new(false), &mut |_: &Event| {}).unwrap();
    assert_eq!(differing(&tensors(&broken.weights("last")), &straight.0), Vec::<String>::new());
    assert_eq!(differing(&tensors(&broken.checkpoint()), &straight.1), Vec::<String>::new());
}

#[test]
fn a_method_that_computes_on_the_host_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let sets = with_graph(&taught_by(&teacher(dir.path(), 10), &["kd", "crd"]));
    let e = session(&sets).err().unwrap().to_string();
    assert!(e.contains("train.graph") && e.contains("crd") && e.contains("hint"), "{e}");
}
