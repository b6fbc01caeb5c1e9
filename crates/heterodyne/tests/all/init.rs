//! `heterodyne init`: recipes for a folder of pictures that run as they are written.
use std::{fs, path::Path, process::Command};

use heterodyne::{
    commands::init::{
        recipes::{self, Folder, Side},
        rules::{Count, Start},
    },
    models,
};
use serde_json::Value;

use crate::support::{Place, draw, fruit, real, refused, stderr};

const FILES: [&str; 3] = ["teacher.toml", "student.toml", "scratch.toml"];
const MODELS: [&str; 4] = ["--teacher", "vit_nano", "--student", "resnet8"];

/// Runs `init` with arguments that may have spaces, and with an empty cache of the Hub.
fn init(place: &Place, arguments: &[&str]) -> std::process::Output {
    place.command("init").args(arguments).env("HF_HUB_CACHE", place.path("hub")).output().unwrap()
}

fn written(place: &Place, arguments: &[&str]) -> String {
    let output = init(place, &[&MODELS, arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout.clone()).unwrap() + &stderr(&output)
}

#[test]
fn the_recipes_of_a_folder_run_from_the_teacher_to_a_prediction() {
    let place = Place::new();
    fruit(&place, &[("train", 4), ("test", 2)]);
    let said = written(&place, &["fruit/"]);
    for part in [
        "fruit: 3 classes",
        "train       12 pictures; per class 4 to 4",
        "longer side 20 to 20 px",
        "3 classes with fewer than 10 training images",
        "apple (4)",
        "too few training pictures to hold some out",
        "the teacher starts from scratch",
        "heterodyne check teacher.toml",
        "heterodyne distill student.toml",
        "heterodyne predict runs/student-s0 fruit/test/apple/0.png",
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    let short = "--set train.epochs=1 --set device=cpu --set threads=1";
    place.good(&format!("train teacher.toml {short}"));
    place.good(&format!("train scratch.toml {short}"));
    place.good(&format!("check student.toml {short}"));
    place.good(&format!("distill student.toml {short}"));
    let plan = place.json("runs/student-s0/plan.json");
    assert!(plan["methods"]["kd"].is_object() && plan["train"]["batch"] == 2, "{plan}");
    assert!(place.good("report runs/teacher-s0 runs/student-s0 runs/scratch-s0 --out page.html").contains("scratch"));
    place.good("predict runs/student-s0 fruit/test/apple/0.png");

    // Nothing is overwritten, and nothing is written beside what exists.
    fs::remove_file(place.path("student.toml")).unwrap();
    let output = init(&place, &[&MODELS[..], &["fruit"]].concat());
    refused(&output, "init", &["teacher.toml, scratch.toml exist: nothing was written", "--out"]);
    assert!(!place.path("student.toml").exists());
}

#[test]
fn recipes_in_another_folder_work_from_both_folders() {
    let place = Place::new();
    fruit(&place, &[("train", 2), ("val", 1)]);
    fs::rename(place.path("fruit"), place.path("my fruit")).unwrap();
    let said = written(&place, &["my fruit/", "--out", "my recipes"]);
    assert!(said.contains("heterodyne train 'my recipes/teacher.toml'"), "{said}");
    assert!(said.contains("'my fruit/val/apple/0.png'"), "{said}");
    let train = |from: &str, recipe: &str| {
        let mut command = place.command("train --set train.epochs=1 --set device=cpu");
        let output = command.args([recipe, "--out", "run"]).current_dir(place.path(from)).output().unwrap();
        assert!(output.status.success(), "{from}: {}", stderr(&output));
    };
    train("", "my recipes/teacher.toml");
    train("my recipes", "teacher.toml");
    // The home folder, and an absolute path.
    let home = |arguments: &[&str]| {
        let output = place.command("init").args(MODELS).args(arguments).env("HOME", place.path("")).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    };
    home(&["~/my fruit", "--out", "a"]);
    home(&[place.path("my fruit").to_str().unwrap(), "--out", "b"]);
    for file in FILES {
        assert_eq!(place.read(&format!("a/{file}")), place.read(&format!("b/{file}")));
        assert_eq!(place.read(&format!("a/{file}")), place.read(&format!("my recipes/{file}")));
    }
}

#[test]
fn everything_that_is_broken_is_listed_and_nothing_is_written() {
    let place = Place::new();
    fruit(&place, &[("train", 2), ("test", 1)]);
    let whole = fs::read(place.path("fruit/train/apple/0.png")).unwrap();
    for i in 0..12 {
        fs::write(place.path(&format!("fruit/train/banana/torn{i:02}.png")), &whole[..90]).unwrap();
    }
    fs::write(place.path("fruit/test/cherry/0.png"), b"").unwrap();
    fs::create_dir(place.path("fruit/test/appel")).unwrap();
    assert!(Command::new("mkfifo").arg(place.path("fruit/train/apple/pipe.png")).status().unwrap().success());
    let output = init(&place, &[&MODELS[..], &["fruit"]].concat());
    let parts =
        ["fruit: 15 faults; nothing was written", "pipe.png", "test/appel", "torn00.png: cut short", "and 5 more"];
    refused(&output, "init", &parts);
    assert!(!place.path("teacher.toml").exists());

    // Without test pictures, the command in the hint sets some apart.
    let place = Place::new();
    fruit(&place, &[("train", 10)]);
    let text = refused(&init(&place, &[&MODELS[..], &["fruit"]].concat()), "init", &["training pictures only"]);
    let command = text.lines().last().unwrap().trim();
    assert!(Command::new("sh").args(["-c", command]).current_dir(place.path("")).status().unwrap().success());
    assert_eq!(fs::read_dir(place.path("fruit/test/cherry")).unwrap().count(), 2);
    written(&place, &["fruit"]);

    // Class folders without splits, a missing folder, unknown names.
    let place = Place::new();
    draw(&place.path("flat/apple"), [200, 0, 0], 2);
    draw(&place.path("flat/banana"), [0, 200, 0], 2);
    for (arguments, parts) in [
        (["--teacher", "vit_nano", "--student", "resnet8", "flat"], &["below train/"][..]),
        (["--teacher", "vit_nano", "--student", "resnet8", "nothing"], &["nothing: does not exist"]),
        (["--teacher", "vit_nanno", "--student", "resnet8", "flat"], &["vit_nanno", "`vit_nano`"]),
    ] {
        refused(&init(&place, &arguments), "init", parts);
    }
}

#[test]
fn weights_are_those_that_are_given_or_in_the_cache() {
    let place = Place::new();
    fruit(&place, &[("train", 3), ("test", 1)]);
    let flags = ["fruit", "--teacher-weights", "teacher.safetensors"];
    let said = written(&place, &flags);
    assert!(said.contains("vit_nano, from teacher.safetensors"), "{said}");
    let recipe = place.read("teacher.toml");
    assert!(recipe.contains("\nweights = \"teacher.safetensors\"\nadapt_head = true"), "{recipe}");
    place.good("train teacher.toml --set train.epochs=1 --set device=cpu");
    // Of another model, or missing.
    for (file, parts) in [("teacher.safetensors", &["vit_nano", "mixer_nano"][..]), ("x.pt", &["x.pt"])] {
        let words =
            ["fruit", "--teacher", "mixer_nano", "--student", "resnet8", "--out", "new", "--teacher-weights", file];
        refused(&init(&place, &words), file, parts);
    }
    // In the cache of the Hub, in the layout of Python's library; the name has the commit.
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repo = place.path("hub/models--timm--resnet18.a1_in1k");
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::create_dir_all(repo.join("snapshots").join(commit)).unwrap();
    fs::write(repo.join("refs/main"), commit).unwrap();
    fs::write(repo.join("snapshots").join(commit).join("model.safetensors"), b"x").unwrap();
    let words = ["fruit", "--teacher", "deit_small_patch16_224", "--student", "resnet18", "--out", "hub recipes"];
    assert!(init(&place, &words).status.success());
    let student = place.read("hub recipes/student.toml");
    assert!(student.contains(&format!("\nweights = \"hf-hub:timm/resnet18.a1_in1k@{commit}\"\n")), "{student}");
    let teacher = place.read("hub recipes/teacher.toml");
    assert!(teacher.contains("\n# weights = \"hf-hub:timm/deit_small_patch16_224.fb_in1k\"\n"), "{teacher}");
    assert!(teacher.contains("Nothing is downloaded unless you ask for it"), "{teacher}");
}

#[test]
fn the_shipped_recipes_are_what_init_writes_for_the_folder_that_they_name() {
    let side = |name: &str, hub: &str| Side {
        def: models::find(name).unwrap(),
        weights: None,
        on_hub: Some(format!("hf-hub:timm/{hub}")),
    };
    let teacher = side("deit_small_patch16_224", "deit_small_patch16_224.fb_in1k");
    let student = side("mobilenetv2_100", "mobilenetv2_100.ra_in1k");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/photos");
    for (name, text) in FILES.iter().zip(recipes::texts(&Folder::example(), &teacher, &student)) {
        let shipped = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(shipped == text, "recipes/photos/{name} should be\n{text}");
    }
}

#[test]
fn settings_fit_any_number_of_pictures() {
    let mut last = 0;
    for train in [2, 3, 7, 16, 100, 499, 500, 2000, 50_000, 1_300_000] {
        let count = Count { train, smallest: train / 2, classes: 2, chooses: false };
        let (used, batch) = (count.used(), count.batch());
        assert!(used + count.holdout() == train && (train >= 500) == (count.holdout() > 0), "{train}");
        assert!((1..=used).contains(&batch) && batch <= 64 && batch >= last, "{train}: {batch}");
        assert!(used / batch >= 8 || batch == 2, "{train}: {} steps", used / batch);
        last = batch;
        for start in [Start::Weights, Start::Convolutions, Start::Tokens] {
            let settings = count.settings(start);
            assert!((10..=300).contains(&settings.epochs) && settings.lr > 0.0 && settings.lr <= 0.05, "{settings:?}");
            assert!(settings.epochs / settings.eval_every <= 50);
        }
    }
    // A split to choose on, or a class that is too small, leaves all training pictures.
    assert_eq!(Count { train: 5000, smallest: 9, classes: 2, chooses: false }.holdout(), 0);
    assert_eq!(Count { train: 5000, smallest: 99, classes: 2, chooses: true }.holdout(), 0);
}

#[test]
fn real_photographs_are_learned_from_real_weights() {
    let (Some(photos), Some(weights)) =
        (real("imagenet-sample"), real("weights/deit_tiny_patch16_224.in1k.safetensors"))
    else {
        return;
    };
    let place = Place::new();
    let mut files: Vec<_> = fs::read_dir(photos).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "JPEG"));
    files.sort();
    for (i, file) in files.iter().take(20).enumerate() {
        let folder = place.path("photos").join(["train", "test"][usize::from(i >= 14)]).join(["even", "odd"][i % 2]);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }
    let words = ["photos", "--teacher", "deit_tiny_patch16_224", "--student", "mobilenetv2_100", "--teacher-weights"];
    let output = init(&place, &[&words[..], &[weights.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let short = "--set train.epochs=1 --set device=cpu";
    place.good(&format!("train teacher.toml {short}"));
    place.good(&format!("distill student.toml {short} --set student.img=64"));
    let found: Value = place
        .good("predict runs/student-s0 photos/test --json")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .collect();
    assert_eq!(found.as_array().unwrap().len(), 6);
}
