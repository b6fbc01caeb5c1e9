use std::fs;

use serde_json::Value;

use crate::support::{Place, stderr};

#[test]
fn train_distil_evaluate_and_report() {
    let place = Place::new();
    let printed = place.good("train small.toml --out runs/a");
    assert!(printed.contains("last epoch  test: top-1"), "{printed}");
    let summary: Value = serde_json::from_str(&place.read("runs/a/summary.json")).unwrap();
    assert_eq!(summary["status"], "finished");
    assert_eq!(summary["steps"], 8);

    // The weights describe themselves and evaluate to the accuracy in the summary.
    for words in ["eval runs/a --json", "eval --weights runs/a/weights/last.safetensors --data digits --json"] {
        let measured: Value = serde_json::from_str(&place.good(words)).unwrap();
        assert_eq!(measured["top1"], summary["last"]["top1"]);
        assert_eq!(measured["images"], 500);
    }

    // The trained network is used as a teacher; the same plan gives the same result again.
    place.good(
        "distill taught.toml --out runs/b --set teacher.model=resnet8 --set \
        teacher.weights=runs/a/weights/last.safetensors",
    );
    place.good(
        "distill taught.toml --out runs/c --set teacher.model=resnet8 --set \
        teacher.weights=runs/a/weights/last.safetensors",
    );
    let last = |run: &str| {
        serde_json::from_str::<Value>(&place.read(&format!("runs/{run}/summary.json"))).unwrap()["last"]["loss"].clone()
    };
    assert_eq!(last("b"), last("c"));

    // The same recipe is its own baseline, in a folder of its own.
    let said = place.good("train taught.toml");
    assert!(said.contains("teacher and methods are left out"), "{said}");
    let found: Vec<_> = std::fs::read_dir(place.path("runs")).unwrap().map(|e| e.unwrap().file_name()).collect();
    let scratch = found.iter().filter_map(|name| name.to_str()).find(|name| name.contains("-scratch-s")).unwrap();
    let plan = place.json(&format!("runs/{scratch}/plan.json"));
    assert!(plan.get("teacher").is_none() && plan["methods"].as_object().is_none_or(|m| m.is_empty()), "{plan}");
    let table = place.good(&format!("report runs/b runs/{scratch} --out page.html"));
    assert!(table.contains("vs scratch"), "{table}");

    let table = place.good("report runs/a runs/b --out page.html");
    assert!(table.contains("small"), "{table}");
    assert!(place.read("page.html").contains("</html>"));
}

#[test]
fn fine_tuning_starts_from_weights_and_adapts_the_head() {
    let place = Place::new();
    place.write_teacher("seven.safetensors", 7);
    let words = "train small.toml --set student.model=vit_nano --set student.weights=seven.safetensors --set \
        optim.name=adamw --set optim.lr=1e-3";
    place.bad(&format!("{words} --out runs/a"), &["7 classes", "adapt_head"]);
    place.good(&format!("{words} --out runs/a --set student.adapt_head=true"));
}

#[test]
fn the_demo_ends_with_a_table_a_summary_and_a_report() {
    let place = Place::new();
    let words = "demo --out demo --seeds 2 --set train.epochs=4 --set schedule.warmup_epochs=0";
    let printed = place.good(words);
    assert!(printed.contains("vs scratch") && printed.contains("teacher (vit_nano, 500 test images)"), "{printed}");
    let summary: Value = serde_json::from_str(&place.read("demo/summary.json")).unwrap();
    // Each method has the settings of its own recipe, as the guide's table states.
    let plan = place.json("demo/uhkd/seed1/plan.json");
    assert_eq!((&plan["methods"]["uhkd"]["beta"], plan["methods"].get("kd")), (&1.0.into(), None));
    for method in ["scratch", "kd", "uhkd", "lfcc", "hcd"] {
        let row = &summary["methods"][method];
        assert_eq!(row["accuracies"].as_object().map(serde_json::Map::len), Some(2), "{summary}");
        assert!(row["seconds"].as_f64().is_some_and(|s| s > 0.0));
    }
    // The demo replaces an earlier demo, but nothing else.
    place.good(&words.replace("--seeds 2", "--seeds 1"));
    assert!(!place.path("demo/kd/seed1").exists());
    assert!(!place.path("demo.previous").exists());
    std::fs::create_dir(place.path("mine")).unwrap();
    place.bad("demo --out mine", &["mine exists and was not made by the demo"]);
}

