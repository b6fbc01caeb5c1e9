//! Runs every network in every format with other software: rten and libtorch here, and timm, PyTorch and ONNX Runtime
//! if Python has them.
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use heterodyne_export::{CHECK, CONFIG, ONNX, TORCHSCRIPT, WEIGHTS};
use heterodyne_models::ModelDef;

use crate::support::{ALL, network, networks, write};

/// The Python that `make` uses, if it has the packages that the check needs.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()));
    let found = Command::new(&python).args(["-c", "import timm, torch, onnx, onnxruntime"]).output().ok()?;
    found.status.success().then_some(python)
}

/// The networks are distributed over one thread per core, with one libtorch thread in each.
#[test]
fn every_network_is_the_same_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let python = python();
    if python.is_none() {
        println!("skipped: the checks in Python, which need timm, torch, onnx and onnxruntime (`make reference`)");
    }
    tch::set_num_threads(1);
    let queue = Mutex::new(networks());
    let work = || {
        let next = || queue.lock().unwrap().next();
        let made: Vec<_> =
            std::iter::from_fn(next).map(|(def, img, options)| made(def, img, options, folder.path())).collect();
        if let Some(python) = &python {
            check(python, &made);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
}

/// Exports a network and checks the files. Returns the folder, and whether timm has the network.
fn made(def: &'static ModelDef, img: i64, options: &str, folder: &Path) -> (PathBuf, bool) {
    let options: toml::Table = options.parse().unwrap();
    let model = network(def, img, &options);
    let out = folder.join(def.name);
    let made = write(&model, &options, ALL, &out).unwrap_or_else(|e| panic!("{}: {e}", def.name));
    let names: Vec<_> = made.files.iter().map(|f| f.name).collect();
    let expected = [WEIGHTS, CONFIG, ONNX, TORCHSCRIPT, CHECK];
    let expected: Vec<_> = expected.into_iter().filter(|name| *name != CONFIG || made.timm.is_some()).collect();
    assert_eq!(names, expected, "{}", def.name);
    for file in &made.files {
        assert_eq!(std::fs::metadata(out.join(file.name)).unwrap().len(), file.bytes, "{} {}", def.name, file.name);
        assert!(file.difference.is_none_or(|d| d < 2e-5), "{} {}: {:?}", def.name, file.name, file.difference);
    }
    (out, made.timm.is_some())
}

fn check(python: &Path, folders: &[(PathBuf, bool)]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/check_export.py");
    for timm in [true, false] {
        if !folders.iter().any(|(_, has)| *has == timm) {
            continue;
        }
        let mut command = Command::new(python);
        command.arg(&script).args(folders.iter().filter(|(_, has)| *has == timm).map(|(folder, _)| folder));
        if !timm {
            command.args(["--without", "timm"]);
        }
        let output = command.output().unwrap();
        let (text, problems) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}{problems}");
        let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        let count = folders.iter().filter(|(_, has)| *has == timm).count();
        assert_eq!((lines("torchscript "), lines("onnx ")), (count, count), "{text}");
        assert_eq!(lines("timm "), if timm { count } else { 0 }, "{text}");
    }
}
