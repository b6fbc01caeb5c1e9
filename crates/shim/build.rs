//! Compiles the C++ bridge against the libtorch that `LIBTORCH` names, after checking that it is the version the binding was made for.
use std::{env, fs, path::Path, process::exit};

/// tch 0.24 binds exactly this version; another one compiles and then fails at run time.
const LIBTORCH_VERSION: &str = "2.11.0";

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    for file in ["src/bridge.cc", "src/bridge.h", "src/ffi.rs"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let root = env::var("LIBTORCH")
        .unwrap_or_else(|_| fail("LIBTORCH is not set: build from the project's folder, whose .cargo/config.toml sets it"));
    let root = Path::new(&root);
    match version(root) {
        None => fail(&format!("there is no libtorch in {}: run `make libtorch`", root.display())),
        Some(found) if found.split('+').next() != Some(LIBTORCH_VERSION) => {
            fail(&format!("{} holds libtorch {found}, and {LIBTORCH_VERSION} is needed: run `make libtorch`", root.display()))
        }
        Some(_) => {}
    }
    println!("cargo:rerun-if-changed={}", root.join("version.py").display());
    cxx_build::bridge("src/ffi.rs")
        .file("src/bridge.cc")
        .include("src")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .std("c++17")
        .flag_if_supported("-Wno-unused-parameter")
        .compile("heterodyne_shim");
    println!("cargo:rustc-link-search=native={}", root.join("lib").display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
}

/// The version string of a Python wheel (`version.py`) or of a libtorch archive (`build-version`).
fn version(root: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(root.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(root.join("version.py")).ok()?;
    let line = text.lines().find(|line| line.starts_with("__version__ ="))?;
    line.split('\'').nth(1).map(str::to_owned)
}

fn fail(message: &str) -> ! {
    println!("cargo:error={message}");
    exit(1)
}
