//! Exports a trained network for other software: weights with timm's description, TorchScript, and ONNX.
//!
//! Every file is read back and compared with the network before the folder appears under its final name.

pub mod graph;
pub mod onnx;
mod parity;
mod timm;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use heterodyne_models::Model;
use heterodyne_nn::{Error, InputSpec, Pass, Result, catch, file, shim::NoGrad};
use tch::{Kind, Tensor};

use graph::Graph;

/// Weights, as timm and heterodyne read them.
pub const WEIGHTS: &str = "model.safetensors";
/// timm's description of them.
pub const CONFIG: &str = "config.json";
/// The TorchScript program.
pub const TORCHSCRIPT: &str = "model.ts";
/// The ONNX graph.
pub const ONNX: &str = "model.onnx";
/// Images and the network's logits for them, to verify the export in other software.
pub const CHECK: &str = "check.safetensors";

/// Largest allowed difference between a file's logits and the network's, relative to the largest logit.
pub const TOLERANCE: f64 = 1e-4;

/// The network to export, and its description.
pub struct Subject<'a> {
    /// The network, in float32 on the CPU.
    pub model: &'a Model,
    /// The network's options.
    pub options: &'a toml::Table,
    /// The input size and normalisation for evaluation.
    pub input: InputSpec,
    /// Names of the classes, if known.
    pub class_names: &'a [String],
    /// Metadata of the weights file.
    pub metadata: HashMap<String, String>,
    /// JSON to store in the programs.
    pub about: String,
}

/// Which programs to write in addition to the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Write [`TORCHSCRIPT`].
    pub torchscript: bool,
    /// Write [`ONNX`].
    pub onnx: bool,
}

/// One file of an export.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The file's name.
    pub name: &'static str,
    /// The file's size.
    pub bytes: u64,
    /// Largest difference between its logits and the network's, relative to the largest logit; `None` for a file
    /// without logits.
    pub difference: Option<f64>,
}

/// The result of an export.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// The files written.
    pub files: Vec<Written>,
    /// timm's name for the network; `None` if timm does not have it, in which case there is no [`CONFIG`].
    pub timm: Option<&'static str>,
}

/// Writes `folder`, which must be absent or empty. It appears under its name only after all files have been checked.
pub fn export(subject: &Subject, programs: Programs, folder: &Path) -> Result<Export> {
    let existing = std::fs::read_dir(folder).map(|mut entries| entries.next().is_some());
    if folder.is_file() || existing.unwrap_or(false) {
        return Err(Error::file(
            folder,
            "already exists and is not an empty folder; choose another --out, or remove it",
        ));
    }
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = |e: std::io::Error| Error::file(folder, format!("cannot be created ({e})"));
    std::fs::create_dir_all(parent).map_err(cannot)?;
    let beside = tempfile::Builder::new().prefix(".export-").tempdir_in(parent).map_err(cannot)?;
    let made = write(subject, programs, beside.path()).map_err(|e| match e {
        // The temporary folder is gone by the time the user reads this message.
        Error::File { path, message } => {
            Error::file(path.strip_prefix(beside.path()).map_or(path.clone(), |name| folder.join(name)), message)
        }
        e => e,
    })?;
    // A rename replaces an empty folder.
    std::fs::rename(beside.path(), folder)
        .map_err(|e| Error::file(folder, format!("cannot be moved into place ({e})")))?;
    let _moved = beside.keep();
    set_permissions(folder)?;
    Ok(made)
}

/// A temporary folder is private; the exported folder must not be.
#[cfg(unix)]
fn set_permissions(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).map_err(|e| Error::file(folder, e))
}

#[cfg(not(unix))]
fn set_permissions(_folder: &Path) -> Result<()> {
    Ok(())
}

fn write(subject: &Subject, programs: Programs, folder: &Path) -> Result<Export> {
    let model = subject.model;
    let x = images(model)?;
    let logits = run(model, &x)?;
    let mut files = Vec::new();
    let mut note = |name: &'static str, path: PathBuf, difference: Option<f64>| {
        let bytes = std::fs::metadata(&path).map_err(|e| Error::file(&path, e))?.len();
        match difference {
            Some(d) if d.is_nan() || d > TOLERANCE => Err(Error::invalid(format!(
                "{name}: its logits differ from the network's by {d:.1e} of the largest logit, but only \
                 {TOLERANCE:.0e} is allowed; nothing was exported"
            ))),
            _ => {
                files.push(Written { name, bytes, difference });
                Ok(())
            }
        }
    };

    let path = folder.join(WEIGHTS);
    let tensors = model.store.tensors();
    file::write(&path, tensors.iter().map(|(name, t)| (name.as_str(), t)), subject.metadata.clone())?;
    note(WEIGHTS, path.clone(), Some(parity::weights(subject, &path, &x, &logits)?))?;

    let timm = timm::config(subject)?;
    if let Some((_, config)) = &timm {
        let path = folder.join(CONFIG);
        std::fs::write(&path, config).map_err(|e| Error::file(&path, format!("cannot be written ({e})")))?;
        note(CONFIG, path, None)?;
    }
    if programs.onnx || programs.torchscript {
        let graph = Graph::of(model)?;
        if programs.onnx {
            let path = folder.join(ONNX);
            onnx::write(&graph, &path, &subject.about)?;
            note(ONNX, path.clone(), Some(parity::onnx(&path, &x, &logits)?))?;
        }
        if programs.torchscript {
            let path = folder.join(TORCHSCRIPT);
            graph.save(&path, &subject.about)?;
            note(TORCHSCRIPT, path.clone(), Some(parity::torchscript(&path, &x, &logits)?))?;
        }
    }
    let path = folder.join(CHECK);
    file::write(&path, [("x", &x), ("logits", &logits)], HashMap::new())?;
    note(CHECK, path, None)?;
    Ok(Export { files, timm: timm.map(|(name, _)| name) })
}

/// Three images of noise with the distribution of normalised images.
fn images(model: &Model) -> Result<Tensor> {
    let x = Tensor::f_empty([3, 3, model.img, model.img], (Kind::Float, model.store.device()))?;
    heterodyne_nn::shim::Rng::new(0).normal(&x, 0.0, 1.0)?;
    Ok(x)
}

/// Runs the network as the rest of heterodyne does.
fn run(model: &Model, x: &Tensor) -> Result<Tensor> {
    let context = || format!("running {}", model.def.name);
    let forward = || {
        let _no_grad = NoGrad::new();
        Ok(model.net.forward(x, Pass::EVAL).logits)
    };
    let logits = catch(context, forward)?;
    if logits.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
        return Err(Error::invalid(
            "the network's logits are not finite: its weights have overflowed, so there is nothing to export",
        ));
    }
    Ok(logits)
}
