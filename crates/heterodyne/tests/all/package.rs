//! Packaged teachers from PyTorch, through the command line.
use std::{path::Path, process::Command};

use crate::support::{Place, RECIPE, stderr};

fn golden(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shim/tests/goldens").join(name).display().to_string()
}

/// A temporary folder with a recipe whose teacher is a package.
fn place(package: &str, more: &str, methods: &str) -> Place {
    let place = Place::new();
    let teacher = format!("[teacher]\npackage = {:?}\n{more}\n{methods}\n[train]", golden(package));
    std::fs::write(place.path("packaged.toml"), RECIPE.replace("[train]", &teacher)).unwrap();
    place
}

const INPUT: &str = "img = 32\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\n";

#[test]
fn a_package_with_signals_teaches_with_all_methods() {
    let methods = "[methods.kd]\n[methods.uhkd]\n[methods.lfcc]\n[methods.hcd]\n[methods.fitnet]\n";
    let place = place("teacher_dict.pt", "", methods);
    let said = place.good("distill packaged.toml --out runs/a --set train.epochs=1");
    assert!(said.contains("a package with logits, an embedding and 4 stages"), "{said}");
    let summary: serde_json::Value = serde_json::from_str(&place.read("runs/a/summary.json")).unwrap();
    assert_eq!(summary["status"], "finished", "{summary}");
    assert!(summary["teacher"].as_str().is_some_and(|name| !name.is_empty()));
}

#[test]
fn a_package_is_asked_once_per_view_where_there_is_a_cache() {
    let place = place("teacher_dict.pt", "", "[methods.kd]\n");
    place.good("distill packaged.toml --out runs/a --set train.epochs=2");
    place.good("distill packaged.toml --out runs/b --set train.epochs=2 --set teacher.cache.views=2");
    let weights = |run: &str| std::fs::read(place.path(&format!("runs/{run}/weights/last.safetensors"))).unwrap();
    assert!(weights("a") == weights("b"), "views of every epoch are the epoch's own images");
    let names: Vec<_> = std::fs::read_dir(place.path("cache"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.len() == 1 && names[0].starts_with("torch_two_maps_two_sequences-"), "{names:?}");
}

#[test]
fn logits_alone_teach_methods_of_logits_and_others_say_what_is_missing() {
    let place = place(
        "teacher_logits.pt",
        INPUT,
        "[methods.kd]\n[methods.bkd]\n[methods.dkd]\n[methods.dist]\n[methods.hard]\n[methods.ofa]\n",
    );
    let said = place.good("distill packaged.toml --out runs/a --set train.epochs=1");
    assert!(said.contains("teacher_logits.pt at 32 px, a package with logits\n"), "{said}");
    // Refused before any data is read: the data does not exist.
    for method in ["uhkd", "lfcc", "hcd", "fitnet"] {
        let words = format!(
            "distill packaged.toml --out runs/b --set methods.{method}.weight=1 --set data.name=cifar10 --set \
             data.path=nowhere"
        );
        place.bad(&words, &[method, "teacher", "logits only"]);
    }
    assert!(!place.path("runs/b").exists());
}

#[test]
fn what_a_package_decides_cannot_be_set() {
    let place = place("teacher_logits.pt", INPUT, "[methods.kd]\n");
    for key in [
        "model=vit_nano",
        "weights=teacher.safetensors",
        "precision=bf16",
        "adapt_head=true",
        "section=model",
        "options.depth=5",
    ] {
        place.bad(
            &format!("distill packaged.toml --out runs/b --set teacher.{key}"),
            &[key.split(['=', '.']).next().unwrap(), "package"],
        );
    }
    place.bad("distill packaged.toml --set student.package=x.pt", &["cannot be trained"]);
    place.bad("distill packaged.toml --set teacher.mean=", &["teacher.mean"]);
    place.bad("distill packaged.toml --set teacher.img=", &["set `img`"]);
    place.bad("distill packaged.toml --set teacher.package=nowhere.pt", &["nowhere.pt"]);
    place.bad(
        "distill taught.toml --set teacher.model= --set teacher.weights=",
        &["`teacher.weights` is missing", "package"],
    );
    place.bad("train small.toml --set student.model=", &["`student.model` is missing"]);
}

#[test]
fn a_package_that_changes_its_mind_ends_the_run_with_the_reason() {
    let place = place("teacher_moody.pt", INPUT, "[methods.kd]\n");
    place.bad("distill packaged.toml --out runs/a", &["classes: 1 }", "when it was loaded"]);
}

#[test]
fn a_package_is_inspected_as_a_teacher() {
    let place = Place::new();
    let mut command = place.command("inspect resnet8 --num-classes 10 --batch 4 --device cpu --teacher");
    let output = command.arg(golden("teacher_dict.pt")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for part in ["10 classes: a package", "tokens 16 x 4x4 + 1", "uhkd     learns", "hcd      learns"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

/// Copies a compiled package, and states in its metadata that it is for a GPU.
const FOR_A_GPU: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as source, zipfile.ZipFile(sys.argv[2], "w") as target:
    for item in source.infolist():
        data = source.read(item)
        if item.filename.endswith("_metadata.json"):
            assert b'"AOTI_DEVICE_KEY": "cpu"' in data, data
            data = data.replace(b'"AOTI_DEVICE_KEY": "cpu"', b'"AOTI_DEVICE_KEY": "cuda"')
        target.writestr(item, data)
"#;

/// Packages made by the users' script, if Python has its requirements.
#[test]
fn networks_of_timm_that_the_script_has_packaged_teach() {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let found = Command::new(&python).args(["-c", "import timm, torch"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        println!("skipped: packaging needs PyTorch and timm in Python (`make reference`)");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/package_teacher.py");
    for name in ["teacher.pt", "teacher.pt2"] {
        let place = Place::new();
        let mut command = Command::new(&python);
        command.arg(&script).args(["test_resnet", "--img", "32", "--num-classes", "10", "--out"]).arg(place.path(name));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let teacher =
            format!("[teacher]\npackage = \"{name}\"\n\n[methods.kd]\n[methods.uhkd]\n[methods.hcd]\n\n[train]");
        std::fs::write(place.path("packaged.toml"), RECIPE.replace("[train]", &teacher)).unwrap();
        let said = place.good("distill packaged.toml --out runs/a --set train.epochs=1");
        assert!(said.contains("timm/test_resnet at 32 px, a package with logits, an embedding and 4 stages"), "{said}");
        if name.ends_with("pt2") {
            let made =
                Command::new(&python).args(["-c", FOR_A_GPU, name, "gpu.pt2"]).current_dir(place.path("")).status();
            assert!(made.unwrap().success());
            let parts = ["gpu.pt2", "compiled for cuda and the run is on cpu", "package_teacher.py --device cpu"];
            place.bad("distill packaged.toml --out runs/b --set teacher.package=gpu.pt2", &parts);
        }
    }
}
