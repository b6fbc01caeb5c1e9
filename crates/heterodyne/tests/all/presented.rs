//! How images are presented to a network, and how its classes match the data's.
use std::{fs, path::Path};

use heterodyne::{nn::file, train::network::Card};
use image::{Rgb, RgbImage};
use tch::Tensor;

use crate::support::{Place, on_test_device};

const RECIPE: &str = r#"
name = "fruit"
device = "cpu"
threads = 1

[data]
name = "folder"
path = "fruit"
img = 24

[student]
model = "resnet8"
img = 16

[train]
epochs = 6
batch = 12
eval_every = 6

[optim]
lr = 0.05
"#;

/// Draws images whose class is their colour, wider than high, with a frame of another colour that a crop removes.
fn draw(folder: &Path, seed: u32, colour: [u8; 3]) {
    fs::create_dir_all(folder).unwrap();
    for i in 0..12 {
        let noise = |x: u32, y: u32, c: usize| ((x * 7 + y * 13 + seed * 31 + i * 17 + c as u32 * 5) % 40) as u8;
        let picture = RgbImage::from_fn(40 + i, 30, |x, y| {
            let edge = x < 3 || y < 3 || x > 36 + i || y > 26;
            Rgb([0, 1, 2].map(|c| (if edge { 128 } else { colour[c] }).saturating_add(noise(x, y, c))))
        });
        picture.save(folder.join(format!("{i}.png"))).unwrap();
    }
}

fn fruit(place: &Place) {
    for split in ["train", "test"] {
        for (name, colour) in [("apple", [200, 20, 20]), ("banana", [200, 200, 20]), ("cherry", [20, 20, 200])] {
            draw(&place.path("fruit").join(split).join(name), split.len() as u32, colour);
        }
    }
    fs::write(place.path("fruit.toml"), on_test_device(RECIPE)).unwrap();
    place.good("train fruit.toml --out run");
}

/// (top1, loss) that `eval` prints.
fn measured(place: &Place, words: &str) -> (f64, f64) {
    let json: serde_json::Value =
        serde_json::from_str(&place.good(&format!("eval {words} --device cpu --json"))).unwrap();
    (json["top1"].as_f64().unwrap(), json["loss"].as_f64().unwrap())
}

#[test]
fn classes_are_compared_by_name() {
    let place = Place::new();
    fruit(&place);
    let own = measured(&place, "run");
    assert_eq!(own.0, 100.0);

    // The same weights with their classes in another order.
    let (tensors, metadata) = file::read(&place.path("run/weights/last.safetensors")).unwrap();
    let card = Card::of(&metadata).unwrap().unwrap();
    assert_eq!(card.class_names, ["apple", "banana", "cherry"]);
    let order = [2i64, 0, 1];
    let turned = Card { class_names: order.map(|i| card.class_names[i as usize].clone()).to_vec(), ..card };
    let index = Tensor::from_slice(&order);
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, t)| (name.clone(), if name.starts_with("fc.") { t.index_select(0, &index) } else { t.copy() }))
        .collect();
    file::write(
        &place.path("turned.safetensors"),
        tensors.iter().map(|(n, t)| (n.as_str(), t)),
        turned.metadata().unwrap(),
    )
    .unwrap();
    let (top1, loss) = measured(&place, "--weights turned.safetensors --data folder --path fruit");
    assert!(top1 == 100.0 && (loss - own.1).abs() < 1e-6, "{top1} {loss} against {own:?}");
    let teacher = on_test_device(RECIPE).replace(
        "[train]",
        "[teacher]\nmodel = \"resnet8\"\nweights = \"turned.safetensors\"\n\n[methods.kd]\n\n[train]",
    );
    fs::write(place.path("taught.toml"), teacher).unwrap();
    let said = place.good("distill taught.toml --out taught");
    assert!(said.contains("teacher: 100.0 % top-1 on 36 test images of 3 classes, 3 of which it predicts"), "{said}");

    // Data with fewer classes is a subset.
    for split in ["train", "test"] {
        fs::rename(place.path("fruit").join(split).join("banana"), place.path(&format!("banana-{split}"))).unwrap();
    }
    let output = place.run("eval run --device cpu");
    assert!(output.status.success(), "{output:?}");
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        note.contains("2 of its 3 classes") && String::from_utf8_lossy(&output.stdout).contains("top-1 100.00 %"),
        "{note}"
    );

    // A class name that the weights lack is refused with both lists.
    for split in ["train", "test"] {
        fs::rename(place.path(&format!("banana-{split}")), place.path("fruit").join(split).join("zucchini")).unwrap();
    }
    place.bad("eval run --device cpu", &["`zucchini`", "also have `banana`", "1 of the 3"]);
    place.bad("distill taught.toml --out other", &["`zucchini`", "turned.safetensors"]);
}

