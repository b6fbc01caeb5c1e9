//! `reproduce` repeats a run to the last bit, and says what is different if it cannot.
use std::fs;

use crate::support::{Place, interrupt, stderr, test_device};

/// Changes a JSON file and removes its checksum.
fn edit(place: &Place, name: &str, from: &str, to: &str) {
    let text = place.read(name);
    assert!(text.contains(from), "{name} lacks {from}");
    let lines = text.lines().filter(|line| !line.contains("\"checksum\""));
    fs::write(place.path(name), lines.collect::<Vec<_>>().join("\n").replace(from, to)).unwrap();
}

#[test]
fn a_run_is_repeated_to_the_last_bit() {
    let place = Place::new();
    place.good("distill taught.toml --out runs/a --set methods.uhkd.k=3 --set train.ema_decay=0.9");
    let manifest = place.json("runs/a/manifest.json");
    let process = &manifest["processes"][0];
    assert!(process["machine"]["threads"] == 1 && process["versions"]["libtorch"].is_string(), "{manifest:#}");

    let first = place.good("reproduce runs/a");
    let parts = ["metrics   equal: 4 windows of steps, 2 evaluations", "(+0.00 points)", "last: all", "ema: all"];
    for part in [&parts[..], &["the run is reproduced exactly", "epoch    2.00"]].concat() {
        assert!(first.contains(part), "{part}: {first}");
    }
    // The repetition is there: it is compared again, not computed again.
    let second = place.good("reproduce runs/a");
    assert!(second.contains("the run is reproduced exactly") && !second.contains("epoch "), "{second}");
    // A report over the runs does not take the repetition for another sample.
    assert!(place.good("report runs/a --out report.html").contains("report.html"));
}

#[test]
fn an_interrupted_run_is_reproduced_and_a_repetition_continues() {
    let place = Place::new();
    let words = "distill taught.toml --out runs/a --set train.epochs=40 --set train.log_every=7";
    assert_eq!(interrupt(&place, words), Some(130));
    place.bad("reproduce runs/a", &["only a finished run", "interrupted", "heterodyne distill --resume runs/a"]);
    place.good("distill --resume runs/a");
    let processes = &place.json("runs/a/manifest.json")["processes"];
    assert!(processes[0]["step"] == 0 && processes[1]["step"].as_u64() > Some(0), "{processes:#}");

    assert_eq!(interrupt(&place, "reproduce runs/a --out runs/b"), Some(130));
    assert!(!place.json("runs/b/manifest.json")["processes"][1].is_object());
    let output = place.run("reproduce runs/a --out runs/b");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("the run was continued at step"), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("the run is reproduced exactly"));
    assert!(place.json("runs/b/manifest.json")["processes"][1].is_object());
}

#[test]
fn changed_inputs_are_named_before_anything_is_computed() {
    let place = Place::new();
    place.good("train small.toml --out runs/start");
    fs::copy(place.path("runs/start/weights/last.safetensors"), place.path("start.safetensors")).unwrap();
    place.good("distill taught.toml --out runs/a --set student.weights=start.safetensors");
    place.write_teacher("other.safetensors", 10);
    place.good("train small.toml --out runs/other --set seed=5");
    fs::copy(place.path("runs/other/weights/last.safetensors"), place.path("start.safetensors")).unwrap();
    let changed = "the weights with which the student starts have changed";
    place.bad("reproduce runs/a", &[changed, "--accept-changes"]);
    assert!(!place.path("runs/a/again").exists(), "a refusal leaves a folder");

    place.bad("reproduce runs/a --accept-changes", &[changed, "not reproduced exactly", "--tolerance"]);
    let found = place.good("reproduce runs/a --tolerance 100");
    assert!(found.contains("tensors differ, by") && found.contains("within 100 points"), "{found}");
    assert!(found.contains("equal before step 2; there training loss was"), "{found}");
    place.bad("reproduce runs/a --tolerance 101", &["not between 0 and 100"]);
    place.bad("reproduce runs/a --out runs/b --set optim.lr=1", &["only places and the device may change"]);
}

#[test]
fn a_run_that_was_moved_is_reproduced_with_its_new_places() {
    let place = Place::new();
    place.good("distill taught.toml --out runs/a");
    fs::rename(place.path("teacher.safetensors"), place.path("elsewhere.safetensors")).unwrap();
    place.bad("reproduce runs/a", &["teacher.safetensors", "does not exist"]);
    let found = place.good("reproduce runs/a --set teacher.weights=elsewhere.safetensors");
    assert!(found.contains("the run is reproduced exactly"), "{found}");
}

#[test]
fn another_run_is_not_taken_for_a_repetition() {
    let place = Place::new();
    place.good("train small.toml --out runs/a");
    place.good("train small.toml --out runs/b --set optim.lr=0.01");
    place.good("train small.toml --out runs/c --set seed=1");
    place.bad("reproduce runs/a --out runs/b", &["runs/b", "`optim.lr` was 0.02 and is 0.01", "--out"]);
    place.bad("reproduce runs/a --out runs/c", &["runs/c", "`seed` was 0 and is 1"]);
    place.bad("reproduce runs/none", &["runs/none", "the folder does not exist"]);
}

#[test]
fn a_manifest_that_is_missing_or_damaged_is_named() {
    let place = Place::new();
    place.good("train small.toml --out runs/a");
    edit(&place, "runs/a/manifest.json", "\"libtorch\": \"2.11.0\"", "\"libtorch\": \"2.9.1\"");
    let output = place.run("reproduce runs/a");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("note: libtorch: 2.9.1 then, 2.11.0 now"), "{}", stderr(&output));

    fs::remove_dir_all(place.path("runs/a/again")).unwrap();
    let whole = place.read("runs/a/manifest.json");
    fs::write(place.path("runs/a/manifest.json"), &whole[..whole.len() / 2]).unwrap();
    place.bad("reproduce runs/a", &["manifest.json", "is incomplete"]);
    fs::remove_file(place.path("runs/a/manifest.json")).unwrap();
    let output = place.run("reproduce runs/a");
    assert!(output.status.success() && stderr(&output).contains("manifest.json is missing"), "{}", stderr(&output));
}

#[test]
fn every_method_has_operations_with_a_fixed_order() {
    let place = Place::new();
    let methods: String =
        heterodyne::methods::all().iter().map(|m| format!(" --set methods.{}={{}}", m.name)).collect();
    for deterministic in [false, true] {
        let words = format!("--set train.epochs=1 --set deterministic={deterministic} --out runs/{deterministic}");
        place.good(&format!("distill taught.toml{methods} {words}"));
    }
    let weights = |run: &str| fs::read(place.path(&format!("runs/{run}/weights/last.safetensors"))).unwrap();
    assert!(weights("false") == weights("true") || test_device() != "cpu", "a CPU's order is fixed anyway");
}
