//! Datasets in many layouts, through the commands.
use std::{fs, path::Path, process::Command};

use crate::support::{FRUIT, Place, fruit, on_test_device, stderr};

#[test]
fn validation_images_choose_and_test_images_report() {
    let place = Place::new();
    fruit(&place, &[("train", 4), ("valid", 2), ("test", 3)]);
    fs::write(place.path("fruit/train/notes.txt"), "x").unwrap();
    let output = place.run("train fruit.toml --out run");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout.clone()).unwrap() + &stderr(&output);
    for part in [
        "12 images (12 to train on), 3 classes",
        "train: 12 images in 3 classes; left out: 1 other file (notes.txt)",
        "chosen on the validation images",
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    let metrics = place.read("run/metrics.jsonl");
    let images = |split: &str| {
        metrics
            .lines()
            .filter(|line| line.contains(&format!("\"split\":\"{split}\"")))
            .map(|line| line.to_owned())
            .collect::<Vec<_>>()
    };
    assert!(
        images("validation").iter().all(|line| line.contains("\"images\":6")) && images("validation").len() == 2,
        "{metrics}"
    );
    assert!(images("test").iter().all(|line| line.contains("\"images\":9")) && images("test").len() == 2, "{metrics}");
    for (split, count) in [("test", 9), ("val", 6), ("train", 12)] {
        let json: serde_json::Value =
            serde_json::from_str(&place.good(&format!("eval run --split {split} --json"))).unwrap();
        assert_eq!(json["images"], count, "{split}");
    }
    place.bad("train fruit.toml --set data.holdout=3 --out other", &["data.holdout = 3", "data.val"]);
    place.good("train fruit.toml --set data.holdout=3 --set data.val=\"\" --out other");

    // Weights have class names; a single split is evaluated from any folder.
    fs::create_dir(place.path("alone")).unwrap();
    fs::rename(place.path("fruit/valid"), place.path("alone/holdout")).unwrap();
    let words = "eval --weights run/weights/last.safetensors --data folder --path alone --set data.test=holdout --json";
    let json: serde_json::Value = serde_json::from_str(&place.good(words)).unwrap();
    assert_eq!(json["images"], 6);
    place.bad(
        "eval --weights run/weights/last.safetensors --data folder --path alone",
        &["has no folder train", "holdout"],
    );
    place.bad("eval run --set data.tset=x", &["tset"]);
}

#[test]
fn a_dataset_is_looked_into() {
    let place = Place::new();
    fruit(&place, &[("train", 2), ("val", 1)]);
    let said = place.good("data folder fruit");
    for part in [
        "3 classes, photographs",
        "train  folder fruit/train, 6 images",
        "    1  banana",
        "note   val: 3 images in 3 classes",
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    fs::write(place.path("fruit/train/apple/torn.jpg"), [0xFF, 0xD8, 0xFF, 0xE0]).unwrap();
    place.bad("data folder fruit", &["torn.jpg: cut short"]);
    let json: serde_json::Value = serde_json::from_str(&place.good("data folder fruit --json --no-audit")).unwrap();
    assert_eq!(json["splits"]["train"]["per_class"], serde_json::json!([3, 2, 2]));
    // Everything that is wrong is listed at once, in all splits.
    fs::write(place.path("fruit/val/cherry/0.png"), [0x89, b'P', b'N', b'G']).unwrap();
    fs::create_dir(place.path("fruit/val/durian")).unwrap();
    fs::create_dir(place.path("fruit/train/empty")).unwrap();
    fs::write(place.path("fruit/train/banana/phone.heic"), b"x").unwrap();
    let all = ["3 faults in the data", "phone.heic", "train/empty: is a class folder", "val/durian: is not a class"];
    place.bad("data folder fruit", &[&all[..], &["torn.jpg: cut short", "val/cherry/0.png"]].concat());
    place.bad("train fruit.toml --out run", &all);
    place.bad("data folder fruit --no-audit", &all);
    fs::remove_dir(place.path("fruit/val/durian")).unwrap();
    fs::remove_dir(place.path("fruit/train/empty")).unwrap();
    fs::remove_file(place.path("fruit/train/banana/phone.heic")).unwrap();
    place.bad("train fruit.toml --out run", &["torn.jpg: cut short", "val/cherry/0.png"]);
    assert!(place.good("data").contains("cub200"));
    place.bad("data foldr fruit", &["did you mean `folder`"]);
    place.bad("data digits --set data.labels=x.csv", &["does not take data.labels"]);
}

#[test]
fn a_named_pipe_among_the_images_ends_a_run_at_once() {
    let place = Place::new();
    fruit(&place, &[("train", 2), ("val", 1)]);
    assert!(Command::new("mkfifo").arg(place.path("fruit/train/apple/pipe.png")).status().unwrap().success());
    for words in
        ["train fruit.toml --out run", "train fruit.toml --set data.audit=false --out run", "data folder fruit"]
    {
        place.bad(words, &["pipe.png", "named pipe"]);
    }
    assert!(!place.path("run").exists());
}

#[test]
fn images_in_parquet_say_their_own_size() {
    let place = Place::new();
    let layouts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/goldens/layouts");
    let tables = on_test_device(FRUIT).replace("\"folder\"", "\"parquet\"").replace("img = 16", "");
    fs::write(place.path("tables.toml"), tables).unwrap();
    let train = |folder: &str, more: &str| {
        place.good(&format!(
            "train tables.toml --set data.path={} --set train.batch=2 --out {folder} {more}",
            layouts.join(folder).display()
        ))
    };
    let said = train("huggingface_small", "");
    assert!(said.contains("resnet8 at 8 px") && said.contains("2 classes"), "{said}");
    let said = train("huggingface", "--set data.img=12 --set student.img=12");
    assert!(said.contains("resnet8 at 12 px") && said.contains("3 classes"), "{said}");
}
