//! Properties of every model, tested on small images and, if the model has size options, small networks.
use std::collections::HashSet;

use heterodyne_models::{Model, ModelDef, all};
use heterodyne_nn::{
    FeatureMap, Output, Pass, Role, file,
    shim::{Autocast, NoGrad, channels_last, is_channels_last},
};
use tch::{Device, Kind, Tensor};

use crate::support::{difference, fill, images, table};

/// Each model at a few sizes; tests that need only one use the first.
pub fn tiny(def: &'static ModelDef) -> (Vec<i64>, toml::Table) {
    match def.family {
        "resnet" | "efficientnet" => (vec![64, 33, 97, 1], toml::Table::new()),
        "resnet_cifar" | "wide_resnet" | "shufflenet" | "mobilenetv2_cifar" => (vec![16, 27, 1], toml::Table::new()),
        "vgg" => (vec![16, 27, 8, 65], toml::Table::new()),
        "convnext" => (vec![32, 17, 43, 16], table("patch = 2\ndim = 12\ndepths = [1, 1, 2, 1]")),
        // Grids that are a multiple of the window, that are not, and that are smaller than a window.
        "swin" => (vec![48, 34, 16, 2], table("patch = 2\nwindow = 3\ndim = 12\ndepths = [2, 2, 2, 2]\nheads = 3")),
        "vit" => (vec![12, 6, 30], table("patch = 3\ndim = 24\ndepth = 5\nheads = 3")),
        _ => (vec![12, 6, 30], table("patch = 3\ndim = 24\ndepth = 5")),
    }
}

pub fn build(def: &'static ModelDef, img: i64) -> Model {
    Model::build(def, 5, Some(img), &tiny(def).1, Device::Cpu, 3).unwrap()
}

/// A loss that depends on every output.
fn loss(out: &Output) -> Tensor {
    let mean_square = |t: &Tensor| t.to_kind(Kind::Float).square().mean(Kind::Float);
    let stages: Tensor = out.stages.iter().map(|stage| mean_square(&stage.to_map())).sum();
    mean_square(&out.logits) + mean_square(out.embedding.as_ref().unwrap()) + stages
}

#[test]
fn names_are_unique_and_tables_are_whole() {
    let mut names = HashSet::new();
    for def in all() {
        assert!(names.insert(def.name), "{} is there twice", def.name);
        assert!(!def.summary.is_empty() && def.input.img > 0 && def.input.check().is_ok(), "{}", def.name);
        assert!(def.input.std.iter().all(|&s| s > 0.0));
    }
}

#[test]
fn taps_are_known_before_the_forward_pass() {
    let _guard = NoGrad::new();
    for def in all() {
        for img in tiny(def).0 {
            let model = build(def, img);
            let spec = model.net.taps();
            let out = model.net.forward(&images(2, img), Pass::TEACH);
            let found: Vec<_> = out.stages.iter().map(FeatureMap::spec).collect();
            assert_eq!(found, spec.stages, "{} at {img}", def.name);
            assert_eq!(spec.stages.len(), 4, "{}", def.name);
            assert!(
                spec.stages.windows(2).all(|w| w[0].grid.0 >= w[1].grid.0 && w[0].grid.1 >= w[1].grid.1),
                "{}: {:?}",
                def.name,
                spec.stages
            );
            assert_eq!(out.embedding.unwrap().size(), [2, spec.embedding.unwrap()], "{}", def.name);
            assert_eq!(out.logits.size(), [2, spec.classes], "{}", def.name);
            assert_eq!(spec.classes, 5);
        }
    }
}

#[test]
fn without_taps_the_logits_stay_and_the_rest_goes() {
    let _guard = NoGrad::new();
    for def in all() {
        let img = tiny(def).0[0];
        let model = build(def, img);
        fill(&model.store);
        let with = model.net.forward(&images(2, img), Pass::TEACH);
        let without = model.net.forward(&images(2, img), Pass::EVAL);
        assert!(without.stages.is_empty() && without.embedding.is_none(), "{}", def.name);
        assert!(difference(&without.logits, &with.logits) < 1e-5, "{}", def.name);
        assert_eq!(
            model.net.forward(&images(2, img), Pass::EVAL).logits,
            without.logits,
            "{}: an evaluation is deterministic",
            def.name
        );
    }
}

