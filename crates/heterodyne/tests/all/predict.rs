//! `heterodyne predict`: the classes of pictures, by name.
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::support::{Place, fruit, stderr};

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

fn predictions(place: &Place, words: &str) -> Vec<Value> {
    let output = place.run(words);
    assert!(output.status.success(), "{words}: {}", stderr(&output));
    lines(&output)
}

/// The class folder of a picture.
fn truth(path: &Value) -> String {
    let folder = Path::new(path.as_str().unwrap()).parent().unwrap();
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn predictions_are_those_of_the_evaluation() {
    let place = Place::new();
    fruit(&place, &[("train", 4), ("test", 7)]);
    // One step of a small learning rate: some pictures are right, some wrong.
    place.good("train fruit.toml --out run --set train.epochs=1 --set optim.lr=0.003");
    let measured: Value = serde_json::from_str(&place.good("eval run --json")).unwrap();
    let found = predictions(&place, "predict run fruit/test --json --top 3 --batch 4");
    assert_eq!(found.len(), 21);
    let best = |line: &Value| line["classes"][0]["name"].as_str().unwrap().to_owned();
    let right = found.iter().filter(|line| best(line) == truth(&line["path"])).count();
    assert!((100.0 * right as f64 / 21.0 - measured["top1"].as_f64().unwrap()).abs() < 1e-9, "{right}: {measured}");
    // The mean cross-entropy follows from the probabilities of the true classes.
    let mut loss = 0.0;
    for line in &found {
        let classes = line["classes"].as_array().unwrap();
        let p = |class: &Value| class["probability"].as_f64().unwrap();
        assert!((classes.iter().map(p).sum::<f64>() - 1.0).abs() < 1e-5 && classes.is_sorted_by(|a, b| p(a) >= p(b)));
        loss -= p(classes.iter().find(|class| class["name"] == truth(&line["path"]).as_str()).unwrap()).ln() / 21.0;
    }
    assert!((loss - measured["loss"].as_f64().unwrap()).abs() < 1e-5, "{loss}: {measured}");

    // The weights alone and an export give the same.
    place.good("export run --out out --format onnx");
    for source in ["run/weights/last.safetensors", "out"] {
        let others = predictions(&place, &format!("predict {source} fruit/test --json --top 3"));
        for (a, b) in found.iter().zip(&others) {
            assert_eq!((best(a), &a["path"]), (best(b), &b["path"]), "{source}");
            let p = |line: &Value| line["classes"][0]["probability"].as_f64().unwrap();
            assert!((p(a) - p(b)).abs() < 1e-6, "{source}: {a} {b}");
        }
    }
    // As text: the classes of one picture, or one line for each of several.
    let text = place.good("predict run fruit/test/apple/0.png");
    assert_eq!(text.lines().count(), 3, "{text}");
    let [name, p] = text.lines().next().unwrap().split_whitespace().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!((["apple", "banana", "cherry"].contains(&name)) && p.len() == 4, "{text}");
    let text = place.good("predict run fruit/test/apple fruit/train/cherry/1.png");
    assert_eq!(text.lines().count(), 8, "{text}");
    assert!(text.lines().last().unwrap().starts_with("fruit/train/cherry/1.png "), "{text}");
    place.bad("predict run fruit/test --top 0", &["--top"]);
    place.bad("predict nothing fruit/test", &["nothing: there is no such run folder or weights file"]);
}

#[test]
fn the_embedded_digits_are_predicted_without_names_for_the_classes() {
    let place = Place::new();
    fruit(&place, &[("test", 1)]);
    let found = predictions(&place, "predict teacher.safetensors fruit/test/apple/0.png --json --device cpu");
    let [line] = &found[..] else { panic!("{found:?}") };
    assert!(line["classes"].as_array().unwrap().iter().all(|class| class["name"].is_null()), "{line}");
    let text = place.good("predict teacher.safetensors fruit/test/apple/0.png --device cpu --top 1");
    assert_eq!(text.split_whitespace().next(), Some(line["classes"][0]["class"].to_string().as_str()), "{text}");
}

#[test]
fn broken_pictures_are_named_and_the_others_go_on() {
    let place = Place::new();
    fruit(&place, &[("train", 2), ("test", 2)]);
    place.good("train fruit.toml --out run --set train.epochs=1");
    let apples = place.path("fruit/test/apple");
    let whole = fs::read(apples.join("0.png")).unwrap();
    fs::write(apples.join("1.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(apples.join(".hidden.png"), b"x").unwrap();
    fs::write(apples.join("notes.txt"), b"x").unwrap();
    fs::write(apples.join("phone.heic"), b"x").unwrap();
    assert!(Command::new("mkfifo").arg(apples.join("pipe.png")).status().unwrap().success());
    let words = "predict run fruit/test missing.png --batch 3";
    let text = place.bad(
        words,
        &[
            "apple/1.png: cut short",
            "pipe.png: is a named pipe",
            "phone.heic: heic pictures are not supported",
            "missing.png: does not exist",
            "4 of 9 pictures have no prediction",
            "left out: 1 other file (fruit/test/apple/notes.txt) and 1 hidden",
        ],
    );
    assert!(!text.contains("hidden.png"), "{text}");
    let output = place.run(&format!("{words} --json"));
    assert_eq!(output.status.code(), Some(1));
    let (bad, good): (Vec<_>, Vec<_>) = lines(&output).into_iter().partition(|line| line["error"].is_string());
    assert_eq!((bad.len(), good.len()), (4, 5));
    assert!(good.iter().all(|line| line["classes"].as_array().is_some_and(|classes| classes.len() == 1)));
    // All pictures broken.
    place.bad("predict run missing.png", &["1 of 1 picture has no prediction"]);
}
