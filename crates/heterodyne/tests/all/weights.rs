//! Weights from other libraries, through the command line (goldens/make.py).
use std::{
    fs,
    path::{Path, PathBuf},
};

use heterodyne::nn::file;

use crate::support::{Place, refused, stderr};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// The largest difference between the logits written by `features` and timm's, relative to the largest logit.
fn difference(place: &Place, section: &str) -> f64 {
    let (expected, _) = file::read(&golden("expected.safetensors")).unwrap();
    let (found, _) = file::read(&place.path("f.safetensors")).unwrap();
    (&found["logits"] - &expected[section]).abs().max().double_value(&[])
        / expected[section].abs().max().double_value(&[])
}

fn features(place: &Place, weights: &str) -> std::process::Command {
    let (expected, _) = file::read(&golden("expected.safetensors")).unwrap();
    file::write(&place.path("x.safetensors"), [("x", &expected["x"])], Default::default()).unwrap();
    let mut command = place.command(
        "features vit_nano --option dim=8 --option heads=2 --input x.safetensors --out f.safetensors --device cpu",
    );
    command.arg("--weights").arg(weights);
    command
}

#[test]
fn checkpoints_of_pytorch_give_what_timm_gives() {
    let place = Place::new();
    for name in ["checkpoint.zip.pth", "checkpoint.legacy.pth"] {
        let path = golden(name).display().to_string();
        for (section, more) in [("state_dict_ema", &[][..]), ("state_dict", &["--section", "state_dict"])] {
            let output = features(&place, &path).args(more).output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            let d = difference(&place, section);
            assert!(d < 1e-5, "{name} {section}: {d}");
        }
        let output = features(&place, &path).args(["--section", "model"]).output().unwrap();
        refused(&output, name, &["`state_dict`", "`state_dict_ema`"]);
    }
    let output = features(&place, "teacher.safetensors").args(["--section", "model"]).output().unwrap();
    refused(&output, "section of safetensors", &["has no sections"]);
}

#[test]
fn means_are_three_numbers() {
    let place = Place::new();
    place.good("eval --weights teacher.safetensors --data digits --device cpu --mean 0.1,0.2,0.3 --std 0.3,0.3,0.3");
    for (flags, part) in [
        ("--mean 0.1,0.2", "three numbers"),
        ("--mean 0.1,x,0.3", "three numbers"),
        ("--std 0.1,0,0.1", "greater than 0"),
    ] {
        place.bad(&format!("eval --weights teacher.safetensors --data digits {flags}"), &[part]);
    }
}

#[test]
fn a_program_is_no_weights() {
    let place = Place::new();
    let package =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shim/tests/goldens/teacher_dict.pt").display().to_string();
    refused(
        &features(&place, &package).output().unwrap(),
        "TorchScript",
        &["TorchScript", "to use it as a teacher, set `teacher.package`"],
    );
}

#[test]
fn a_pytorch_file_that_is_cut_is_refused() {
    let place = Place::new();
    for name in ["checkpoint.zip.pth", "checkpoint.legacy.pth"] {
        let whole = fs::read(golden(name)).unwrap();
        for keep in [0, 2, 40, whole.len() / 2, whole.len() - 1] {
            fs::write(place.path("cut.pth"), &whole[..keep]).unwrap();
            refused(&features(&place, "cut.pth").output().unwrap(), &format!("{name} {keep}"), &["cut.pth"]);
        }
    }
}

/// Writes a repository to the cache in the format of the Hub's clients for Python and Rust.
fn cached(place: &Place, files: &[(&str, Vec<u8>)]) {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let folder = place.path("hf/hub/models--someone--vit");
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), commit).unwrap();
    let snapshot = folder.join("snapshots").join(commit);
    fs::create_dir_all(&snapshot).unwrap();
    for (name, bytes) in files {
        fs::write(snapshot.join(name), bytes).unwrap();
    }
}

