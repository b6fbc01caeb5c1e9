//! Compiles the C++ bridge against the libtorch in `LIBTORCH`, after checking that its version fits the binding.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::exit,
};

/// tch 0.24 binds exactly this version; another version compiles but fails at run time.
const LIBTORCH_VERSION: &str = include_str!("libtorch-version").trim_ascii();

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let root = env::var("LIBTORCH").unwrap_or_else(|_| {
        fail(
            "LIBTORCH is not set: in the project's folder, .cargo/config.toml sets it; a crate of your own needs such \
             a file (docs/guide.md, Use it from Rust)",
        )
    });
    let root = Path::new(&root);
    match version(root) {
        None => fail(&format!("no libtorch in {}: run `make libtorch`", root.display())),
        Some(found) if found.split('+').next() != Some(LIBTORCH_VERSION) => fail(&format!(
            "{} holds libtorch {found}, but {LIBTORCH_VERSION} is needed: run `make libtorch`",
            root.display()
        )),
        Some(_) => {}
    }
    println!("cargo:rerun-if-changed={}", root.join("version.py").display());
    for source in sources(Path::new("src")) {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    let rooms = [
        "cpu",
        "winograd",
        "norm",
        "packed",
        "window",
        "spectrum",
        "attention",
        "flops",
        "profile",
        "script",
        "upload",
        "graph",
        "ranks",
    ];
    let bridges = rooms.iter().map(|room| format!("src/{room}/ffi.rs")).chain(["src/ffi.rs".to_owned()]);
    cxx_build::bridges(bridges)
        .files([
            "src/bridge.cc",
            "src/winograd/winograd.cc",
            "src/norm/norm.cc",
            "src/packed/packed.cc",
            "src/flops/flops.cc",
            "src/profile/profile.cc",
            "src/upload/upload.cc",
            "src/graph/graph.cc",
            "src/ranks/ranks.cc",
        ])
        .files(["src/norm/batch_norm.cc", "src/norm/depthwise.cc", "src/window/window.cc", "src/spectrum/spectrum.cc"])
        .files(["src/attention/attention.cc", "src/attention/softmax.cc"])
        .files(["src/packed/layers.cc", "src/packed/normal_tail.cc", "src/packed/scratch.cc", "src/cpu/cpu.cc"])
        .files(["src/script/trace.cc", "src/script/package.cc"])
        .include("src")
        .include("src/ranks/declared")
        .flags(system_includes(root))
        // libtorch's wheel is built with it; without it some types have other members.
        .define("NDEBUG", None)
        .std("c++17")
        .flag_if_supported("-Wno-unused-parameter")
        .flag("-fopenmp")
        // Debug information would double the compile time, and nobody steps through this code.
        .debug(false)
        .compile("heterodyne_shim");
    stand_in();
    println!("cargo:rustc-link-search=native={}", root.join("lib").display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    println!("cargo:rustc-link-lib=dylib:+verbatim={}", openmp(root));
}

/// An empty library with the name of libtorch's front library, `libtorch.so` in OUT_DIR; script/stand_in.rs says why.
fn stand_in() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let source = out.join("stand_in.c");
    if let Err(e) = fs::write(&source, "") {
        fail(&format!("{}: {e}", source.display()));
    }
    let mut command = cc::Build::new().get_compiler().to_command();
    command
        .args(["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libtorch.so", "-o"])
        .arg(out.join("libtorch.so"))
        .arg(&source);
    if !command.status().is_ok_and(|status| status.success()) {
        fail("the C compiler could not make an empty shared library");
    }
}

/// The sources of the C++ part; changes to other Rust files do not recompile it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let of = |path: PathBuf| match path.extension().and_then(|e| e.to_str()) {
        _ if path.is_dir() => sources(&path),
        Some("cc" | "h") => vec![path],
        Some("rs") if path.ends_with("ffi.rs") => vec![path],
        _ => Vec::new(),
    };
    paths.flat_map(of).collect()
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

/// libtorch's headers as system includes, because we cannot fix their warnings.
fn system_includes(root: &Path) -> Vec<String> {
    let folders = [root.join("include"), root.join("include/torch/csrc/api/include")];
    folders.iter().flat_map(|folder| ["-isystem".to_owned(), folder.display().to_string()]).collect()
}

/// The OpenMP runtime in libtorch's folder, whatever its name: at::parallel_for must share its threads.
fn openmp(root: &Path) -> String {
    let files = fs::read_dir(root.join("lib")).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("libgomp")).min().unwrap_or_else(|| "libgomp.so.1".to_owned())
}

fn fail(message: &str) -> ! {
    println!("cargo:error={message}");
    exit(1)
}
