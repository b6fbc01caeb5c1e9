//! The example with a custom method, built by `cargo test` and used as its first lines describe.
use std::{path::Path, process::Command};

use crate::support::{Place, refused};

fn example(place: &Place, words: &str) -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_heterodyne")).with_file_name("examples").join("own_method");
    assert!(path.exists(), "{}: `cargo test --workspace` builds it", path.display());
    let mut command = Command::new(path);
    command.current_dir(place.path("")).args(words.split_whitespace()).env_remove("RUST_BACKTRACE");
    command
}

#[test]
fn a_method_of_ones_own_trains_and_is_known_to_every_command() {
    let place = Place::new();
    let good = |words: &str| {
        let output = example(&place, words).output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let printed =
        good("distill taught.toml --set methods.cosine.weight=2.0 --set methods.cosine.warmup_epochs=1 --out run");
    assert!(printed.contains("cosine") && printed.contains("warm-up to epoch 1"), "{printed}");
    let metrics = place.read("run/metrics.jsonl");
    assert!(metrics.contains("\"cosine.cosine\":"), "{metrics}");
    let plan: serde_json::Value = serde_json::from_str(&place.read("run/plan.json")).unwrap();
    assert_eq!(plan["methods"]["cosine"]["bias"], true);
    assert!(good("methods cosine").contains("1 - cos(W f_s, f_t)"));
    assert!(good("inspect resnet8 --teacher vit_nano --batch 4 --num-classes 10").contains("cosine   learns"));
    good("report run");

    let bad = |words: &str, parts: &[&str]| refused(&example(&place, words).output().unwrap(), words, parts);
    bad(
        "distill taught.toml --set methods.cosine.bias=1 --out bad",
        &["`methods.cosine.bias` is the number 1", "true or false"],
    );
    bad("distill taught.toml --set methods.cosin={} --out bad", &["did you mean `cosine`?"]);
    // The standard command does not have the method.
    place.bad("distill taught.toml --set methods.cosine={} --out bad", &["there is no method `cosine`"]);
}

#[test]
fn the_example_stays_short() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/own_method.rs")).unwrap();
    assert!(text.lines().count() < 50, "{} lines", text.lines().count());
}
