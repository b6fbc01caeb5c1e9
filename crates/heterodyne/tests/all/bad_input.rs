use std::{fs, process::Command};

use heterodyne::nn::file;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::support::{Place, real, refused, stderr};

#[test]
fn recipes_are_read_strictly() {
    let place = Place::new();
    place.bad("train nowhere.toml", &["nowhere.toml"]);
    place.bad("train small.toml --set optim.lerning_rate=1", &["optim.lerning_rate", "--set"]);
    place.bad("train small.toml --lr 0.1", &["--lr", "`--set optim.lr=VALUE`"]);
    place.bad("distill small.toml --batch-size=8", &["`--set train.batch=VALUE`"]);
    let other = place.bad("report runs --lr 0.1", &["--lr"]);
    assert!(!other.contains("--set"), "{other}");
    fs::write(place.path("typo.toml"), crate::support::RECIPE.replace("batch = 10", "bach = 10")).unwrap();
    place.bad("train typo.toml", &["typo.toml:", "train.bach", "train.batch"]);
    fs::write(place.path("type.toml"), crate::support::RECIPE.replace("epochs = 2", "epochs = \"two\"")).unwrap();
    place.bad("train type.toml", &["type.toml:", "train.epochs"]);
    place.bad("distill small.toml", &["teacher"]);
    place.bad("distill taught.toml --set teacher.model=vit_nan", &["vit_nano"]);
    place.bad(
        "distill taught.toml --set methods.uhkd.kk=3",
        &["unknown key `methods.uhkd.kk`", "did you mean `methods.uhkd.k`?"],
    );
    place.bad("train small.toml --set schedule.min_lr=9", &["min_lr"]);
    assert!(!place.path("runs").exists(), "a refused recipe leaves no run folder");
}

#[test]
fn a_level_of_the_processor_that_there_is_not_is_refused() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_heterodyne")).env("HETERODYNE_CPU", "sse9").arg("data").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{text}");
    assert!(
        text.starts_with(
            "error: HETERODYNE_CPU is \"sse9\", but the levels are baseline, avx2, avx512, avx512bf16, amx"
        ),
        "{text}"
    );
}

