use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use heterodyne::nn::file;
use serde_json::Value;

use crate::support::{Place, interrupt, stderr};

/// Removes the checksum line, as the error's hint suggests.
fn without_checksum(text: &str) -> String {
    text.lines().filter(|line| !line.contains("\"checksum\"")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn ctrl_c_saves_and_resume_reaches_the_same_weights() {
    let place = Place::new();
    let sets = "--set train.epochs=40 --set methods.uhkd.k=3";
    place.good(&format!("distill taught.toml --out runs/whole {sets}"));
    assert_eq!(interrupt(&place, &format!("distill taught.toml --out runs/broken {sets}")), Some(130));
    assert!(place.read("runs/broken/summary.json").contains("\"interrupted\""));
    assert!(place.path("runs/broken/checkpoint/state.safetensors").is_file());

    place.bad(&format!("distill taught.toml --out runs/broken {sets}"), &["already holds a run", "--resume"]);
    place.good("distill --resume runs/broken");
    let weights = |run: &str| file::read(&place.path(&format!("runs/{run}/weights/last.safetensors"))).unwrap().0;
    assert!(weights("whole") == weights("broken"), "a resumed run ends with other weights");
    let left = fs::read_dir(place.path("runs/broken/checkpoint")).unwrap();
    assert_eq!(left.count(), 0, "a finished run needs no checkpoint");
    assert!(place.read("runs/broken/summary.json").contains("\"finished\""));
    // The teacher was measured before the interruption.
    let score = |run: &str| place.json(&format!("runs/{run}/summary.json"))["teacher_score"].clone();
    assert!(score("whole")["images"].is_u64() && score("whole") == score("broken"));

    let again = place.run("distill --resume runs/broken");
    assert!(again.status.success() && stderr(&again).contains("the run had finished"), "{}", stderr(&again));
    assert!(weights("whole") == weights("broken"));
}

#[test]
fn an_interrupted_run_states_the_epoch_of_its_evaluation() {
    let place = Place::new();
    let words = "train small.toml --out runs/a --set train.epochs=4000";
    let mut child = place.command(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.by_ref().find(|line| line.contains("test: top-1"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    child.wait().unwrap();
    let last = place.json("runs/a/summary.json")["last"]["epoch"].as_f64().unwrap();
    let line = rest.iter().find(|line| line.starts_with(&format!("epoch {last:<4}  test: top-1")));
    assert!(line.is_some() && !rest.iter().any(|line| line.starts_with("last epoch")), "{rest:?}");
}

#[test]
fn the_rate_in_the_metrics_is_that_of_the_step() {
    let place = Place::new();
    place.good(
        "train small.toml --out runs/a --set train.log_every=1 --set optim.lr=0.0625 --set schedule.warmup_epochs=0",
    );
    let first: Value = serde_json::from_str(place.read("runs/a/metrics.jsonl").lines().next().unwrap()).unwrap();
    assert_eq!((first["step"].as_u64(), first["lr"].as_f64()), (Some(1), Some(0.0625)));
}

#[test]
fn resuming_needs_a_run_and_a_whole_checkpoint() {
    let place = Place::new();
    place.bad("train --resume runs/none", &["runs/none", "the folder does not exist"]);
    place.good("train small.toml --out runs/a --set train.keep_checkpoints=true");
    let state = place.path("runs/a/checkpoint/state.safetensors");
    let bytes = fs::read(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    place.bad("train --resume runs/a", &["state.safetensors", "not a complete safetensors file"]);
    fs::remove_file(&state).unwrap();
    let plan = without_checksum(&place.read("runs/a/plan.json")).replace("\"epochs\": 2", "\"epochs\": 3");
    fs::write(place.path("runs/a/plan.json"), plan).unwrap();
    place.bad("train --resume runs/a", &["finished after 2 epochs", "checkpoint was removed", "keep_checkpoints"]);
    // The result of the run is still there.
    place.good("eval runs/a");
}

#[test]
fn output_that_goes_nowhere_ends_no_run() {
    let place = Place::new();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = place.command("train small.toml --out runs/full").stdout(full()).stderr(full()).status().unwrap();
    assert!(status.success() && place.read("runs/full/summary.json").contains("\"finished\""));
    let mut child =
        place.command("train small.toml --out runs/head").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success() && place.read("runs/head/summary.json").contains("\"finished\""));
    // A list that cannot be printed is still a failure.
    let output = place.command("models").stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the output could not be written"));
}

#[test]
fn a_closed_terminal_saves_once_however_often_it_says_so() {
    // Under `nohup`, a run inherits the ignored signal and correctly continues.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    if ignored.is_some_and(|mask| mask & 1 == 1) {
        println!("skipped: SIGHUP is ignored here (nohup)");
        return;
    }
    let place = Place::new();
    let words = "distill taught.toml --out runs/a --set train.epochs=4000";
    let mut child = place.command(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("epoch"));
    for _ in 0..3 {
        assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    }
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(place.read("runs/a/summary.json").contains("\"interrupted\""));
    assert!(place.path("runs/a/checkpoint/state.safetensors").is_file());
}

#[test]
fn a_run_resumes_with_what_it_was_made_with_or_says_what_changed() {
    let place = Place::new();
    assert_eq!(interrupt(&place, "distill taught.toml --out runs/a --set train.epochs=400"), Some(130));
    let (teacher, plan) = (fs::read(place.path("teacher.safetensors")).unwrap(), place.read("runs/a/plan.json"));
    let metrics = place.read("runs/a/metrics.jsonl");

    let (mut tensors, metadata) = file::read(&place.path("teacher.safetensors")).unwrap();
    let other = tensors["head.bias"].copy() + 0.5;
    tensors.insert("head.bias".to_owned(), other);
    file::write(&place.path("teacher.safetensors"), tensors.iter().map(|(n, t)| (n.as_str(), t)), metadata).unwrap();
    place.bad(
        "distill --resume runs/a",
        &["state.safetensors", "the teacher's weights have changed", "--accept-changes"],
    );
    fs::write(place.path("teacher.safetensors"), teacher).unwrap();

    let edited = plan.replace("\"lr\": 0.02", "\"lr\": 0.03");
    fs::write(place.path("runs/a/plan.json"), &edited).unwrap();
    place.bad("distill --resume runs/a", &["plan.json: does not match its checksum", "delete the line `\"checksum\"`"]);
    fs::write(place.path("runs/a/plan.json"), without_checksum(&edited)).unwrap();
    place.bad("distill --resume runs/a", &["`optim.lr` was 0.02 and is 0.03", "--accept-changes"]);
    fs::write(place.path("runs/a/plan.json"), plan).unwrap();

    fs::write(place.path("runs/a/metrics.jsonl"), metrics.replacen("\"loss\":", "\"loss\":1", 1)).unwrap();
    place.bad("distill --resume runs/a", &["metrics.jsonl", "has changed since the checkpoint was written"]);
    place.good("distill --resume runs/a --accept-changes");
}

#[test]
fn a_run_killed_before_its_first_checkpoint_begins_again() {
    let place = Place::new();
    let killed = |run: &str| {
        let endless = "--set train.checkpoint_every=1000000 --set train.epochs=1000000 --set train.eval_every=1000000";
        let words = format!("train small.toml {endless} --out {run}");
        let mut child = place.command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.map_while(Result::ok).find(|line| line.starts_with("epoch"));
        child.kill().unwrap();
        child.wait().unwrap();
    };
    killed("runs/a");
    let plan =
        place.read("runs/a/plan.json").replace("\"epochs\": 1000000", "\"epochs\": 2").replace(": 1000000", ": 1");
    fs::write(place.path("runs/a/plan.json"), without_checksum(&plan)).unwrap();
    place.good("train --resume runs/a");
    place.good("train small.toml --out runs/b");
    let weights = |run: &str| file::read(&place.path(&format!("runs/{run}/weights/last.safetensors"))).unwrap().0;
    assert!(weights("a") == weights("b"));
    // Or the folder is simply used again.
    killed("runs/c");
    place.good("train small.toml --out runs/c");
    assert!(weights("c") == weights("b"));
}
