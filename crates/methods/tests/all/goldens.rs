//! Compares values and gradients with tests/goldens/make.py, in float64.
use std::path::Path;

use heterodyne_nn::{Labels, Output, ParamStore, StageSpec, Tensors, file};
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::support::{
    CPU, build, feature, fill, leaves, loss, map, number, sample_classes, samples, taps, tensors, tokens,
};

/// Both sides compute in float64 in different ways, so only rounding differs.
const TOLERANCE: f64 = 1e-11;

#[derive(Deserialize)]
struct Stage {
    kind: String,
    #[serde(default)]
    prefix: i64,
    channels: i64,
    grid: (i64, i64),
}

#[derive(Deserialize)]
struct Pair {
    student: Vec<Stage>,
    teacher: Vec<Stage>,
    d_s: i64,
    d_t: i64,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    method: String,
    pair: String,
    settings: toml::Table,
    labels: String,
    smoothing: f64,
    weights: std::collections::BTreeMap<String, f64>,
}

fn spec(stage: &Stage) -> StageSpec {
    let (h, w) = stage.grid;
    if stage.kind == "map" { map(stage.channels, h, w) } else { tokens(stage.prefix, stage.channels, h, w) }
}

fn close(what: &str, ours: &Tensor, theirs: &Tensor) {
    let theirs = theirs.view_as(ours);
    let off = number(&(ours - &theirs).abs().max()) / number(&theirs.abs().max()).max(1.0);
    assert!(off < TOLERANCE, "{what}: off by {off:e}");
}

/// All rows of a class are equal, as in make.py.
fn fill_banks(store: &ParamStore) {
    for (name, mut tensor, _) in store.entries().into_iter().filter(|(name, ..)| name.ends_with(".bank")) {
        let (dim, salt) = (tensor.size()[1], 0.1 * name.bytes().map(f64::from).sum::<f64>());
        let values: Vec<f64> = sample_classes()
            .iter()
            .flat_map(|class| (0..dim).map(move |d| 0.3 * (1.7 * (class * dim + d) as f64 + salt).sin()))
            .collect();
        tensor.copy_(&Tensor::from_slice(&values).reshape(tensor.size()));
    }
}

fn run(case: &Case, pair: &Pair, classes: i64, file: &Tensors) {
    let what = format!("{} {} {:?}", case.method, case.pair, case.settings);
    let side = |name: &str, stages: &[Stage], d: i64| {
        let stages: Vec<StageSpec> = stages.iter().map(spec).collect();
        let read = |key: &str| file.get(&format!("{}/{name}.{key}", case.pair)).map(Tensor::copy);
        let features =
            stages.iter().enumerate().map(|(i, s)| feature(s, read(&format!("stage{}", i + 1)).unwrap())).collect();
        (
            taps(&stages, d, classes),
            Output { logits: read("logits").unwrap(), embedding: read("embedding"), stages: features },
        )
    };
    let (student_taps, student) = side("student", &pair.student, pair.d_s);
    let (teacher_taps, teacher) = side("teacher", &pair.teacher, pair.d_t);
    let student = leaves(&student);
    let target = file[&format!("{}/{}", case.pair, case.labels)].shallow_clone();
    let labels = if case.labels == "hard" { Labels::Hard(target) } else { Labels::Soft(target) };

    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let method = build(&case.method, &case.settings, &store, &student_taps, &teacher_taps, 4).unwrap();
    fill(&store);
    fill_banks(&store);
    let terms = loss(&*method, &student, &teacher, &labels, case.smoothing).unwrap();
    assert_eq!(terms.len(), case.weights.len(), "{what}: {terms:?}");
    for term in &terms {
        close(&format!("{what}: {}", term.name), &term.value, &file[&format!("{}/term.{}", case.name, term.name)]);
        assert_eq!(term.weight, case.weights[&term.name], "{what}: weight of {}", term.name);
    }
    terms.total().unwrap().backward();
    for (name, x) in tensors(&student) {
        match file.get(&format!("{}/grad.student.{name}", case.name)) {
            Some(theirs) => close(&format!("{what}: gradient of {name}"), &x.grad(), theirs),
            None => assert!(!x.grad().defined(), "{what}: {name} should get no gradient"),
        }
    }
    for (name, parameter, _) in store.parameters() {
        let Some(theirs) = file.get(&format!("{}/param.{name}", case.name)) else {
            assert!(!parameter.grad().defined(), "{what}: {name} is unknown to the reference and gets a gradient");
            continue;
        };
        let pattern = (Tensor::arange(parameter.numel() as i64, (Kind::Double, CPU)) * 0.7).cos();
        close(
            &format!("{what}: gradient of {name}"),
            &(parameter.grad().flatten(0, -1) * pattern).sum(Kind::Double),
            theirs,
        );
    }
    let known = file.keys().filter(|key| key.starts_with(&format!("{}/param.", case.name))).count();
    let ours = store.parameters().iter().filter(|(_, p, _)| p.grad().defined()).count();
    assert_eq!(known, ours, "{what}: every weight of the reference is one of ours");
}

#[test]
fn values_and_gradients_are_those_of_the_reference() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/methods.safetensors"));
    let (file, metadata) = file::read(path).unwrap();
    let pairs: std::collections::BTreeMap<String, Pair> = serde_json::from_str(&metadata["pairs"]).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&metadata["cases"]).unwrap();
    assert!(cases.len() > 100);
    assert_eq!(serde_json::from_str::<Vec<usize>>(&metadata["samples"]).unwrap(), samples(4));
    assert_eq!(metadata["num_samples"].parse(), Ok(sample_classes().len()));
    for case in &cases {
        run(case, &pairs[&case.pair], metadata["classes"].parse().unwrap(), &file);
    }
}
