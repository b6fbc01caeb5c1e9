//! `heterodyne export`: from a run to a folder for other libraries, which heterodyne can read back.
use std::fs;

use heterodyne::nn::file;

use crate::support::Place;

#[test]
fn a_run_is_exported_and_read_again() {
    let place = Place::new();
    place.good("train small.toml --out runs/a --set student.model=vit_nano --set student.options.depth=5");
    let said = place.good("export runs/a --out out");
    for part in
        ["vit_nano at 8 px, 10 classes", "model.safetensors", "config.json", "model.onnx", "model.ts", "local-dir:out"]
    {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let config: serde_json::Value = serde_json::from_str(&place.read("out/config.json")).unwrap();
    assert_eq!(
        (config["architecture"].as_str(), config["num_classes"].as_i64()),
        (Some("vit_tiny_patch16_224"), Some(10))
    );
    assert_eq!(config["model_args"]["depth"], 5);
    assert_eq!(config["pretrained_cfg"]["crop_pct"], 1.0, "digits are not cropped");
    let run: serde_json::Value = serde_json::from_str(&place.read("runs/a/plan.json")).unwrap();
    assert_eq!(config["pretrained_cfg"]["mean"], run["student"]["mean"]);

    // The same weights, and the same logits for the exported images.
    let (own, _) = file::read(&place.path("runs/a/weights/last.safetensors")).unwrap();
    let (exported, _) = file::read(&place.path("out/model.safetensors")).unwrap();
    assert!(own.iter().all(|(name, t)| exported[name] == *t) && own.len() == exported.len());
    place.good("features vit_nano --weights out --input out/check.safetensors --out f.safetensors --device cpu");
    let (check, _) = file::read(&place.path("out/check.safetensors")).unwrap();
    let (found, _) = file::read(&place.path("f.safetensors")).unwrap();
    assert!((&found["logits"] - &check["logits"]).abs().max().double_value(&[]) < 1e-5);

    place.bad("export runs/a --out out", &["out", "not an empty folder"]);
    place.bad("export runs/a --out new --weights ema", &["ema.safetensors"]);
    place.bad("export runs/a --out new --crop-pct 0", &["--crop-pct"]);
    place.bad("export runs/nothing --out new", &["runs/nothing"]);
    place.bad("export runs/a --out new --model resnet8", &["holds weights of vit_nano, not of resnet8"]);
    assert!(!place.path("new").exists());
}

#[test]
fn a_network_that_timm_lacks_is_exported_without_its_config() {
    let place = Place::new();
    place.good("train small.toml --out runs/a --set train.epochs=1");
    let said = place.good("export runs/a --out out --format onnx");
    assert!(said.contains("timm has no such network"), "{said}");
    let mut names: Vec<_> =
        fs::read_dir(place.path("out")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["check.safetensors", "model.onnx", "model.safetensors"]);
}
