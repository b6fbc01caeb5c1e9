//! Weights that fit, nearly fit and do not fit.
use std::path::{Path, PathBuf};

use heterodyne_models::{Model, find};
use heterodyne_nn::{Pass, Tensors, file, shim::NoGrad};
use tch::{Device, Kind, Tensor};

use crate::support::{Goldens, difference, goldens, images, noise, table, tensor};

fn build(name: &str, classes: i64, img: i64, options: &str) -> Model {
    Model::build(find(name).unwrap(), classes, Some(img), &table(options), Device::Cpu, 0).unwrap()
}

fn nano(classes: i64, img: i64) -> Model {
    build("vit_nano", classes, img, "dim = 12\nheads = 2")
}

fn write(folder: &Path, tensors: &Tensors) -> PathBuf {
    let path = folder.join("weights.safetensors");
    file::write(&path, tensors.iter().map(|(name, t)| (name.as_str(), t)), Default::default()).unwrap();
    path
}

#[test]
fn a_position_embedding_is_resampled_as_timm_does() {
    let goldens = Goldens::read();
    for (old, new) in [(14, 7), (7, 14), (4, 5), (5, 3)] {
        let model = build("vit_nano", 3, new * 2, "dim = 6\nheads = 2");
        let n = 1 + old * old;
        let mut tensors = model.store.tensors();
        tensors.insert("pos_embed".into(), tensor(noise(3, (n * 6) as usize), &[1, n, 6]));
        let report = model.load(&tensors, false).unwrap();
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.adapted, [format!("pos_embed: resampled from a grid of {old}x{old} to {new}x{new}")]);
        let theirs = goldens.tensor(&format!("pos_embed/{old}/{new}"));
        assert!((&model.store.tensors()["pos_embed"] - theirs).abs().max().double_value(&[]) < 1e-6, "{old} to {new}");
    }
}

#[test]
fn a_position_embedding_that_is_no_square_is_reported() {
    let model = nano(3, 8);
    let mut tensors = model.store.tensors();
    tensors.insert("pos_embed".into(), Tensor::zeros([1, 1 + 15, 12], (Kind::Float, Device::Cpu)));
    let report = model.load(&tensors, false).unwrap();
    assert_eq!(report.mismatched, [("pos_embed".to_owned(), vec![1, 16, 12], vec![1, 17, 12])]);
}

/// A Swin whose first stage has windows of `window` places.
fn swin(window: i64) -> Model {
    let options = format!("patch = 1\nwindow = {window}\ndim = 3\ndepths = [1, 1, 1, 1]\nheads = 3");
    build("swin_tiny_patch4_window7_224", 3, 16, &options)
}

const TABLE: &str = "layers.0.blocks.0.attn.relative_position_bias_table";

#[test]
fn a_bias_table_is_resampled_as_timm_does() {
    let goldens = Goldens::read();
    for (old, new) in [(7, 4), (7, 12), (7, 1), (3, 8), (12, 7)] {
        let model = swin(new);
        let n = (2 * old - 1) * (2 * old - 1);
        let mut tensors = model.store.tensors();
        tensors.insert(TABLE.into(), tensor(noise(4, (n * 3) as usize), &[n, 3]));
        let report = model.load(&tensors, false).unwrap();
        assert!(report.is_clean(), "{report}");
        assert_eq!(
            report.adapted,
            [format!("relative_position_bias_table: 1 resampled from windows of {old}x{old} to {new}x{new}")]
        );
        let theirs = goldens.tensor(&format!("bias_table/{old}/{new}"));
        let off = (&model.store.tensors()[TABLE] - theirs).abs().max().double_value(&[]);
        assert!(off < 1e-6, "{old} to {new}: {off:.1e}");
    }
}

