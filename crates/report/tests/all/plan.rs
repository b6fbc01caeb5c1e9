//! Rows are runs with equal plans, and differences are those of runs that can be compared.
use std::path::{Path, PathBuf};

use heterodyne_report::{Group, Loaded, groups, table};
use heterodyne_run::RunFolder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::sample::{Spec, run};

/// A run whose plan has other values at some places.
fn planned(dir: &Path, name: &'static str, seed: u64, top1: f64, changes: &[(&str, Value)]) -> PathBuf {
    let path = dir.join(format!("{}", std::fs::read_dir(dir).unwrap().count()));
    let method = (name != "scratch" && name != "teacher").then_some(name);
    run(&path, &Spec { name, method, seed, top1, ..Spec::default() });
    let folder = RunFolder::open(&path).unwrap();
    let mut plan: Value = folder.read_plan().unwrap();
    for (pointer, value) in changes {
        let (table, key) = pointer.rsplit_once('/').unwrap();
        plan.pointer_mut(table).unwrap()[key] = value.clone();
    }
    folder.write_plan(&plan).unwrap();
    path
}

fn rows(paths: &[PathBuf]) -> Vec<(String, usize)> {
    groups(paths).unwrap().into_iter().map(|group| (group.name, group.runs.len())).collect()
}

fn shown(paths: &[PathBuf]) -> String {
    let loaded: Vec<Loaded> = groups(paths).unwrap().iter().map(|group| group.load().unwrap()).collect();
    table(&loaded)
}

/// The last cell of the row that begins with `name`.
fn difference(text: &str, name: &str) -> String {
    let row = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in\n{text}"));
    row.split_whitespace().last().unwrap().to_owned()
}

#[test]
fn runs_that_differ_in_a_setting_are_not_averaged() {
    let dir = TempDir::new().unwrap();
    let at = |seed, top1, changes: &[(&str, Value)]| planned(dir.path(), "kd", seed, top1, changes);
    let long = [at(0, 87.0, &[]), at(1, 88.0, &[]), at(2, 88.0, &[])];
    let short = at(0, 23.0, &[("/train/epochs", json!(5))]);
    let all: Vec<PathBuf> = long.iter().cloned().chain([short.clone()]).collect();
    assert_eq!(rows(&all), [("kd (train.epochs = 100)".to_owned(), 3), ("kd (train.epochs = 5)".to_owned(), 1)]);
    let text = shown(&all);
    assert!(text.contains("87.67 ± 0.58") && text.contains("23.00"), "{text}");

    // A method's own settings, a value that only one has, and text without its quotes.
    let other = at(0, 90.0, &[("/methods/kd/temperature", json!(2.0)), ("/train/clip_grad", json!(1.0))]);
    assert_eq!(rows(&[long[0].clone(), other])[1].0, "kd (methods.kd.temperature = 2.0, train.clip_grad = 1.0)",);
    let other = at(0, 90.0, &[("/optim/name", json!("adamw"))]);
    assert_eq!(rows(&[long[0].clone(), other])[1].0, "kd (optim.name = adamw)");
    // Many differences are counted.
    let changes = [
        ("/train/epochs", json!(5)),
        ("/train/batch", json!(5)),
        ("/optim/lr", json!(5)),
        ("/data/per_class", json!(5)),
    ];
    let name = &rows(&[long[0].clone(), at(0, 9.0, &changes)])[1].0;
    assert!(name.starts_with("kd (") && name.ends_with(", and 1 more)"), "{name}");
}

#[test]
fn where_files_lie_and_where_a_run_was_computed_makes_no_row() {
    let dir = TempDir::new().unwrap();
    let at = |seed, path: &str, workers: u32, device: &str| {
        let places = [("/data/path", json!(path)), ("/data/workers", json!(workers)), ("/device", json!(device))];
        planned(dir.path(), "kd", seed, 87.0, &places)
    };
    let (here, there) = (at(0, "a", 1, "cpu"), at(1, "b", 8, "cuda"));
    // A plan without a key, of an earlier version, had its default.
    let later = planned(dir.path(), "kd", 2, 87.0, &[("/deterministic", json!(false))]);
    assert_eq!(rows(&[here.clone(), later]), [("kd".to_owned(), 2)]);
    assert_eq!(rows(&[here, there]), [("kd".to_owned(), 2)]);
}

