use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use heterodyne::nn::file;

use crate::support::Place;

/// Ends a run with SIGINT after its first line of metrics and gives its exit code.
fn interrupt(place: &Place, words: &str) -> Option<i32> {
    let mut child = place.command(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("epoch"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    lines.by_ref().for_each(drop);
    child.wait().unwrap().code()
}

#[test]
fn ctrl_c_saves_and_resume_reaches_the_same_weights() {
    let place = Place::new();
    let sets = "--set train.epochs=40 --set methods.uhkd.k=3";
    place.good(&format!("distill taught.toml --out runs/whole {sets}"));
    assert_eq!(interrupt(&place, &format!("distill taught.toml --out runs/broken {sets}")), Some(130));
    assert!(place.read("runs/broken/summary.json").contains("\"interrupted\""));
    assert!(place.path("runs/broken/checkpoint/state.safetensors").is_file());

    place.bad(&format!("distill taught.toml --out runs/broken {sets}"), &["holds a run already", "--resume"]);
    place.good("distill --resume runs/broken");
    let weights = |run: &str| file::read(&place.path(&format!("runs/{run}/weights/last.safetensors"))).unwrap().0;
    assert!(weights("whole") == weights("broken"), "a resumed run ends with other weights");
    assert!(place.read("runs/broken/summary.json").contains("\"finished\""));
}

#[test]
fn resuming_needs_a_run_and_a_whole_checkpoint() {
    let place = Place::new();
    place.bad("train --resume runs/none", &["runs/none", "there is no such folder"]);
    place.good("train small.toml --out runs/a");
    let state = place.path("runs/a/checkpoint/state.safetensors");
    let bytes = fs::read(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    place.bad("train --resume runs/a", &["state.safetensors", "not a whole safetensors file"]);
    fs::remove_file(&state).unwrap();
    place.bad("train --resume runs/a", &["no checkpoint"]);
    // The result of the run is still there.
    place.good("eval runs/a");
}
