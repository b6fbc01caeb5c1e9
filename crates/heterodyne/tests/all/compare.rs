//! `heterodyne compare`: every run once, whatever interrupts it.
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use heterodyne::{nn::file, run::recipe::Layered};
use serde_json::Value;

use crate::support::{Place, stderr};

/// The first cells of the table's rows.
fn rows(table: &str) -> Vec<&str> {
    table.lines().skip(1).filter_map(|line| line.split("   ").next()).map(str::trim).collect()
}

fn row<'j>(summary: &'j Value, name: &str) -> &'j Value {
    let found = summary["rows"].as_array().unwrap().iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("{name} in {summary}"))
}

fn weights(place: &Place, run: &str) -> heterodyne::nn::Tensors {
    file::read(&place.path(&format!("{run}/weights/last.safetensors"))).unwrap().0
}

/// Waits until `path` exists while a process runs.
fn wait_for(path: &Path, child: &mut Child) {
    let start = Instant::now();
    while !path.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before {} was there", path.display());
        assert!(start.elapsed() < Duration::from_secs(120), "{} never came", path.display());
        thread::sleep(Duration::from_millis(2));
    }
}

fn signal(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

#[test]
fn every_row_runs_with_every_seed_once() {
    let place = Place::new();
    let words = "compare taught.toml --methods scratch,kd,hard+at --seeds 3 --out c";
    let printed = place.good(words);
    assert!(printed.contains("3 rows, 3 seeds: 9 runs, 0 of them finished") && printed.contains("9 of 9 runs"));
    let table = &printed[printed.find("\nmethod ").unwrap() + 1..];
    assert!(rows(table)[0].starts_with("teacher (vit_nano, 500 test images)"), "{table}");
    assert!(table.contains("vs kd [95 %]") && table.contains("vs scratch [95 %]"), "{table}");
    assert!(place.read("c/report.html").contains("</html>"));

    // The runs are those of the recipe.
    place.good("distill taught.toml --out alone --set seed=1");
    assert!(weights(&place, "alone") == weights(&place, "c/kd/seed1"));
    let methods = place.json("c/hard+at/seed0/plan.json")["methods"].clone();
    assert_eq!(methods.as_object().unwrap().keys().collect::<Vec<_>>(), ["hard", "at"]);
    assert!(place.json("c/scratch/seed0/plan.json").get("teacher").is_none());
    // A row's recipe repeats a run.
    place.good("distill c/kd/recipe.toml --out again --set seed=1");
    assert!(weights(&place, "alone") == weights(&place, "again"));

    // Sorted by mean; differences and intervals as computed here from the seeds' accuracies: mean d, and
    // t(0.975, 2) std(d) / sqrt(3) with t = scipy.stats.t.ppf(0.975, 2).
    let summary = place.json("c/summary.json");
    let means: Vec<f64> =
        summary["rows"].as_array().unwrap().iter().map(|row| row["test"]["mean"].as_f64().unwrap()).collect();
    assert!(means.len() == 3 && means.is_sorted_by(|a, b| a >= b), "{means:?}");
    let accuracy = |name: &str, seed: usize| {
        place.json(&format!("c/{name}/seed{seed}/summary.json"))["last"]["top1"].as_f64().unwrap()
    };
    for base in ["kd", "scratch"] {
        let d = [0, 1, 2].map(|seed| accuracy("hard+at", seed) - accuracy(base, seed));
        let mean = (d[0] + d[1] + d[2]) / 3.0;
        let std = (d.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / 2.0).sqrt();
        let half = 4.302_652_729_911_275 * std / 3f64.sqrt();
        let found = &row(&summary, "hard+at")["differences"]["test"][base];
        let close = |value: &Value, to: f64| (value.as_f64().unwrap() - to).abs() < 1e-6;
        assert!(close(&found["mean"], mean), "{found}");
        assert!(close(&found["interval"][0], mean - half) && close(&found["interval"][1], mean + half), "{found}");
    }
    // The recipe sets `threads = 1`.
    let cores = thread::available_parallelism().unwrap().get() as u64;
    assert_eq!((summary["jobs"].as_u64(), summary["threads"].as_u64()), (Some(cores), Some(1)));

    // Again, nothing is run; more seeds add to what is there.
    let first = place.read("c/kd/seed0/summary.json");
    assert!(place.good(words).contains("9 runs, 9 of them finished"));
    assert!(place.good(&words.replace("--seeds 3", "--seed-list 7,1")).contains("6 runs, 3 of them finished"));
    assert!(first == place.read("c/kd/seed0/summary.json") && place.path("c/kd/seed7/summary.json").is_file());
    // A page of the same folders has the same differences.
    place.good("report c/kd/seed0 c/kd/seed1 c/scratch/seed0 c/scratch/seed1 --out page.html");
    assert!(place.read("page.html").contains("<th scope=\"col\">vs scratch</th>"));

    // Other settings do not mix with them.
    place.bad(
        &format!("{words} --set optim.lr=0.03"),
        &["c/scratch: holds runs of another plan: `optim.lr` was 0.02 and is 0.03", "--out"],
    );
    fs::remove_file(place.path("c/kd/recipe.toml")).unwrap();
    place.bad(words, &["row `kd` has no recipe.toml to compare with", "already holds a run"]);
}

#[test]
fn settings_and_methods_are_combined_and_each_row_has_its_own() {
    let place = Place::new();
    let table = |words: &str| place.good(&format!("compare {words} --table"));
    let text = table("taught.toml --methods scratch,kd,uhkd --set methods.uhkd.k=3,5 --set optim.lr=0.1,0.2");
    let names = [
        "scratch, optim.lr=0.1",
        "scratch, optim.lr=0.2",
        "kd, optim.lr=0.1",
        "kd, optim.lr=0.2",
        "uhkd, k=3, optim.lr=0.1",
        "uhkd, k=3, optim.lr=0.2",
        "uhkd, k=5, optim.lr=0.1",
        "uhkd, k=5, optim.lr=0.2",
    ];
    assert_eq!(rows(&text), names);
    // A list in brackets is one value, and one of two is not.
    let text = table("taught.toml --methods uhkd --set methods.uhkd.levels=[3,4]");
    assert_eq!(rows(&text), ["uhkd"]);
    let text = table("taught.toml --methods uhkd --set methods.uhkd.levels=[3,4],[4]");
    assert_eq!(rows(&text), ["uhkd, levels=[3,4]", "uhkd, levels=[4]"]);
    // Without --methods: scratch, kd, and the recipe's own combination if it is another.
    assert_eq!(rows(&table("taught.toml")), ["scratch", "kd"]);
    assert_eq!(rows(&table("taught.toml --set methods.dkd={}")), ["scratch", "kd", "kd+dkd"]);
    assert_eq!(rows(&table("small.toml")), ["scratch"]);
    // Variants; a row that does not use one is the same row.
    let variant = |text: &str| {
        let mut command = place.command("compare taught.toml --methods kd,dkd --table --variant");
        let output = command.args([text, "--variant", ""]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = variant("methods.dkd.alpha=2, optim.lr=0.1");
    assert_eq!(rows(&text), ["kd, optim.lr=0.1", "kd", "dkd, alpha=2, optim.lr=0.1", "dkd"]);
    assert_eq!(rows(&variant("methods.dkd.alpha=2")), ["kd", "dkd, alpha=2", "dkd"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn the_rows_share_one_pass_of_the_teacher() {
    let place = Place::new();
    let words = "compare taught.toml --methods scratch,kd,uhkd,hcd --seeds 1 --out c --set teacher.cache.views=9";
    let printed = place.good(words);
    assert!(printed.contains("teacher: the outputs for 3 runs of seed 0"), "{printed}");
    // Two epochs see two of the nine views.
    assert_eq!(printed.matches("\n80 entries written").count(), 1, "{printed}");
    for row in ["kd", "uhkd", "hcd"] {
        let log = place.read(&format!("c/{row}/seed0.log"));
        assert!(log.contains("9 views, 80 of 360 entries"), "{log}");
    }
    assert!(!place.good(words).contains("teacher: the outputs"));
}

#[test]
fn a_mistake_in_any_row_costs_no_run() {
    let place = Place::new();
    for (words, parts) in [
        ("taught.toml --methods scratch,uhdk", vec!["--methods uhdk", "did you mean `uhkd`?"]),
        ("taught.toml --methods kd,scrach", vec!["`scratch` is training without a teacher"]),
        ("taught.toml --methods scratch,kd --set methods.uhkd.k=3", vec!["no row", "add `uhkd` to --methods"]),
        ("taught.toml --methods scratch --set teacher.img=16", vec!["no row", "scratch has no teacher"]),
        ("taught.toml --set optim.lr=0.1,-1", vec!["row `scratch, optim.lr=-1`", "`optim.lr`: -1 is out of range"]),
        ("taught.toml --set optim.lr=0.1,", vec!["--set optim.lr=0.1,", "is empty"]),
        ("taught.toml --set methods.kd.temp=3", vec!["row `kd`", "methods.kd.temperature"]),
        ("taught.toml --set seed=1", vec!["--seeds"]),
        ("taught.toml --seeds 0", vec!["--seeds"]),
        ("taught.toml --seeds 1 --seed-list 4", vec!["cannot be used with"]),
        ("small.toml --methods kd", vec!["row `kd`", "[teacher]"]),
        ("absent.toml", vec!["absent.toml", "cannot be read"]),
    ] {
        place.bad(&format!("compare {words}"), &parts);
    }
    assert!(!place.path("runs").exists(), "a refused comparison leaves no folder");
    fs::create_dir_all(place.path("runs/compare-small/kd/seed0")).unwrap();
    fs::write(place.path("runs/compare-small/kd/seed0/mine"), "").unwrap();
    place.bad("compare taught.toml", &["runs/compare-small/kd/seed0: exists and is not empty"]);
    assert!(!place.path("runs/compare-small/scratch").exists());
}

#[test]
fn a_row_that_fails_is_named_and_the_others_are_shown() {
    let place = Place::new();
    let words = "compare taught.toml --methods kd,dkd --set optim.lr=0.02,1e30 --seeds 1 --out c --jobs 1";
    let output = place.run(words);
    let (printed, error) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("error: 2 of 4 runs failed") && error.contains("  kd, optim.lr=1e30, seed 0\n"), "{error}");
    assert!(error.contains("    error: ") && error.contains("lower optim.lr"), "{error}");
    assert!(printed.contains("not counted (failed: "), "{printed}");
    let summary = place.json("c/summary.json");
    assert_eq!(summary["failures"][0]["run"], "kd, optim.lr=1e30, seed 0");
    assert!(row(&summary, "kd, optim.lr=0.02")["test"]["mean"].is_f64());
    assert!(row(&summary, "dkd, optim.lr=1e30")["test"].is_null());
    // Weights that are not there, found by the run itself.
    fs::remove_file(place.path("teacher.safetensors")).unwrap();
    let output = place.run("compare taught.toml --seeds 1 --out d");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("1 of 2 runs failed\n  kd, seed 0\n    error: teacher.safetensors"), "{output:?}");
    assert!(row(&place.json("d/summary.json"), "scratch")["test"]["mean"].is_f64());
}

#[test]
fn a_killed_run_fails_alone_and_continues_the_next_time() {
    let place = Place::new();
    let words = "compare taught.toml --methods scratch,kd --seeds 1 --jobs 1 --out c --set train.epochs=40 \
        --set train.checkpoint_every=1";
    let mut compare = place.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&place.path("c/kd/seed0/checkpoint/state.safetensors"), &mut compare);
    let run = place.read("c/kd/seed0/.lock");
    signal("-KILL", run.trim());
    let output = compare.wait_with_output().unwrap();
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("1 of 2 runs failed") && error.contains("signal: 9") && error.contains("--jobs 1"),
        "{error}"
    );
    assert!(place.path("c/scratch/seed0/summary.json").is_file() && !place.path("c/kd/seed0/summary.json").exists());

    assert!(place.good(words).contains("2 runs, 1 of them finished"));
    place.good("distill taught.toml --out whole --set train.epochs=40 --set train.checkpoint_every=1");
    assert!(weights(&place, "whole") == weights(&place, "c/kd/seed0"), "a continued run ends with other weights");
}

#[test]
fn ctrl_c_is_passed_on_and_the_same_command_continues() {
    let place = Place::new();
    let words = "compare taught.toml --methods kd,hard --seeds 1 --jobs 2 --out c --set train.epochs=80";
    let mut compare = place.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for row in ["kd", "hard"] {
        wait_for(&place.path(&format!("c/{row}/seed0/metrics.jsonl")), &mut compare);
    }
    // A second comparison does not mix with it.
    place.bad(words, &["is writing this folder: wait for it to end"]);
    signal("-INT", &compare.id().to_string());
    let output = compare.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{printed}{}", stderr(&output));
    assert!(
        printed
            .contains(&format!("to continue: heterodyne {}", words.split_whitespace().collect::<Vec<_>>().join(" ")))
    );
    let ends: Vec<Value> =
        ["kd", "hard"].map(|row| place.json(&format!("c/{row}/seed0/summary.json"))["status"].clone()).into();
    assert!(ends.iter().any(|end| end == "interrupted") && ends.iter().all(|end| end != "failed"), "{ends:?}");
    place.good(words);
    assert_eq!(place.json("c/kd/seed0/summary.json")["status"], "finished");
    assert_eq!(place.json("c/summary.json")["failures"], Value::Array(Vec::new()));
}

#[test]
fn a_killed_comparison_stops_its_runs_and_the_same_command_continues() {
    let place = Place::new();
    let words = "compare taught.toml --methods kd --seeds 1 --out c --set train.epochs=80";
    let mut compare = place.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&place.path("c/kd/seed0/metrics.jsonl"), &mut compare);
    signal("-KILL", &compare.id().to_string());
    compare.wait().unwrap();
    let (summary, start) = (place.path("c/kd/seed0/summary.json"), Instant::now());
    while !summary.exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "the run goes on without its comparison");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(place.json("c/kd/seed0/summary.json")["status"], "interrupted");
    assert!(place.good(words).contains("1 of 1 runs"));
}

