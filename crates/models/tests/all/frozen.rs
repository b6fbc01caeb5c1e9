//! Compares a frozen network, which computes with packed weights, with the same network unfrozen.
use heterodyne_models::{Model, all};
use heterodyne_nn::{
    FeatureMap, Output, Pass,
    shim::{Autocast, NoGrad, flops},
};
use tch::{Device, Tensor};

use crate::{
    registry::{build, tiny},
    support::{difference, fill, images, table},
};

/// Logits, embedding and stages.
fn tensors(out: &Output) -> Vec<Tensor> {
    let stages = out.stages.iter().map(|stage| match stage {
        FeatureMap::Map(t) | FeatureMap::Tokens { tokens: t, .. } => t.shallow_clone(),
    });
    [&out.logits].into_iter().chain(&out.embedding).map(Tensor::shallow_clone).chain(stages).collect()
}

fn evaluate(model: &Model, x: &Tensor, pass: Pass) -> Vec<Tensor> {
    let _guard = NoGrad::new();
    tensors(&model.net.forward(x, pass))
}

/// As [`evaluate`], with libtorch's general operators.
fn evaluate_plain(model: &Model, x: &Tensor, pass: Pass) -> Vec<Tensor> {
    flops::set_plain(true);
    let out = evaluate(model, x, pass);
    flops::set_plain(false);
    out
}

#[track_caller]
fn assert_same(ours: &[Tensor], theirs: &[Tensor], tolerance: f64, what: &str) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(a.size(), b.size());
        let off = ((a - b).norm() / b.norm()).double_value(&[]);
        assert!(off <= tolerance, "{what}, output {i}: {off:.1e}");
    }
}

#[test]
fn every_model_gives_the_same_frozen_and_not() {
    for def in all() {
        for img in tiny(def).0 {
            let model = build(def, img);
            fill(&model.store);
            let x = images(3, img);
            let plain = [Pass::TEACH, Pass::EVAL].map(|pass| evaluate_plain(&model, &x, pass));
            model.store.freeze();
            for (pass, plain) in [Pass::TEACH, Pass::EVAL].into_iter().zip(&plain) {
                assert_same(&evaluate(&model, &x, pass), plain, 1e-5, &format!("{} at {img}", def.name));
            }
        }
    }
}

#[test]
fn sizes_of_real_networks_give_the_same_frozen_and_not() {
    for (name, img, options) in [
        ("deit_tiny_patch16_224", 112, ""),
        ("mixer_s16_224", 96, "depth = 4"),
        ("resmlp_12_224", 224, "depth = 4"),
        ("resnet50", 64, ""),
        ("mobilenetv2_100", 96, ""),
        ("convnext_tiny", 64, "depths = [1, 1, 1, 1]"),
        ("swin_tiny_patch4_window7_224", 112, "depths = [2, 2, 2, 2]"),
    ] {
        let def = heterodyne_models::find(name).unwrap();
        let model = Model::build(def, 10, Some(img), &table(options), Device::Cpu, 0).unwrap();
        fill(&model.store);
        let x = images(2, img);
        let plain = evaluate_plain(&model, &x, Pass::TEACH);
        model.store.freeze();
        assert_same(&evaluate(&model, &x, Pass::TEACH), &plain, 1e-5, name);
    }
}

#[test]
fn a_frozen_network_in_bfloat16_stays_near_float32() {
    for def in all() {
        let img = tiny(def).0[0];
        let model = build(def, img);
        fill(&model.store);
        model.store.freeze();
        let full = evaluate(&model, &images(4, img), Pass::EVAL);
        let _cast = Autocast::new(Device::Cpu, true).unwrap();
        let half = evaluate(&model, &images(4, img), Pass::EVAL);
        let off = ((&full[0] - &half[0]).norm() / full[0].norm()).double_value(&[]);
        assert!(off < 0.05, "{}: {off}", def.name);
    }
}

#[test]
fn an_empty_batch_goes_through_a_frozen_network() {
    for def in all() {
        let img = tiny(def).0[0];
        let model = build(def, img);
        model.store.freeze();
        assert_eq!(evaluate(&model, &images(0, img), Pass::TEACH)[0].size(), [0, 5], "{}", def.name);
    }
}

#[test]
fn new_weights_replace_the_packed_ones() {
    for def in all() {
        let img = tiny(def).0[0];
        let (one, other) = (build(def, img), build(def, img));
        fill(&other.store);
        for model in [&one, &other] {
            model.store.freeze();
        }
        let x = images(2, img);
        let before = evaluate(&one, &x, Pass::TEACH);
        let wanted = evaluate(&other, &x, Pass::TEACH);
        assert!(difference(&before[0], &wanted[0]) > 1e-2, "{}: the weights differ", def.name);
        one.store.load(&other.store.tensors()).unwrap().strict("a copy").unwrap();
        assert_eq!(evaluate(&one, &x, Pass::TEACH), wanted, "{}", def.name);
    }
}

/// libtorch does not count a batch norm's writes to its running statistics as changes.
#[test]
fn statistics_that_moved_replace_the_folded_ones() {
    for def in all() {
        let img = tiny(def).0[0];
        let (one, fresh) = (build(def, img), build(def, img));
        let x = images(4, img);
        for model in [&one, &fresh] {
            model.store.freeze();
        }
        for pass in [Pass::TEACH, Pass::TRAIN] {
            let _ = evaluate(&one, &x, pass);
        }
        fresh.store.load(&one.store.tensors()).unwrap().strict("a copy").unwrap();
        assert_eq!(evaluate(&one, &x, Pass::TEACH), evaluate(&fresh, &x, Pass::TEACH), "{}", def.name);
    }
}