#[test]
fn a_run_and_its_export_are_evaluated_alike() {
    let place = Place::new();
    fruit(&place);
    place.good("export run --out exported --format onnx");
    let run = measured(&place, "run");
    assert_eq!(run, measured(&place, "--weights exported --data folder --path fruit"));
    let metrics = place.read("run/metrics.jsonl");
    let last: serde_json::Value = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .rfind(|m: &serde_json::Value| m["split"] == "test")
        .unwrap();
    assert_eq!((last["top1"].as_f64().unwrap(), last["loss"].as_f64().unwrap()), run);
}

#[test]
fn the_transform_travels_with_the_weights_and_can_be_set() {
    let place = Place::new();
    fruit(&place);
    let stated = on_test_device(RECIPE)
        .replace("img = 16", "img = 16\ncrop_pct = 0.8\ncrop_mode = \"squash\"\ninterpolation = \"bilinear\"");
    fs::write(place.path("stated.toml"), stated).unwrap();
    place.good("train stated.toml --out stated");
    let text = place.good("eval --weights stated/weights/last.safetensors --data folder --path fruit --device cpu");
    assert!(text.contains("both sides to 20 px (bilinear), centre 16 px"), "{text}");
    let text = place.good("eval stated --device cpu --crop-mode border --interpolation lanczos --crop-pct 1");
    assert!(text.contains("longer side to 16 px (lanczos)"), "{text}");
    let ways = ["", " --crop-mode squash", " --crop-pct 0.5", " --interpolation nearest"]
        .map(|flags| measured(&place, &format!("run{flags}")).1);
    for (i, a) in ways.iter().enumerate() {
        assert!(ways[..i].iter().all(|b| (a - b).abs() > 1e-9), "every flag counts: {ways:?}");
    }
    for (key, value, part) in [
        ("crop_pct", "0", "above 0"),
        ("crop_pct", "1.5", "up to 1"),
        ("crop_pct", "1e-9", "larger crop_pct"),
        ("crop_mode", "\"fit\"", "center, squash or border"),
        ("interpolation", "\"cubic\"", "bicubic or lanczos"),
    ] {
        fs::write(
            place.path("bad.toml"),
            on_test_device(RECIPE).replace("img = 16", &format!("img = 16\n{key} = {value}")),
        )
        .unwrap();
        place.bad("train bad.toml --out bad", &[key, part]);
    }
    place.bad("eval run --crop-pct 0", &["above 0"]);

    // An unreadable description is an error, not ignored.
    let (tensors, mut metadata) = file::read(&place.path("run/weights/last.safetensors")).unwrap();
    let card = metadata["heterodyne"].replace("\"bicubic\"", "\"cubic\"");
    assert_ne!(card, metadata["heterodyne"]);
    metadata.insert("heterodyne".to_owned(), card);
    file::write(&place.path("cubic.safetensors"), tensors.iter().map(|(n, t)| (n.as_str(), t)), metadata).unwrap();
    place.bad(
        "eval --weights cubic.safetensors --data folder --path fruit",
        &["cubic.safetensors", "cannot be read", "`cubic`"],
    );

    // An unknown value in timm's config.json.
    fs::create_dir(place.path("described")).unwrap();
    fs::copy(place.path("run/weights/last.safetensors"), place.path("described/model.safetensors")).unwrap();
    let config = r#"{"architecture": "resnet8", "pretrained_cfg": {"crop_mode": "oval"}}"#;
    fs::write(place.path("described/config.json"), config).unwrap();
    place.bad("eval --weights described --data folder --path fruit", &["config.json", "crop_mode", "oval"]);
}