#[test]
fn the_registries_are_listed_with_their_keys() {
    let place = Place::new();
    assert!(place.good("models").contains("deit_tiny_patch16_224"));
    assert!(place.good("methods uhkd").contains("log_amplitude"));
    assert!(place.good("data").contains("cifar100"));
    place.bad("methods nothing", &["no name contains `nothing`"]);
    // The reference pages are the output of these commands.
    assert_eq!(place.good("models --markdown"), include_str!("../../../../docs/reference/models.md"));
    assert_eq!(place.good("recipe --markdown"), include_str!("../../../../docs/reference/recipe.md"));
    assert_eq!(place.good("methods --markdown"), include_str!("../../../../docs/reference/methods.md"));
}

#[test]
fn a_cache_is_filled_ahead_and_used() {
    let place = Place::new();
    let cached = "taught.toml --set teacher.cache.views=2";
    let printed = place.good(&format!("cache {cached}"));
    assert!(printed.contains("80 entries written") && printed.contains("80 of 80"), "{printed}");
    assert!(place.good(&format!("cache {cached}")).contains("\n0 entries written"));
    let printed = place.good(&format!("distill {cached} --out runs/a"));
    assert!(printed.contains("32 recomputed and equal") && printed.contains("the teacher need not run"), "{printed}");
    assert!(
        place.good(&format!("distill {cached} --set teacher.cache.views=9 --out runs/b")).contains("9 views, 2 epochs")
    );
    // The logits are there for other methods, too.
    let other = place.read("taught.toml").replace("methods.kd", "methods.dkd");
    std::fs::write(place.path("dkd.toml"), other).unwrap();
    let printed = place.good("cache taught.toml dkd.toml --set teacher.cache.views=2");
    assert!(printed.contains("\n0 entries written") && printed.matches("entries written").count() == 1, "{printed}");
    place.bad("cache taught.toml", &["teacher.cache.views"]);
    place.bad("cache", &["<RECIPE>", "required"]);
    place.bad("distill taught.toml --set teacher.cache.view=2", &["teacher.cache.view", "views"]);
}

#[test]
fn the_parts_of_a_step_are_measured() {
    let place = Place::new();
    let json: Value = serde_json::from_str(&place.good("bench taught.toml --steps 3 --json")).unwrap();
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    for key in ["images_per_second", "step_ms", "peak_rss_mb", "flops_ratio", "gflop"] {
        assert!(number(&json[key]) > 0.0, "{key}: {}", json[key]);
    }
    let parts: Vec<&str> = json["split_ms"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(parts, ["data", "upload", "teacher", "student", "method", "backward", "optimizer"]);
    assert!(parts.iter().all(|part| number(&json["split_ms"][part]) >= 0.0));
    assert!(place.good("bench small.toml --steps 2").contains("img/s"));
    place.bad("bench small.toml --steps 0", &["--steps 0"]);
}

#[test]
fn a_tilde_is_the_home_folder() {
    let place = Place::new();
    fs::create_dir(place.path("home")).unwrap();
    fs::rename(place.path("teacher.safetensors"), place.path("home/teacher.safetensors")).unwrap();
    let at_home = |words: &str| place.command(words).env("HOME", place.path("home")).output().unwrap();
    let good = |words: &str| {
        let output = at_home(words);
        assert!(output.status.success(), "{words}: {}", stderr(&output));
    };
    good(
        "distill taught.toml --set teacher.weights=~/teacher.safetensors --set \
         teacher.cache={views=1,path=\"~/cache\"} --out=~/run",
    );
    assert!(place.path("home/run/summary.json").is_file() && place.path("home/cache").is_dir());
    good("eval ~/run");
    // Not relative to the recipe's own folder, unlike a relative base.
    fs::rename(place.path("small.toml"), place.path("home/small.toml")).unwrap();
    fs::write(place.path("based.toml"), "base = \"~/small.toml\"").unwrap();
    good("train based.toml --out based");
    good("eval --weights=~/run/weights/last.safetensors --data digits");
    let output = at_home("data folder ~/photos");
    assert!(stderr(&output).contains("home/photos: does not exist"), "{}", stderr(&output));
    let output = at_home("eval ~/run --data folder --path . --set data.labels=~/x.csv");
    assert!(stderr(&output).contains("home/x.csv"), "{}", stderr(&output));
}
