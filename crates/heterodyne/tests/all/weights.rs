//! Weights of others, through the command line (goldens/make.py).
use std::{
    fs,
    path::{Path, PathBuf},
};

use heterodyne::nn::file;

use crate::support::{Place, refused, stderr};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// The largest difference of the logits that `features` wrote from those of timm.
fn difference(place: &Place, section: &str) -> f64 {
    let (expected, _) = file::read(&golden("expected.safetensors")).unwrap();
    let (found, _) = file::read(&place.path("f.safetensors")).unwrap();
    (&found["logits"] - &expected[section]).abs().max().double_value(&[]) / expected[section].abs().max().double_value(&[])
}

fn features(place: &Place, weights: &str) -> std::process::Command {
    let (expected, _) = file::read(&golden("expected.safetensors")).unwrap();
    file::write(&place.path("x.safetensors"), [("x", &expected["x"])], Default::default()).unwrap();
    let mut command =
        place.command("features vit_nano --option dim=8 --option heads=2 --input x.safetensors --out f.safetensors --device cpu");
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
    for (flags, part) in [("--mean 0.1,0.2", "three numbers"), ("--mean 0.1,x,0.3", "three numbers"), ("--std 0.1,0,0.1", "greater than 0")]
    {
        place.bad(&format!("eval --weights teacher.safetensors --data digits {flags}"), &[part]);
    }
}

#[test]
fn a_program_is_no_weights() {
    let place = Place::new();
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shim/tests/goldens/teacher_dict.pt").display().to_string();
    refused(&features(&place, &package).output().unwrap(), "TorchScript", &["TorchScript", "as a teacher it is a `package`"]);
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

/// A repository as Python's library and ours keep it.
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
    let run = |name: &str| features(&place, name).env("HF_HOME", place.path("hf")).env("HF_HUB_OFFLINE", "1").output().unwrap();
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
    command.env("HF_HOME", place.path("hf")).env("HF_ENDPOINT", format!("http://127.0.0.1:{port}")).env_remove("HF_HUB_OFFLINE");
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
    place.bad("eval --weights vit --data digits", &["does not say which model it is"]);
    fs::write(place.path("vit/config.json"), CONFIG).unwrap();
    let output = features(&place, "vit").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(difference(&place, "state_dict_ema") < 1e-5);
    // The model's name and its sizes come from the folder; the options do not, and are asked for by the report.
    place.bad("eval --weights vit --data digits --device cpu", &["of another shape"]);
    fs::write(place.path("vit/config.json"), "{}").unwrap();
    place.bad("eval --weights vit --data digits", &["architecture"]);
}
