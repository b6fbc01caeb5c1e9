//! Compares names, outputs and gradients with timm's.
use heterodyne_models::{Model, all};
use heterodyne_nn::{ParamStore, Pass, Role, shim::NoGrad};
use tch::{Device, Kind, Tensor};

use crate::support::{Case, Goldens, difference, fill, goldens, images, noise, sample, tensor};

/// Largest relative difference of an evaluation in float32, and of gradients in float64 (the goldens are stored in
/// float32).
const EVAL: f64 = 1e-4;
const TRAIN: f64 = 1e-6;

/// Also true for NaN.
fn beyond(difference: f64, tolerance: f64) -> bool {
    difference.is_nan() || difference > tolerance
}

/// The differences from timm in an evaluation.
fn evaluate(case: &Case, model: &Model, goldens: &Goldens) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut compare = |what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64| {
        let d = difference(ours, theirs);
        if beyond(d, tolerance) {
            complaints.push(format!("{} {what}: {d:.1e}", case.key));
        }
    };
    {
        let _guard = NoGrad::new();
        let out = model.net.forward(&images(2, case.img), Pass::TEACH);
        compare("logits", &out.logits, goldens.get(case, "logits").unwrap(), EVAL);
        compare("embedding", &sample(&out.embedding.unwrap(), 64), goldens.get(case, "embedding").unwrap(), EVAL);
        for (i, stage) in (1..).zip(&out.stages) {
            let t = match stage {
                heterodyne_nn::FeatureMap::Map(t) => t,
                heterodyne_nn::FeatureMap::Tokens { tokens, .. } => tokens,
            };
            compare(&format!("stage{i}"), &sample(t, 64), goldens.get(case, &format!("stage{i}")).unwrap(), EVAL);
        }
    }
    complaints
}

/// The differences from timm in a training pass, in float64, with the weights of `filled`: logits, gradients and
/// running statistics.
fn train(case: &Case, filled: &Model, goldens: &Goldens) -> Vec<String> {
    let Some(theirs) = goldens.get(case, "train") else { return Vec::new() };
    let Model { net, store, .. } = case.in_store(ParamStore::with_kind(Device::Cpu, Kind::Double, 0).deferred());
    {
        let _guard = NoGrad::new();
        for ((_, mut t, _), (_, from, _)) in store.entries().into_iter().zip(filled.store.entries()) {
            t.copy_(&from);
        }
    }
    let logits = net.forward(&images(4, case.img).to_kind(Kind::Double), Pass::TRAIN).logits;
    let mut complaints = Vec::new();
    let d = difference(&logits, goldens.get(case, "train_logits").unwrap());
    if beyond(d, TRAIN) {
        complaints.push(format!("{} training logits: {d:.1e}", case.key));
    }
    (&logits * tensor(noise(7, logits.numel()), &logits.size())).sum(Kind::Double).backward();
    let entries = store.entries();
    assert_eq!(entries.len() as i64, theirs.size()[0], "{}", case.key);
    for (i, (name, t, role)) in (0..).zip(entries) {
        let ours = sample(&if role == Role::Buffer { t.shallow_clone() } else { t.grad() }, 4);
        let theirs = theirs.get(i);
        // The difference of an element is relative to the root mean square of all. Gradients that are 0 in exact
        // arithmetic (a bias that a norm removes again) are below 1e-13 in timm, all others above 1e-2.
        let norm = theirs.double_value(&[4]).max(1e-6);
        let scale = theirs.abs().clamp_min(norm / (t.numel() as f64).sqrt());
        let d = ((ours - &theirs) / scale).abs().max().double_value(&[]);
        if beyond(d, TRAIN) {
            complaints.push(format!("{} gradient or statistic {name}: {d:.1e}", case.key));
        }
    }
    complaints
}

fn check_all(wanted: impl Fn(&Case) -> bool) {
    let goldens = Goldens::read();
    let complaints: Vec<_> = goldens
        .cases
        .iter()
        .filter(|case| wanted(case))
        .flat_map(|case| {
            let model = case.uninitialised();
            fill(&model.store);
            [evaluate(case, &model, &goldens), train(case, &model, &goldens)].concat()
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn conv_nets_compute_what_timm_computes() {
    check_all(|case| {
        ["resnet", "mobilenetv1", "mobilenetv2_100", "efficientnet"].iter().any(|name| case.model.starts_with(name))
    });
}

#[test]
fn conv_nets_of_the_crd_benchmark_compute_what_their_definition_computes() {
    check_all(|case| ["wrn", "vgg", "shufflenet", "mobilenetv2_half"].iter().any(|name| case.model.starts_with(name)));
}

#[test]
fn transformers_compute_what_timm_computes() {
    check_all(|case| case.model.starts_with("vit") || case.model.starts_with("deit"));
}

#[test]
fn windowed_transformers_compute_what_timm_computes() {
    check_all(|case| case.model.starts_with("swin"));
}

#[test]
fn conv_nets_with_layer_norms_compute_what_timm_computes() {
    check_all(|case| case.model.starts_with("convnext"));
}

#[test]
fn mlps_compute_what_timm_computes() {
    check_all(|case| case.model.contains("mixer") || case.model.starts_with("resmlp"));
}

#[test]
fn every_model_has_goldens_at_its_own_size_and_at_another() {
    let goldens = Goldens::read();
    for def in all() {
        let sizes: Vec<_> = goldens
            .cases
            .iter()
            .filter(|case| case.model == def.name && case.options.is_empty())
            .map(|case| case.img)
            .collect();
        assert!(sizes.len() >= 2 && sizes.contains(&def.input.img), "{}: {sizes:?}", def.name);
    }
}

#[test]
fn state_dicts_have_timms_names_shapes_and_order() {
    let text = std::fs::read_to_string(goldens().join("parameters.txt")).unwrap();
    let goldens = Goldens::read();
    let mut checked = 0;
    for section in text.split('[').skip(1) {
        let (key, theirs) = section.split_once("]\n").unwrap();
        let case = goldens.cases.iter().find(|case| case.key == key).unwrap();
        let shape = |t: &Tensor| t.size().iter().map(i64::to_string).collect::<Vec<_>>().join("x");
        let ours: Vec<_> =
            case.uninitialised().store.entries().iter().map(|(name, t, _)| format!("{name} {}", shape(t))).collect();
        for (ours, theirs) in ours.iter().zip(theirs.lines()) {
            assert_eq!(ours, theirs, "{key}");
        }
        assert_eq!(ours.len(), theirs.lines().count(), "{key}");
        checked += 1;
    }
    assert!(checked > all().count(), "{checked}");
}
