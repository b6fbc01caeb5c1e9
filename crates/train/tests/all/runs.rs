use std::sync::atomic::AtomicBool;

use heterodyne_run::{
    folder::RunFolder,
    metrics::{self, Metric},
    summary::Status,
};
use heterodyne_train::{Error, Event, fit};

use crate::support::{all_methods, differing, folder, interrupted_after, session, taught_by, teacher, tensors};

#[test]
fn an_interrupted_run_continues_to_the_very_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let mut sets = all_methods(dir.path());
    sets.push("train.keep_checkpoints=true".to_owned());
    let never = AtomicBool::new(false);

    let s = session(&sets).unwrap();
    let straight = folder(&dir.path().join("straight"), &s);
    let whole = fit(&s, &straight, false, &never, &mut |_: &Event| {}).unwrap();
    assert_eq!(whole.status, Status::Finished);

    let s = session(&sets).unwrap();
    let broken = folder(&dir.path().join("broken"), &s);
    // In the middle of the second epoch.
    interrupted_after(6, &s, &broken);
    drop((s, broken));

    let s = session(&sets).unwrap();
    let broken = RunFolder::resume(&dir.path().join("broken")).unwrap();
    let resumed = fit(&s, &broken, true, &never, &mut |_: &Event| {}).unwrap();
    assert_eq!(resumed.steps, whole.steps);
    assert_eq!(resumed.last.unwrap().top1, whole.last.unwrap().top1);
    assert_eq!(differing(&tensors(&broken.checkpoint()), &tensors(&straight.checkpoint())), Vec::<String>::new());
    assert_eq!(differing(&tensors(&broken.weights("last")), &tensors(&straight.weights("last"))), Vec::<String>::new());

    // The metrics are those of one run: steps increase strictly.
    let steps: Vec<u64> = metrics::read(&broken.metrics())
        .unwrap()
        .iter()
        .filter_map(|m| match m {
            Metric::Train { step, .. } => Some(*step),
            Metric::Eval(_) => None,
        })
        .collect();
    assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
    assert_eq!(steps.last(), Some(&whole.steps));
}

#[test]
fn an_overflowing_loss_ends_the_run_by_name_and_spares_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut sets = taught_by(&teacher(dir.path(), 10), &["kd"]);
    sets.extend(["optim.lr=1e30".to_owned(), "train.clip_grad=1e30".to_owned()]);
    let s = session(&sets).unwrap();
    let run = folder(&dir.path().join("run"), &s);
    let e = fit(&s, &run, false, &AtomicBool::new(false), &mut |_: &Event| {}).unwrap_err();
    let Error::NonFinite { step, .. } = &e else { panic!("{e}") };
    assert!(*step <= 4, "{e}");
    assert!(e.to_string().contains("lower optim.lr"), "{e}");
    let summary = run.read_summary().unwrap();
    assert_eq!(summary.status, Status::Failed);
    assert!(summary.last.is_none());
    let text = std::fs::read_to_string(run.metrics()).unwrap();
    assert!(!text.contains("NaN") && !text.contains("null") && !text.contains("inf"), "{text}");
}

#[test]
fn two_runs_of_a_recipe_are_equal_and_another_seed_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, extra: &[&str]| {
        let sets: Vec<String> = extra.iter().map(|s| (*s).to_owned()).chain(["train.epochs=1".to_owned()]).collect();
        let s = session(&sets).unwrap();
        let folder = folder(&dir.path().join(name), &s);
        fit(&s, &folder, false, &AtomicBool::new(false), &mut |_: &Event| {}).unwrap();
        tensors(&folder.weights("last"))
    };
    let first = run("a", &[]);
    assert_eq!(differing(&first, &run("b", &["data.workers=2"])), Vec::<String>::new());
    assert!(!differing(&first, &run("c", &["seed=1"])).is_empty());
}