const CONFIG: &str = r#"{"architecture": "vit_nano", "num_classes": 10, "pretrained_cfg": {"input_size": [3, 8, 8], "mean": [0.5, 0.5, 0.5],
"std": [0.25, 0.25, 0.25]}}"#;

#[test]
fn a_name_of_the_hub_is_found_offline() {
    let place = Place::new();
    let weights = fs::read(golden("checkpoint.zip.pth")).unwrap();
    cached(&place, &[("config.json", CONFIG.into()), ("pytorch_model.bin", weights)]);
    let run = |name: &str| {
        features(&place, name).env("HF_HOME", place.path("hf")).env("HF_HUB_OFFLINE", "1").output().unwrap()
    };
    let output = run("hf-hub:someone/vit");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(difference(&place, "state_dict_ema") < 1e-5);
    refused(&run("hf-hub:someone/else"), "offline", &["someone/else", "HF_HUB_OFFLINE"]);
    refused(&run("hf-hub:someone"), "a name", &["hf-hub:someone"]);
}

#[test]
fn an_endpoint_that_does_not_answer_is_named() {
    let place = Place::new();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = features(&place, "hf-hub:someone/vit");
    command
        .env("HF_HOME", place.path("hf"))
        .env("HF_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env_remove("HF_HUB_OFFLINE");
    let output = command.output().unwrap();
    refused(&output, "no server", &["127.0.0.1"]);
    assert!(!place.path("f.safetensors").exists());
}

#[test]
fn a_folder_of_timm_says_how_images_are_to_be_presented() {
    let place = Place::new();
    fs::create_dir(place.path("vit")).unwrap();
    place.bad("eval --weights vit --data digits", &["neither model.safetensors nor pytorch_model.bin"]);
    fs::copy(golden("checkpoint.zip.pth"), place.path("vit/pytorch_model.bin")).unwrap();
    place.bad("eval --weights vit --data digits", &["does not name its model"]);
    fs::write(place.path("vit/config.json"), CONFIG).unwrap();
    let output = features(&place, "vit").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(difference(&place, "state_dict_ema") < 1e-5);
    // The model's name and sizes come from the folder; the options do not, so the shapes do not match.
    place.bad("eval --weights vit --data digits --device cpu", &["of another shape"]);
    fs::write(place.path("vit/config.json"), "{}").unwrap();
    place.bad("eval --weights vit --data digits", &["architecture"]);
}

/// The golden network's tensors.
fn tensors() -> heterodyne::nn::Tensors {
    let file = heterodyne::pickle::read(&golden("checkpoint.zip.pth")).unwrap();
    let section = file.section(None).unwrap();
    let tensor = |stored: &heterodyne::pickle::Stored| {
        let shape: Vec<i64> = stored.shape.iter().map(|&n| n as i64).collect();
        tch::Tensor::from_data_size(&stored.bytes(), &shape, tch::Kind::Float)
    };
    section.tensors.iter().map(|(name, stored)| (name.clone(), tensor(stored))).collect()
}

/// Splits the golden network into the shards `names` and writes their index, as Hugging Face's libraries do.
fn cut(folder: &Path, index: &str, names: [&str; 3]) {
    fs::create_dir_all(folder).unwrap();
    let tensors = tensors();
    let mut map = serde_json::Map::new();
    for (i, name) in names.iter().enumerate() {
        let part: Vec<_> =
            tensors.iter().enumerate().filter(|(j, _)| j % 3 == i).map(|(_, (n, t))| (n.as_str(), t)).collect();
        map.extend(part.iter().map(|(n, _)| ((*n).to_owned(), (*name).into())));
        file::write(&folder.join(name), part, Default::default()).unwrap();
    }
    fs::write(folder.join(index), serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string())
        .unwrap();
}

const SHARDS: [&str; 3] =
    ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"];
const INDEX: &str = "model.safetensors.index.json";

#[test]
fn shards_are_put_together() {
    let place = Place::new();
    cut(&place.path("cut"), INDEX, SHARDS);
    for weights in ["cut", "cut/model.safetensors.index.json"] {
        let output = features(&place, weights).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(difference(&place, "state_dict_ema") < 1e-5);
    }
    // Shards of PyTorch, split in any way.
    let bins =
        ["pytorch_model-00001-of-00003.bin", "pytorch_model-00002-of-00003.bin", "pytorch_model-00003-of-00003.bin"];
    cut(&place.path("bin"), "pytorch_model.bin.index.json", bins);
    fs::copy(golden("checkpoint.zip.pth"), place.path("bin").join("whole.bin")).unwrap();
    let whole: serde_json::Map<_, _> = tensors().keys().map(|name| (name.clone(), "whole.bin".into())).collect();
    for map in [None, Some(whole)] {
        if let Some(map) = map {
            fs::write(
                place.path("bin/pytorch_model.bin.index.json"),
                serde_json::json!({"weight_map": map}).to_string(),
            )
            .unwrap();
        }
        let output = features(&place, "bin").output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(difference(&place, "state_dict_ema") < 1e-5);
    }
}

#[test]
fn shards_that_are_missing_or_are_something_else_are_named() {
    let place = Place::new();
    let fresh = || {
        let _ = fs::remove_dir_all(place.path("cut"));
        cut(&place.path("cut"), INDEX, SHARDS);
    };
    let bad = |weights: &str, parts: &[&str]| refused(&features(&place, weights).output().unwrap(), weights, parts);
    fresh();
    bad(&format!("cut/{}", SHARDS[1]), &["one of 3 shards", "index"]);
    fs::remove_file(place.path("cut").join(SHARDS[1])).unwrap();
    bad("cut", &[INDEX, "of its 3 shards", SHARDS[1], "is missing from the folder"]);
    fs::remove_file(place.path("cut").join(SHARDS[2])).unwrap();
    bad("cut", &[SHARDS[1], SHARDS[2], "are missing from the folder"]);
    for (bytes, what) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"[..], "Git LFS pointer"),
        (b"<!doctype html><html>", "a web page"),
        (b"", "is empty"),
        (b"{\"error\": \"Access denied\"}", "Access denied"),
        (b"Entry not found", "Entry not found"),
        (b"\x10\0\0\0\0\0\0\0{\"a\": 1}", "not a complete safetensors file"),
    ] {
        fresh();
        fs::write(place.path("cut").join(SHARDS[1]), bytes).unwrap();
        bad("cut", &[SHARDS[1], what]);
    }
    fresh();
    let index = place.path("cut").join(INDEX);
    let text = fs::read_to_string(&index).unwrap();
    for (text, parts) in [
        (text.replace("cls_token", "klass_token"), &["lacks the tensor `klass_token`"][..]),
        (
            text.replace(SHARDS[2], "../x.safetensors"),
            &["`../x.safetensors` is not the name of a file in the same folder"],
        ),
        (text.replace(SHARDS[2], "/etc/passwd"), &["/etc/passwd"]),
        (text.replace(SHARDS[2], SHARDS[1]), &["lacks the tensor"]),
        ("{\"weight_map\": [1]}".to_owned(), &["`weight_map` is not a table"]),
        ("{\"metadata\": {}}".to_owned(), &["JSON, not weights"]),
        ("{\"weight_map\": {".to_owned(), &["JSON, not weights"]),
        // Nothing to load.
        ("{\"weight_map\": {}}".to_owned(), &["has no classifier"]),
        ("<html>".to_owned(), &["a web page"]),
    ] {
        fs::write(&index, text).unwrap();
        bad("cut", parts);
    }
    fresh();
    fs::copy(place.path("cut").join(SHARDS[0]), place.path("cut").join(SHARDS[1])).unwrap();
    bad("cut", &[SHARDS[1], "lacks the tensor"]);
    refused(&features(&place, "cut").args(["--section", "model"]).output().unwrap(), "section", &["have no sections"]);
}