#[test]
fn a_swin_takes_weights_of_other_windows_and_tables_that_cannot_fit_are_reported() {
    let (model, other) = (swin(4), swin(7));
    let report = model.load(&other.store.tensors(), false).unwrap();
    // Grids of 16, 8, 4 and 2 places: windows of 7, 7, 4 and 2 in the one, of 4, 4, 4 and 2 in the other.
    assert_eq!(report.adapted, ["relative_position_bias_table: 2 resampled from windows of 7x7 to 4x4"]);
    assert!(report.is_clean(), "{report}");

    for shape in [[15, 3], [49, 4], [16, 3], [0, 3]] {
        let mut tensors = model.store.tensors();
        tensors.insert(TABLE.into(), Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
        let report = model.load(&tensors, false).unwrap();
        assert_eq!(report.mismatched, [(TABLE.to_owned(), shape.to_vec(), vec![49, 3])]);
    }
}

#[test]
fn tensors_that_follow_from_a_swins_sizes_are_passed_over() {
    let model = swin(7);
    let mut tensors = model.store.tensors();
    for name in ["layers.0.blocks.0.attn.relative_position_index", "layers.0.blocks.1.attn_mask"] {
        tensors.insert(name.into(), Tensor::zeros([49, 49], (Kind::Int64, Device::Cpu)));
    }
    assert!(model.load(&tensors, false).unwrap().is_clean());
}

#[test]
fn another_head_needs_permission_and_then_starts_new() {
    let folder = tempfile::tempdir().unwrap();
    let (hundred, ten) = (nano(100, 8), nano(10, 8));
    let path = write(folder.path(), &hundred.store.tensors());
    let fresh = ten.store.tensors()["head.weight"].copy();

    let text = ten.load_file(&path, false).unwrap_err().to_string();
    assert!(
        text.contains("100 classes")
            && text.contains("10")
            && text.contains("adapt_head = true")
            && text.contains("number of classes"),
        "{text}"
    );

    let report = ten.load_file(&path, true).unwrap();
    assert_eq!(report.adapted, ["head: 100 classes in the file; starts fresh with 10"]);
    assert_eq!(ten.store.tensors()["head.weight"], fresh);
    assert_eq!(ten.store.tensors()["cls_token"], hundred.store.tensors()["cls_token"]);

    // A head that fits is loaded, with or without `adapt_head`.
    let same = nano(100, 8);
    assert!(same.load_file(&path, true).unwrap().adapted.is_empty());
    assert_eq!(same.store.tensors()["head.weight"], hundred.store.tensors()["head.weight"]);
}

#[test]
fn a_file_without_a_head_is_missing_it_unless_a_new_one_is_allowed() {
    let model = nano(10, 8);
    let mut tensors = model.store.tensors();
    tensors.retain(|name, _| !name.starts_with("head."));
    assert_eq!(model.load(&tensors, false).unwrap().missing, ["head.weight", "head.bias"]);
    let report = model.load(&tensors, true).unwrap();
    assert!(report.is_clean() && report.adapted == ["head: not in the file; starts fresh with 10 classes"], "{report}");
}

#[test]
fn a_bad_file_is_reported_name_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = nano(10, 8);
    let mut tensors = model.store.tensors();
    let cls = tensors.shift_remove("cls_token").unwrap();
    tensors.insert("class_token".into(), cls);
    tensors.insert("norm.weight".into(), Tensor::ones([7], (Kind::Float, Device::Cpu)));
    let path = write(folder.path(), &tensors);
    let text = model.load_file(&path, true).unwrap_err().to_string();
    for part in [
        "weights.safetensors",
        "vit_nano",
        "cls_token (the file has `class_token`)",
        "class_token",
        "norm.weight: [7] in the file, [12] in the network",
    ] {
        assert!(text.contains(part), "{part} not in: {text}");
    }

    let bytes = std::fs::read(&path).unwrap();
    for keep in [bytes.len() - 5, 100, 3, 0] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        let text = model.load_file(&path, true).unwrap_err().to_string();
        assert!(text.contains("cut short") && text.contains("weights.safetensors"), "{text}");
    }
    let text = model.load_file(&folder.path().join("absent.safetensors"), false).unwrap_err().to_string();
    assert!(text.contains("absent.safetensors"), "{text}");
}

#[test]
fn half_precision_weights_are_widened() {
    let model = nano(10, 8);
    let tensors: Tensors =
        model.store.tensors().iter().map(|(name, t)| (name.clone(), t.to_kind(Kind::BFloat16))).collect();
    let other = nano(10, 8);
    assert!(other.load(&tensors, false).unwrap().is_clean());
    let own = &other.store.tensors()["head.weight"];
    assert_eq!(own.kind(), Kind::Float);
    assert_eq!(own.detach(), tensors["head.weight"].to_kind(Kind::Float).detach());
}

fn real(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/weights")).join(name);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn the_real_teacher_gives_timms_logits() {
    let Some(path) = real("deit_tiny_patch16_112.cifar100.safetensors") else { return };
    let model = build("deit_tiny_patch16_224", 100, 112, "");
    assert_eq!(model.load_file(&path, false).unwrap().loaded, 152);
    let (golden, _) = file::read(&goldens().join("real.safetensors")).unwrap();
    let _guard = NoGrad::new();
    let d = difference(&model.net.forward(&images(2, 112), Pass::EVAL).logits, &golden["logits"]);
    assert!(d < 1e-4, "{d}");
}

#[test]
fn real_weights_load_at_their_own_and_at_another_size() {
    let Some(path) = real("deit_tiny_patch16_224.in1k.safetensors") else { return };
    let report = build("deit_tiny_patch16_224", 1000, 224, "").load_file(&path, false).unwrap();
    assert!(report.loaded == 152 && report.adapted.is_empty(), "{report}");
    let report = build("deit_tiny_patch16_224", 100, 112, "").load_file(&path, true).unwrap();
    assert_eq!(report.adapted.len(), 2, "{report}");
}