#[test]
fn weights_that_do_not_fit_are_refused_with_a_report() {
    let place = Place::new();
    let (whole, metadata) = file::read(&place.path("teacher.safetensors")).unwrap();
    let write = |name: &str, change: &dyn Fn(&mut heterodyne::nn::Tensors)| {
        let mut tensors = whole.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
        change(&mut tensors);
        file::write(&place.path(name), tensors.iter().map(|(n, t)| (n.as_str(), t)), metadata.clone()).unwrap();
        format!("distill taught.toml --out runs/a --set teacher.weights={name}")
    };
    let words = write("missing.safetensors", &|t| drop(t.shift_remove("norm.bias")));
    place.bad(&words, &["1 missing in the file", "norm.bias"]);
    let words = write("extra.safetensors", &|t| {
        drop(t.insert("surplus".to_owned(), Tensor::zeros([2], (Kind::Float, Device::Cpu))))
    });
    place.bad(&words, &["1 unknown to the network", "surplus"]);
    let words = write("shape.safetensors", &|t| {
        drop(t.insert("norm.bias".to_owned(), Tensor::zeros([3], (Kind::Float, Device::Cpu))))
    });
    place.bad(&words, &["of another shape", "norm.bias: [3] in the file, [64] in the network"]);

    let bytes = fs::read(place.path("teacher.safetensors")).unwrap();
    for keep in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(place.path("cut.safetensors"), &bytes[..keep]).unwrap();
        place.bad(
            "distill taught.toml --out runs/a --set teacher.weights=cut.safetensors",
            &["cut.safetensors", if keep == 0 { "is empty" } else { "not a complete safetensors file" }],
        );
    }
    place.bad(
        "distill taught.toml --out runs/a --set teacher.weights=none.safetensors",
        &["none.safetensors", "does not exist"],
    );
    place.write_teacher("seven.safetensors", 7);
    place.bad("distill taught.toml --out runs/a --set teacher.weights=seven.safetensors", &["has 7 classes", "has 10"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn words_of_other_tools_find_the_key() {
    let place = Place::new();
    let timm = "'rand-m9-mstd0.5-inc1'";
    for (words, hint) in [
        ("--set device=gpu", "did you mean `cuda`?"),
        ("--set train.seed=1", "did you mean `seed`?"),
        ("--set schedule.warmup=2", "did you mean `schedule.warmup_epochs`?"),
        ("--lr 0.1", "`--set optim.lr=VALUE`"),
        ("--set student.pretrained=true", "`student.weights`? For example `weights = \"hf-hub:timm/"),
        ("--set train.amp=true", "did you mean `train.precision`?"),
        (&format!("--set data.augment.rand_augment={timm}"), "{ magnitude = 9, std = 0.5, ops = 2, chance = 0.5 }"),
        ("--set data.augment.rand_augment=yes", "timm's rand-m9-mstd0.5-inc1"),
    ] {
        place.bad(&format!("train small.toml {words}"), &[hint]);
    }
    place.bad("distill taught.toml --set methods.uhkd.T=4", &["did you mean `methods.uhkd.temperature`?"]);
}

#[test]
fn a_classifier_of_other_classes_is_refused_with_the_remedy() {
    let place = Place::new();
    place.write_teacher("seven.safetensors", 7);
    place.bad(
        "distill taught.toml --set teacher.weights=seven.safetensors",
        &["has 7 classes", "has 10", "`heterodyne train`", "`adapt_head = true`", "teacher.weights"],
    );
    let student = "train small.toml --out run --set student.model=vit_nano --set student.weights=seven.safetensors";
    place.bad(student, &["with 7 classes", "has 10", "`--set student.adapt_head=true`"]);
    place.good(&format!("{student} --set student.adapt_head=true"));
}

#[test]
fn pairs_that_cannot_work_are_refused() {
    let place = Place::new();
    place.bad("distill taught.toml --set methods.lfcc.beta=1 --set train.batch=1", &["lfcc", "batch"]);
    place.bad("train small.toml --set student.model=vit_nano --set student.img=9", &["vit_nano", "9"]);
    place.bad("train small.toml --set student.model=resnet50 --set student.options.stem=cifr", &["stem", "cifar"]);
    place.bad("train small.toml --set data.per_class=100000", &["100000"]);
    if heterodyne::shim::load_cuda().is_err() {
        place.bad("train small.toml --set device=cuda", &["CUDA", "hint: "]);
    }
}

#[test]
fn a_loss_that_overflows_ends_the_run_and_spares_what_was_there() {
    let place = Place::new();
    place.good("train small.toml --out runs/good");
    let before = fs::read(place.path("runs/good/weights/last.safetensors")).unwrap();
    place.bad("train small.toml --out runs/bad --set optim.lr=1e30", &["ce", "lower optim.lr"]);
    let summary: Value = serde_json::from_str(&place.read("runs/bad/summary.json")).unwrap();
    assert_eq!(summary["status"], "failed");
    assert!(summary["last"].is_null() && !place.read("runs/bad/metrics.jsonl").contains("null"));
    place.bad("train small.toml --out runs/good", &["already holds a run"]);
    assert_eq!(fs::read(place.path("runs/good/weights/last.safetensors")).unwrap(), before);
}

/// oneMKL would end the process while loading.
#[cfg(target_os = "linux")]
#[test]
fn a_deleted_working_folder_is_an_error_only_for_relative_names() {
    let place = Place::new();
    let from_nowhere = |words: &str| {
        let shell = format!("mkdir gone; cd gone; rmdir ../gone; exec {} {words}", env!("CARGO_BIN_EXE_heterodyne"));
        Command::new("bash").arg("-c").arg(shell).current_dir(place.path("")).output().unwrap()
    };
    let output = from_nowhere("models");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("resnet18"));
    refused(
        &from_nowhere("train small.toml"),
        "train small.toml",
        &["error: small.toml: cannot be read", "the working folder was deleted"],
    );
    // The default run folder is a relative path.
    let recipe = place.path("small.toml").display().to_string();
    refused(
        &from_nowhere(&format!("train {recipe}")),
        "train",
        &["runs/small-s0: the run folder cannot be created", "the working folder was deleted"],
    );
    let output = from_nowhere(&format!("train {recipe} --out {}", place.path("run").display()));
    assert!(output.status.success() && !stderr(&output).contains("FATAL"), "{}", stderr(&output));
    assert!(place.read("run/summary.json").contains("\"finished\""));
}

#[test]
fn broken_images_are_found_before_training() {
    let place = Place::new();
    let picture = |split: &str, class: &str| {
        let folder = place.path("photos").join(split).join(class);
        fs::create_dir_all(&folder).unwrap();
        folder
    };
    let Some(sample) = real("imagenet-sample/n01440764_tench.JPEG") else { return };
    for split in ["train", "val"] {
        for class in ["a", "b"] {
            for i in 0..3 {
                fs::copy(&sample, picture(split, class).join(format!("{i}.jpg"))).unwrap();
            }
        }
    }
    let words = "train small.toml --set data.name=folder --set data.path=photos --set data.per_class=3 --set \
        data.img=32 --set train.batch=3 \
                 --set train.epochs=1 --set student.img=32";
    place.good(&format!("{words} --out runs/a"));
    let bytes = fs::read(&sample).unwrap();
    fs::write(picture("train", "b").join("1.jpg"), &bytes[..bytes.len() / 2]).unwrap();
    place.bad(&format!("{words} --out runs/b"), &["b/1.jpg"]);
    assert!(!place.path("runs/b").exists(), "found before the run began");
}

#[test]
fn a_truncated_parquet_is_refused_by_name() {
    let place = Place::new();
    let Some(data) = real("cifar100") else { return };
    fs::create_dir(place.path("cifar")).unwrap();
    for split in ["train", "test"] {
        let name = format!("{split}-00000-of-00001.parquet");
        let bytes = fs::read(data.join(&name)).unwrap();
        fs::write(
            place.path("cifar").join(&name),
            &bytes[..if split == "train" { bytes.len() / 2 } else { bytes.len() }],
        )
        .unwrap();
    }
    let text =
        place.bad("train small.toml --set data.name=cifar100 --set data.path=cifar", &["train-00000-of-00001.parquet"]);
    assert!(text.lines().count() < 5, "{text}");
}

#[test]
fn weights_that_nothing_can_be_computed_with_are_refused_by_name() {
    let place = Place::new();
    for (name, value, says) in
        [("flawed", f64::NAN, "1 of 640 values that are NaN or infinite"), ("huge", 1e30, "has a value of 1e30")]
    {
        let (tensors, metadata) = file::read(&place.path("teacher.safetensors")).unwrap();
        let _ = tensors["head.weight"].get(3).get(5).fill_(value);
        file::write(&place.path(name), tensors.iter().map(|(n, t)| (n.as_str(), t)), metadata).unwrap();
        let words = format!("distill taught.toml --out runs/a --set teacher.weights={name}");
        place.bad(&words, &[name, "weights of vit_nano cannot be used", "`head.weight`", says]);
    }
}

#[test]
fn numbers_have_bounds_and_long_values_are_not_printed_whole() {
    let place = Place::new();
    for set in [
        "data.img=20000",
        "threads=100000",
        "threads=4294967297",
        "data.workers=5000",
        "student.img=9000",
        "loss.ce=1e30",
    ] {
        place.bad(
            &format!("train small.toml --set {set}"),
            &[set.split('=').next().unwrap(), " is out of range, expected a "],
        );
    }
    place.bad(
        "distill taught.toml --set methods.kd.weight=1e30",
        &["methods.kd.weight", "a number from 0 to 1000000000"],
    );
    let deep = vec!["a"; 50_000].join(".");
    assert!(place.bad(&format!("train small.toml --set {deep}=1"), &["a key of 50000 parts"]).len() < 3000);
    fs::write(place.path("long.toml"), format!("{}\n{}=1", crate::support::RECIPE, "x".repeat(1 << 20))).unwrap();
    assert!(place.bad("train long.toml", &["unknown key"]).len() < 5000);
}