#[test]
fn every_parameter_receives_a_gradient_in_float32_and_in_bfloat16() {
    for def in all() {
        let img = tiny(def).0[0];
        for bf16 in [false, true] {
            let model = build(def, img);
            fill(&model.store);
            let out = {
                let _cast = Autocast::new(Device::Cpu, bf16).unwrap();
                model.net.forward(&images(4, img), Pass::TRAIN)
            };
            loss(&out).backward();
            for (name, t, _) in model.store.parameters() {
                let grad = t.grad();
                assert!(grad.defined(), "{} {name}, bf16 {bf16}: no gradient", def.name);
                let norm = grad.norm().double_value(&[]);
                assert!(norm.is_finite() && norm > 0.0, "{} {name}, bf16 {bf16}: norm {norm}", def.name);
            }
        }
    }
}

#[test]
fn conv_nets_keep_channels_innermost_in_memory() {
    let _guard = NoGrad::new();
    for def in all() {
        let img = tiny(def).0[0];
        let model = build(def, img);
        let out = model.net.forward(&channels_last(&images(2, img)).unwrap(), Pass::TEACH);
        for stage in &out.stages {
            let FeatureMap::Map(x) = stage else { continue };
            assert!(is_channels_last(x), "{}", def.name);
        }
        let plain = model.net.forward(&images(2, img), Pass::EVAL).logits;
        assert!(out.logits.allclose(&plain, 1e-5, 1e-5, false), "{}", def.name);
    }
}

#[test]
fn bfloat16_stays_near_float32() {
    let _guard = NoGrad::new();
    for def in all() {
        let img = tiny(def).0[0];
        let model = build(def, img);
        fill(&model.store);
        let full = model.net.forward(&images(4, img), Pass::EVAL).logits;
        let _cast = Autocast::new(Device::Cpu, true).unwrap();
        let half = model.net.forward(&images(4, img), Pass::EVAL).logits;
        let off = ((&full - half).norm() / full.norm()).double_value(&[]);
        assert!(off < 0.05, "{}: {off}", def.name);
    }
}

#[test]
fn only_matrices_and_kernels_decay() {
    for def in all() {
        for (name, t, role) in build(def, tiny(def).0[0]).store.entries() {
            let matrix = name.ends_with(".weight") && t.dim() >= 2;
            let wanted = match () {
                () if name.contains("running_") => Role::Buffer,
                () if matrix => Role::Decay,
                () => Role::NoDecay,
            };
            assert_eq!(role, wanted, "{} {name}", def.name);
        }
    }
}

#[test]
fn only_training_moves_running_statistics() {
    let _guard = NoGrad::new();
    for def in all() {
        let img = tiny(def).0[0];
        let model = build(def, img);
        let buffers = || {
            model.store.entries().into_iter().filter(|e| e.2 == Role::Buffer).map(|e| e.1.copy()).collect::<Vec<_>>()
        };
        let before = buffers();
        let _ = model.net.forward(&images(4, img), Pass::TEACH);
        assert_eq!(before, buffers(), "{}", def.name);
        let _ = model.net.forward(&images(4, img), Pass::TRAIN);
        for (a, b) in before.iter().zip(buffers()) {
            assert!(*a != b, "{}: a batch norm stands still", def.name);
        }
    }
}

#[test]
fn a_seed_gives_the_same_weights_and_another_seed_others() {
    for def in all() {
        let img = tiny(def).0[0];
        let weights = |seed| Model::build(def, 5, Some(img), &tiny(def).1, Device::Cpu, seed).unwrap().store.tensors();
        assert_eq!(weights(3), weights(3), "{}", def.name);
        assert_ne!(weights(3), weights(4), "{}", def.name);
    }
}

#[test]
fn a_state_survives_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    for def in all() {
        let img = tiny(def).0[0];
        let (one, other) = (build(def, img), build(def, img));
        fill(&one.store);
        let tensors = one.store.tensors();
        file::write(&path, tensors.iter().map(|(name, t)| (name.as_str(), t)), Default::default()).unwrap();
        let report = other.load_file(&path, false).unwrap();
        assert!(
            report.is_clean() && report.adapted.is_empty() && report.loaded == tensors.len(),
            "{}: {report}",
            def.name
        );
        assert_eq!(other.store.tensors(), tensors, "{}", def.name);
    }
}
