//! The example that classifies a picture, built by `cargo test` and used as its first lines describe.
use std::{path::Path, process::Command};

use heterodyne::nn::file;
use image::{Rgb, RgbImage};

use crate::support::{Place, refused};

fn example(place: &Place, words: &str) -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_heterodyne")).with_file_name("examples").join("classify");
    assert!(path.exists(), "{}: `cargo test --workspace` builds it", path.display());
    let mut command = Command::new(path);
    command.current_dir(place.path("")).args(words.split_whitespace()).env_remove("RUST_BACKTRACE");
    command
}

/// The lines `0.9312  class` of a network for a picture.
fn classified(place: &Place, words: &str) -> Vec<(f64, String)> {
    let output = example(place, words).output().unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    let line = |line: &str| {
        let (probability, class) = line.split_once("  ").unwrap();
        (probability.parse().unwrap(), class.to_owned())
    };
    String::from_utf8(output.stdout).unwrap().lines().map(line).collect()
}

#[test]
fn a_run_classifies_a_picture_of_any_size() {
    let place = Place::new();
    place.good("train small.toml --out run");
    RgbImage::from_fn(20, 13, |x, y| Rgb([(x * 12) as u8, (y * 19) as u8, 90])).save(place.path("x.png")).unwrap();
    let found = classified(&place, "run x.png");
    assert_eq!(found, classified(&place, "run/weights/last.safetensors x.png"));

    place.good("features resnet8 --weights run/weights/last.safetensors --input x.png --out x.safetensors");
    let logits: Vec<f64> =
        (&file::read(&place.path("x.safetensors")).unwrap().0["logits"].view(-1)).try_into().unwrap();
    let sum: f64 = logits.iter().map(|z| z.exp()).sum();
    let mut expected: Vec<(f64, String)> =
        logits.iter().map(|z| z.exp() / sum).zip((0..10).map(|c| c.to_string())).collect();
    expected.sort_by(|a, b| b.0.total_cmp(&a.0));
    assert_eq!(found.len(), 5);
    for ((p, class), (q, other)) in found.iter().zip(&expected) {
        assert!(class == other && (p - q).abs() < 1e-4, "{found:?} {expected:?}");
    }

    let bad = |words: &str, parts: &[&str]| refused(&example(&place, words).output().unwrap(), words, parts);
    bad("run", &["usage"]);
    bad("nothing.safetensors x.png", &["nothing.safetensors", "does not exist"]);
    bad("run small.toml", &["not a JPEG, PNG"]);
}

#[test]
fn the_example_stays_short() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/classify.rs")).unwrap();
    assert!(text.lines().count() < 40, "{} lines", text.lines().count());
}
