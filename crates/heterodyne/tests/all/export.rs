//! `heterodyne export`: from a run to a folder for other libraries, which heterodyne can read back.
use std::{fs, process::Command};

use heterodyne::nn::file;
use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::support::{Place, fruit, real, stderr};

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

/// Runs the lines that an export prints on `picture` and compares with `predict`: the same class, and a probability
/// that differs by less than 0.005. Pillow rounds after each direction of a resize, as heterodyne does;
/// filters' weights may differ in the last place, and JPEG decoders by a level.
fn the_lines_agree(place: &Place, source: &str, out: &str, more: &str, picture: &str) {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let made: Value = serde_json::from_str(&place.good(&format!("export {source} --out {out} {more} --json"))).unwrap();
    let lines = made["python"].as_str().unwrap();
    assert!(lines.lines().count() <= 16 && lines.lines().all(|line| line.len() <= 120), "{lines}");
    let lines = lines.replace("picture.jpg", picture);
    let output = Command::new(&python).args(["-c", &lines]).current_dir(place.path("")).output().unwrap();
    assert!(output.status.success(), "{lines}\n{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let (name, p) = text.trim().rsplit_once(' ').unwrap();
    let words = [&["predict", source, picture, "--json", "--device", "cpu"][..], &flags(more)].concat();
    let output = place.command("").args(words).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let ours: Value = serde_json::from_slice(&output.stdout).unwrap();
    let best = &ours["classes"][0];
    let own = best["name"].as_str().map_or_else(|| best["class"].to_string(), str::to_owned);
    let difference = (best["probability"].as_f64().unwrap() - p.parse::<f64>().unwrap()).abs();
    assert!(own == name && difference < 0.005, "{source} {more}: {name} {p} in Python, {best} here");
    println!("{source} {more}: {name} {p}, differs by {difference:.1e}");
}

/// The flags of an export that `predict` takes too.
fn flags(more: &str) -> Vec<&str> {
    let words: Vec<&str> = more.split_whitespace().collect();
    words.chunks(2).filter(|pair| pair[0] != "--format").flatten().copied().collect()
}

#[test]
fn the_lines_of_python_that_an_export_prints_give_the_same_name() {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let found = Command::new(&python).args(["-c", "import timm, torch, onnxruntime, numpy"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        println!("skipped: the lines need timm, PyTorch and ONNX Runtime in Python (`make reference`)");
        return;
    }
    let place = Place::new();
    fruit(&place, &[("train", 4), ("test", 2)]);
    // An oblong picture between the classes, larger than the network's input.
    RgbImage::from_fn(90, 61, |x, y| Rgb([150 + (x % 90) as u8, 3 * (y as u8 % 60), 40]))
        .save(place.path("a b.png"))
        .unwrap();
    for (run, model) in [("timm", "vit_nano"), ("own", "resnet8")] {
        place.good(&format!("train fruit.toml --out {run} --set train.epochs=3 --set student.model={model}"));
    }
    the_lines_agree(&place, "timm", "e2", "--crop-mode squash --crop-pct 0.8 --interpolation bilinear", "a b.png");
    the_lines_agree(&place, "own", "e3", "", "a b.png");
    the_lines_agree(&place, "own", "e5", "--format onnx --crop-mode squash --interpolation lanczos", "a b.png");
    the_lines_agree(&place, "own", "e6", "--format torchscript --crop-mode border --crop-pct 0.9", "a b.png");
    // Weights without class names.
    the_lines_agree(&place, "teacher.safetensors", "e7", "", "a b.png");
    if let (Some(photos), Some(weights)) =
        (real("imagenet-sample"), real("weights/deit_tiny_patch16_224.in1k.safetensors"))
    {
        let photo = fs::read_dir(photos)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "JPEG"))
            .min()
            .unwrap();
        let more = "--model deit_tiny_patch16_224 --format onnx";
        the_lines_agree(&place, weights.to_str().unwrap(), "e8", more, photo.to_str().unwrap());
    }
}