#[test]
fn runs_before_and_after_a_file_was_replaced_are_named() {
    let place = Place::new();
    let words = "compare taught.toml --methods scratch,kd --out c --seed-list";
    let compared = |seeds: &str| {
        let output = place.run(&format!("{words} {seeds}"));
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(!compared("0").contains("do not compare"));
    let (mut tensors, metadata) = file::read(&place.path("teacher.safetensors")).unwrap();
    let other = tensors["head.bias"].copy() + 0.5;
    tensors.insert("head.bias".to_owned(), other);
    file::write(&place.path("teacher.safetensors"), tensors.iter().map(|(n, t)| (n.as_str(), t)), metadata).unwrap();
    let said = compared("0,1");
    let line = "kd, seed 0 and kd, seed 1 do not compare: the teacher's weights have changed";
    assert!(said.contains(&format!("note: {line}\nhint: remove")) && said.matches("do not").count() == 1, "{said}");
    assert!(place.read("c/report.html").contains("kd, seed 0 and kd, seed 1 do not compare"));
    assert_eq!(place.json("c/summary.json")["replaced"], Value::from(vec![line]));
    assert!(stderr(&place.run(&format!("{words} 0,1 --table"))).contains(line));
    fs::remove_dir_all(place.path("c/kd/seed0")).unwrap();
    assert!(!compared("0,1").contains("do not compare"));
}

#[test]
fn a_study_compares_the_variants_of_several_recipes_with_their_first() {
    let place = Place::new();
    let study = |text: &str| fs::write(place.path("study.toml"), text).unwrap();
    study(
        "[[group]]\ncommand = \"train\"\nrecipe = \"small.toml\"\nvariants = [\"data.holdout=10\"]\n[[group]]\n\
         recipe = \"taught.toml\"\nvariants = [\"data.holdout=10\", \"data.holdout=10, methods.kd.temperature=4\", \
         \"data.holdout=10, optim.lr=0.01\"]\n",
    );
    let printed = place.good("compare study.toml --seed-list 4,5");
    assert!(printed.contains("held-out %") && printed.contains("vs first [95 %]"), "{printed}");
    let summary = place.json("runs/compare-study/summary.json");
    let found = row(&summary, "taught, temperature=4");
    assert_eq!(
        (&found["group"], &found["method"], &found["variant"]),
        (&1.into(), &"taught".into(), &"temperature=4".into())
    );
    assert_eq!((&found["variant_of"], &row(&summary, "taught")["variant_of"]), (&"taught".into(), &Value::Null));
    let each = |name: &str, split: &str| row(&summary, name)[split]["each"]["5"].as_f64().unwrap();
    for split in ["test", "held_out"] {
        let difference = found["differences"][split]["first"]["each"]["5"].as_f64().unwrap();
        assert!((difference - (each("taught, temperature=4", split) - each("taught", split))).abs() < 1e-9);
    }
    let group = |rest: &str| format!("[[group]]\nrecipe = \"taught.toml\"\n{rest}");
    for (text, part) in [
        (group(""), "missing field `variants`"),
        ("[[group]]\nvariants = ['']".to_owned(), "missing field `recipe`"),
        (group("variants = []"), "has no variants"),
        (group("variants = ['optim.lr=1', 'optim.lr=1']"), "is listed twice"),
        (group("variants = ['']\ncommand = 'cook'"), "unknown variant `cook`"),
        ("group = 1".to_owned(), "[[group]]"),
    ] {
        study(&text);
        place.bad("compare study.toml", &["study.toml", part]);
    }
    study(&group("variants = ['']"));
    place.bad("compare study.toml --methods kd", &["--methods is for a recipe"]);
}

#[test]
fn the_shipped_studies_and_recipes_are_complete() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = |path: &str| fs::read_dir(root.join(path)).unwrap().map(|entry| entry.unwrap().path());
    for study in folder("tools/studies") {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heterodyne"));
        let output = command.current_dir(&root).arg("compare").arg(&study).arg("--table").output().unwrap();
        assert!(output.status.success(), "{}: {}", study.display(), stderr(&output));
    }
    // A resolved recipe as it is stored for a row is the same recipe.
    let mut whole = 0;
    for kind in ["cifar100", "digits", "studies"] {
        for path in folder(&format!("recipes/{kind}")) {
            // Layers that only other recipes use are not whole.
            let Ok(recipe) = Layered::read(&path, &[]).unwrap().recipe() else { continue };
            whole += 1;
            let text = toml::to_string(&recipe).unwrap();
            let again = Layered::from_str("again.toml", &text, &[]).unwrap().recipe().unwrap();
            let json = |recipe| serde_json::to_value(recipe).unwrap();
            assert_eq!(json(&recipe), json(&again), "{}", path.display());
        }
    }
    assert!(whole > 50, "{whole}");
}