#[test]
fn what_is_no_weights_is_named_whatever_it_is_called() {
    let place = Place::new();
    for name in ["w.safetensors", "w.pth", "w.bin", "w", "w.json", "w.ckpt"] {
        for (bytes, what) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"[..], "Git LFS pointer"),
            (b"<!DOCTYPE html><html>", "a web page"),
            (b"\xef\xbb\xbf<html>", "a web page"),
            (b"", "empty"),
            (b"{\"error\": \"Repository not found\"}", "Repository not found"),
            (b"Invalid username or password.", "Invalid username or password."),
            (b"\x1f\x8b\x08\0\0\0", "gzip"),
        ] {
            fs::write(place.path(name), bytes).unwrap();
            refused(&features(&place, name).output().unwrap(), name, &[name, what]);
            place.bad(&format!("distill taught.toml --set teacher.weights={name}"), &[what]);
            place.bad(
                &format!(
                    "distill taught.toml --set teacher.model= --set teacher.weights= --set teacher.package={name}"
                ),
                &[what],
            );
        }
    }
    // Weights are read whatever their file name.
    fs::copy(golden("checkpoint.zip.pth"), place.path("x.safetensors")).unwrap();
    let names = ["w.safetensors", "w.pth", "w"];
    for name in names {
        fs::copy(golden("checkpoint.legacy.pth"), place.path(name)).unwrap();
        let output = features(&place, name).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let all = tensors();
        file::write(&place.path(name), all.iter().map(|(n, t)| (n.as_str(), t)), Default::default()).unwrap();
        let output = features(&place, name).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(difference(&place, "state_dict_ema") < 1e-5);
    }
}