#[test]
fn mixed_batches_train_every_method_and_are_the_same_in_every_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut sets = all_methods(dir.path());
    sets.extend(["data.mix={mixup=0.8,cutmix=1.0}", "train.epochs=2"].map(str::to_owned));
    let run = |name: &str| {
        let s = session(&sets).unwrap();
        let run = folder(&dir.path().join(name), &s);
        assert_eq!(
            fit(&s, &run, false, &AtomicBool::new(false), &mut |_: &Event| {}).unwrap().status,
            Status::Finished
        );
        tensors(&run.weights("last"))
    };
    assert_eq!(differing(&run("a"), &run("b")), Vec::<String>::new());
}

/// A network with an input that it was not built for fails inside libtorch; that is an error, not a panic.
#[test]
fn an_engine_failure_in_an_evaluation_is_an_error_that_says_so() {
    let mut s = session(&[]).unwrap();
    s.learner.student.view = heterodyne_data::View::new(8, [0.5; 3], [0.5; 3], tch::Device::Cpu).unwrap();
    s.learner.student.module = heterodyne_models::Model::build(
        heterodyne_models::find("vit_nano").unwrap(),
        10,
        Some(16),
        &toml::Table::new(),
        tch::Device::Cpu,
        0,
    )
    .unwrap()
    .net;
    let e = heterodyne_train::run::eval::evaluate(&s.learner.student, &s.test, |_| {}).unwrap_err().to_string();
    assert!(e.starts_with("evaluating: The size of tensor"), "{e}");
}

/// Several methods, each with its own weight schedule: the total is the sum of the terms with the weights of that step.
#[test]
fn weights_over_time_are_those_of_the_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let mut sets = taught_by(&teacher(dir.path(), 10), &[]);
    sets.extend(
        [
            "train.log_every=1",
            "loss.ce=0.5",
            "methods.kd={weight=0.9, temperature=4.0, logit_std=true}",
            "methods.dkd={weight=2.0, warmup_epochs=2.0}",
            "methods.rkd={weight=0.1, decay='linear', decay_start=1.0, decay_to=0.5}",
        ]
        .map(str::to_owned),
    );
    let s = session(&sets).unwrap();
    let run = folder(&dir.path().join("run"), &s);
    fit(&s, &run, false, &AtomicBool::new(false), &mut |_: &Event| {}).unwrap();
    let mut seen = 0;
    for metric in metrics::read(&run.metrics()).unwrap() {
        let Metric::Train { step, loss, terms, .. } = metric else { continue };
        // Four steps per epoch; the weight is that at the start of the step.
        let epoch = (step - 1) as f64 / 4.0;
        let dkd = 2.0 * (epoch / 2.0).min(1.0);
        let rkd = 0.1 * (1.0 - 0.5 * ((epoch - 1.0) / 2.0).clamp(0.0, 1.0));
        let expected = 0.5 * terms["ce"]
            + 0.9 * terms["kd.kd"]
            + dkd * (terms["dkd.tckd"] + 2.0 * terms["dkd.nckd"])
            + rkd * (25.0 * terms["rkd.distance"] + 50.0 * terms["rkd.angle"]);
        assert!((loss - expected).abs() < 1e-5 * expected, "step {step}: {loss} is not {expected}");
        seen += 1;
    }
    assert_eq!(seen, 12);
}

