//! What is said where CUDA cannot be used; stand-ins take the place of libtorch's CUDA half.
use std::{fs, path::Path, process::Command};

use heterodyne::shim::load_cuda;

use crate::support::{Place, refused, stderr};

/// Makes a shared library without content that needs the library `needs`, which is then removed.
fn stand_in(folder: &Path, needs: Option<&str>) {
    let compile = |name: &str, rest: &[String]| {
        fs::write(folder.join("empty.c"), "int heterodyne_stand_in;\n").unwrap();
        let mut command = Command::new("c++");
        command.current_dir(folder).args([
            "-shared",
            "-fPIC",
            "-Wl,--no-as-needed",
            "-x",
            "c",
            "empty.c",
            "-x",
            "none",
        ]);
        let status = command.args(["-o", name]).args(rest).status().unwrap();
        assert!(status.success(), "a C++ compiler is needed");
    };
    let missing = needs.map(|name| format!("lib{name}.so"));
    missing.iter().for_each(|name| compile(name, &[]));
    let link: Vec<String> = needs.iter().flat_map(|name| ["-L.".to_owned(), format!("-l{name}")]).collect();
    compile("libtorch_cuda.so", &link);
    missing.iter().for_each(|name| fs::remove_file(folder.join(name)).unwrap());
}

#[test]
fn a_missing_library_is_named_once() {
    let place = Place::new();
    stand_in(&place.path(""), Some("ofnokind"));
    let mut command = place.command("train small.toml --set device=cuda --out runs/a");
    let output = command.env("LD_LIBRARY_PATH", place.path("")).output().unwrap();
    let text = refused(&output, "device=cuda", &["device = \"cuda\"", "libofnokind.so: cannot open", "make libtorch"]);
    assert_eq!(text.matches("cannot be loaded").count(), 1, "{text}");
    assert!(!place.path("runs").exists());
}

#[test]
fn without_a_driver_cuda_is_refused_and_auto_takes_the_cpu() {
    if load_cuda().is_ok() {
        println!("skipped: this machine has a GPU");
        return;
    }
    let place = Place::new();
    stand_in(&place.path(""), None);
    let run = |words: &str| place.command(words).env("LD_LIBRARY_PATH", place.path("")).output().unwrap();
    let text = refused(&run("train small.toml --set device=cuda"), "device=cuda", &["CUDA does not start", "hint: "]);
    assert_eq!(text.matches("CUDA does not start").count(), 1, "{text}");
    let output = run("train small.toml --set device=auto --out runs/a");
    assert!(output.status.success(), "{}", stderr(&output));
    // The plan records the choice, so the run resumes on the same kind of device.
    let plan = place.json("runs/a/plan.json");
    assert!(plan["device"] == "cpu" && plan["train"]["precision"] == "fp32", "{plan:#}");
}