#[test]
fn only_the_same_student_data_and_epochs_are_compared_with_scratch() {
    let dir = TempDir::new().unwrap();
    let scratch = planned(dir.path(), "scratch", 0, 80.0, &[]);
    let kd = planned(dir.path(), "kd", 0, 85.0, &[]);
    // The training itself may differ: that is what the table compares.
    let rate = planned(dir.path(), "uhkd", 0, 86.0, &[("/optim/lr", json!(0.2))]);
    let text = shown(&[scratch.clone(), kd.clone(), rate]);
    assert_eq!((difference(&text, "kd"), difference(&text, "uhkd")), ("+5.00".to_owned(), "+6.00".to_owned()));

    for (place, value) in [
        ("/train/epochs", json!(5)),
        ("/student/model", json!("resnet20")),
        ("/student/options", json!({"width": 2})),
        ("/student/weights", json!("resnet8.safetensors")),
        ("/data/per_class", json!(20)),
        ("/data/name", json!("folder")),
    ] {
        let other = planned(dir.path(), "dkd", 0, 90.0, &[(place, value)]);
        let text = shown(&[scratch.clone(), kd.clone(), other]);
        assert_eq!(difference(&text, "dkd"), "–", "{place}: {text}");
        assert_eq!(difference(&text, "kd"), "+5.00", "{place}: {text}");
    }
}

#[test]
fn a_teachers_training_is_no_baseline() {
    let dir = TempDir::new().unwrap();
    let teacher = planned(dir.path(), "teacher", 0, 95.0, &[("/student/model", json!("vit_nano"))]);
    let kd = planned(dir.path(), "kd", 0, 85.0, &[]);
    assert!(!shown(&[teacher.clone(), kd.clone()]).contains("vs scratch"));
    // Beside it, a row of the student's own is found.
    let own = planned(dir.path(), "scratch", 0, 80.0, &[]);
    let text = shown(&[teacher, own, kd]);
    assert_eq!((difference(&text, "kd"), difference(&text, "teacher   ")), ("+5.00".to_owned(), "–".to_owned()));
}

#[test]
fn each_length_of_training_has_its_own_baseline() {
    let dir = TempDir::new().unwrap();
    let at = |name, top1, epochs: u32| planned(dir.path(), name, 0, top1, &[("/train/epochs", json!(epochs))]);
    let all = [at("scratch", 80.0, 100), at("scratch", 60.0, 5), at("kd", 84.0, 100), at("kd", 70.0, 5)];
    let text = shown(&all);
    assert_eq!(difference(&text, "kd (train.epochs = 100)"), "+4.00", "{text}");
    assert_eq!(difference(&text, "kd (train.epochs = 5)"), "+10.00", "{text}");
    let folders: Vec<Group> = groups(&all).unwrap();
    // The accuracy stands beside the name, with the networks under it.
    let page = heterodyne_report::html("Runs", "", &folders).unwrap();
    assert!(page.contains("<td class=\"left\"><strong>kd (train.epochs = 5)</strong>"), "{page}");
}

#[test]
fn the_row_with_the_same_settings_is_the_one_to_compare_with() {
    let dir = TempDir::new().unwrap();
    let at = |name, top1, lr: f64| planned(dir.path(), name, 0, top1, &[("/optim/lr", json!(lr))]);
    let all = [at("scratch", 80.0, 0.1), at("scratch", 60.0, 0.2), at("kd", 84.0, 0.1), at("kd", 70.0, 0.2)];
    let text = shown(&[&all[..], &[at("dkd", 90.0, 0.1), at("dkd", 91.0, 0.2)]].concat());
    for (name, differences) in [
        ("dkd (optim.lr = 0.1)", "+6.00 +10.00"),
        ("dkd (optim.lr = 0.2)", "+21.00 +31.00"),
        ("kd (optim.lr = 0.2)", "– +10.00"),
        ("scratch (optim.lr = 0.1)", "-4.00 –"),
    ] {
        let row = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row.split_whitespace().collect::<Vec<_>>().join(" ").ends_with(differences), "{name}: {text}");
    }
    // With other settings than either, neither is the one.
    let text = shown(&[&all[..], &[at("dkd", 90.0, 0.3)]].concat());
    assert_eq!(difference(&text, "dkd"), "–", "{text}");
}