/// A student, a teacher and a loss in one file, as self-supervised training saves them.
#[test]
fn prefix_and_ignore_choose_among_networks() {
    let place = Place::new();
    let tensors = tensors();
    let zeros: Vec<_> = tensors.iter().map(|(name, t)| (format!("student.{name}"), t.zeros_like())).collect();
    let named: Vec<_> = tensors.iter().map(|(name, t)| (format!("teacher.{name}"), t.shallow_clone())).collect();
    let all = || {
        zeros.iter().chain(&named).map(|(name, t)| (name.as_str(), t)).chain([("loss.center", &tensors["cls_token"])])
    };
    file::write(&place.path("both.safetensors"), all(), Default::default()).unwrap();
    let run = |flags: &[&str]| features(&place, "both.safetensors").args(flags).output().unwrap();
    refused(&run(&[]), "both", &["both.safetensors", "`student.`", "`teacher.`", "`prefix`"]);
    for flags in [&["--prefix", "teacher"][..], &["--ignore", "student"], &["--ignore", "student,loss.*"]] {
        let output = run(flags);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(difference(&place, "state_dict_ema") < 1e-5);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("left out,") && text.contains("`student.`"), "{text}");
    }
    refused(&run(&["--prefix", "teachers"]), "prefix", &["\"teachers\"", "`teacher` ("]);
    // In recipes too.
    let run = |sets: &str| {
        let options = "--set teacher.options.dim=8 --set teacher.options.heads=2";
        place.run(&format!(
            "distill taught.toml --out r --set train.epochs=1 --set teacher.weights=both.safetensors {options} {sets}"
        ))
    };
    refused(&run(""), "recipe", &["`student.`", "`teacher.`"]);
    let output = run("--set teacher.prefix=teacher");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("outside `teacher.`: `student.` ("));
    let refusal = place.run("train small.toml --set student.prefix=teacher");
    refused(&refusal, "no weights", &["`student.prefix`", "`student.weights`, which is not given"]);
    refused(&run("--set teacher.ignor=[]"), "key", &["did you mean `teacher.ignore`"]);
}
