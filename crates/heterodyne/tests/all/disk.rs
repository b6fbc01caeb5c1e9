//! A full disk, simulated by a file size limit: a write beyond it fails in the middle of a file.
use std::{
    fs,
    process::{Command, Output},
};

use heterodyne::nn::file;

use crate::support::{Place, interrupt, refused, stderr};

/// Runs the command in a shell that limits files to `blocks` of 512 bytes.
fn limited(place: &Place, blocks: u64, words: &str) -> Output {
    let command = format!("ulimit -f {blocks}; exec \"$0\" {words}");
    Command::new("sh")
        .args(["-c", &command, env!("CARGO_BIN_EXE_heterodyne")])
        .current_dir(place.path(""))
        .output()
        .unwrap()
}

/// Temporary files of unfinished writes in `folder` and below.
fn unfinished(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            found.extend(unfinished(&entry.path()));
        }
        if name.starts_with(".new-") || name.starts_with(".export-") {
            found.push(name);
        }
    }
    found
}

#[test]
fn a_run_on_a_full_disk_keeps_what_it_has_and_goes_on_later() {
    let place = Place::new();
    let sets = "--set train.epochs=60";
    place.good(&format!("distill taught.toml --out runs/whole {sets}"));
    assert_eq!(interrupt(&place, &format!("distill taught.toml --out runs/a {sets}")), Some(130));
    let state = place.path("runs/a/checkpoint/state.safetensors");
    let saved = fs::read(&state).unwrap();
    let (metrics, checkpoint) = (fs::metadata(place.path("runs/a/metrics.jsonl")).unwrap().len(), saved.len() as u64);
    assert!(metrics < checkpoint / 4);

    // In the middle of a checkpoint, and in the middle of the metrics.
    for bytes in [checkpoint / 2, metrics + 512] {
        let text = refused(
            &limited(&place, bytes / 512, "distill --resume runs/a"),
            "a full disk",
            &[
                "cannot be written",
                "runs/a/",
                "everything saved so far is intact",
                "heterodyne distill --resume runs/a",
            ],
        );
        assert_eq!(text.matches("error: ").count(), 1, "{text}");
        assert!(fs::read(&state).unwrap() == saved, "the checkpoint before is gone");
        assert_eq!(unfinished(&place.path("runs")), [""; 0]);
    }
    place.good("distill --resume runs/a");
    let weights = |run: &str| file::read(&place.path(&format!("runs/{run}/weights/last.safetensors"))).unwrap().0;
    assert!(weights("whole") == weights("a"), "the run ends with other weights");
}

#[test]
fn a_run_that_never_saved_says_so_and_begins_again() {
    let place = Place::new();
    for blocks in [0, 1, 8, 40] {
        let out = format!("runs/{blocks}");
        let words = format!("distill taught.toml --out {out}");
        let text = refused(&limited(&place, blocks, &words), &words, &["error: ", &out]);
        if place.path(&format!("{out}/plan.json")).is_file() {
            assert!(text.contains(&format!("heterodyne distill --resume {out}")), "{text}");
            let metrics = fs::read_to_string(place.path(&format!("{out}/metrics.jsonl"))).unwrap_or_default();
            assert!(metrics.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{metrics}");
            place.good(&format!("distill --resume {out}"));
        } else {
            place.good(&words);
        }
    }
}

#[test]
fn a_full_disk_leaves_no_half_of_an_output() {
    let place = Place::new();
    place.good("train small.toml --out runs/a");
    place.good("report runs/a --out old.html");
    let old = place.read("old.html");
    fs::create_dir(place.path("pictures")).unwrap();
    for i in 0..40 {
        image::RgbImage::from_fn(8, 8, |x, y| image::Rgb([(x * 20) as u8, (y * 20) as u8, i]))
            .save(place.path(&format!("pictures/{i}.png")))
            .unwrap();
    }
    for words in [
        "report runs/a --out old.html",
        "report runs/a --out new.html",
        "export runs/a --out exported",
        "features vit_nano --weights teacher.safetensors --input pictures --out new.safetensors",
    ] {
        refused(&limited(&place, 8, words), words, &["cannot be written", words.rsplit(' ').next().unwrap()]);
    }
    assert_eq!(place.read("old.html"), old);
    assert!(
        !place.path("new.html").exists() && !place.path("exported").exists() && !place.path("new.safetensors").exists()
    );
    assert_eq!(unfinished(&place.path("")), [""; 0]);
}

#[test]
fn a_cache_that_cannot_grow_ends_no_run() {
    let place = Place::new();
    let output = limited(
        &place,
        2000,
        "distill taught.toml --out runs/a --set teacher.cache.path=cache --set teacher.cache.views=100000",
    );
    refused(&output, "a cache larger than the disk", &["cache"]);
    place.good("distill taught.toml --out runs/b --set teacher.cache.path=cache --set teacher.cache.views=1");
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let place = Place::new();
    place.good("train small.toml --out runs/a");
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    fs::create_dir(place.path("folder")).unwrap();
    std::os::unix::fs::symlink("/dev/null", place.path("device")).unwrap();
    for out in ["pipe", "folder", "device"] {
        place.bad(&format!("report runs/a --out {out}"), &[out, "not an ordinary file"]);
    }
    assert!(fs::symlink_metadata(place.path("device")).unwrap().is_symlink());
    let output = place.run("report runs/a --out target.html");
    assert!(output.status.success(), "{}", stderr(&output));
}