/// A method whose weight has decayed to 0 is not computed, and the teacher does not run. The student is the same as
/// with a weight too small for float32.
#[test]
fn a_method_that_has_ended_is_not_computed() {
    let dir = tempfile::tempdir().unwrap();
    let weights = teacher(dir.path(), 10);
    let trained = |name: &str, decay_to: &str| {
        let mut sets = taught_by(&weights, &[]);
        let kd = format!("methods.kd={{decay='step', decay_start=1.5, decay_to={decay_to}}}");
        let uhkd = format!("methods.uhkd={{decay='step', decay_start=1.25, decay_to={decay_to}}}");
        sets.extend([kd, uhkd, "train.log_every=1".to_owned()]);
        let s = session(&sets).unwrap();
        assert_eq!([1.0, 1.25, 1.5].map(|epoch| s.learner.loss.needs_teacher(epoch)), [true, true, decay_to != "0.0"]);
        let run = folder(&dir.path().join(name), &s);
        fit(&s, &run, false, &AtomicBool::new(false), &mut |_: &Event| {}).unwrap();
        let terms = metrics::read(&run.metrics()).unwrap().into_iter().filter_map(|metric| match metric {
            Metric::Train { terms, .. } => Some(terms.into_keys().collect::<Vec<_>>()),
            _ => None,
        });
        (tensors(&run.weights("last")), terms.collect::<Vec<_>>())
    };
    let (ended, terms) = trained("ended", "0.0");
    // Four steps per epoch: uhkd ends after five, kd after six.
    let all = ["ce", "kd.kd", "uhkd.kd", "uhkd.freq"];
    assert!(terms[..5].iter().all(|names| names == &all));
    assert_eq!(terms[5], all[..2]);
    assert!(terms[6..].len() == 6 && terms[6..].iter().all(|names| names == &all[..1]));
    let (tiny, terms) = trained("tiny", "1e-300");
    assert!(terms.iter().all(|names| names == &all));
    for (name, tensor) in &ended {
        assert_eq!(tensor, &tiny[name], "{name}");
    }
}

#[test]
fn test_images_are_left_alone_where_the_recipe_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let never = AtomicBool::new(false);
    for (when, validations, tests, reported) in
        [("every", 3, 3, "test"), ("last", 3, 1, "test"), ("never", 3, 0, "validation")]
    {
        let mut sets = taught_by(&teacher(dir.path(), 10), &["kd"]);
        sets.push(format!("train.test={when}"));
        let s = session(&sets).unwrap();
        let run = folder(&dir.path().join(when), &s);
        let mut looked = None;
        let summary = fit(&s, &run, false, &never, &mut |event: &Event| {
            if let Event::Teacher(check) = event {
                looked = Some(check.measured.images);
            }
        })
        .unwrap();
        let all = metrics::read(&run.metrics()).unwrap();
        let count = |wanted: &str| all.iter().filter(|m| matches!(m, Metric::Eval(e) if e.split == wanted)).count();
        assert_eq!((count("validation"), count("test")), (validations, tests), "{when}");
        assert_eq!(
            (summary.last.unwrap().split.as_str(), summary.selected_on.as_str()),
            (reported, "validation"),
            "{when}"
        );
        // Twenty images are held out; the digits have five hundred test images.
        assert_eq!(looked, Some(if when == "every" { 500 } else { 20 }), "{when}");
    }
    let mut sets = taught_by(&teacher(dir.path(), 10), &["kd"]);
    sets.extend(["train.test=never".to_owned(), "data.holdout=0".to_owned()]);
    let error = session(&sets).err().unwrap().to_string();
    assert!(error.contains("train.test") && error.contains("data.holdout"), "{error}");
}

/// The generator's state is kept under the device's name: on another kind of device it starts anew, in words.
#[test]
fn a_checkpoint_of_another_kind_of_device_continues_with_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let sets = ["train.keep_checkpoints=true".to_owned()];
    let s = session(&sets).unwrap();
    let run = folder(&dir.path().join("run"), &s);
    interrupted_after(1, &s, &run);
    let (mut tensors, metadata) = heterodyne_nn::file::read(&run.checkpoint()).unwrap();
    let (own, other) = if s.learner.device().is_cuda() { ("rng/cuda", "rng/cpu") } else { ("rng/cpu", "rng/cuda") };
    let state = tensors.shift_remove(own).unwrap();
    tensors.insert(other.to_owned(), state);
    heterodyne_nn::file::write(&run.checkpoint(), tensors.iter().map(|(n, t)| (n.as_str(), t)), metadata).unwrap();
    let mut notes = Vec::new();
    let mut listen = |event: &Event| {
        if let Event::Note(note) = event {
            notes.push((*note).to_owned());
        }
    };
    let summary = fit(&session(&sets).unwrap(), &run, true, &AtomicBool::new(false), &mut listen).unwrap();
    assert_eq!(summary.status, Status::Finished);
    assert!(notes.iter().any(|note| note.contains("another kind of device")), "{notes:?}");
}
