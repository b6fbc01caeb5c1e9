//! Errors, and the one place that turns a libtorch panic into an error.
use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::Once,
};

/// What can go wrong between a recipe and a number.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An invalid value or combination; the message names it and what to do.
    #[error("{0}")]
    Invalid(String),
    /// A file cannot be read or written in the expected form.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A parameter name was used twice while a network was built.
    #[error("parameter `{0}` is defined twice")]
    Duplicate(String),
    /// The weights do not fit the network; the text is the load report.
    #[error("{0}")]
    Weights(String),
    /// A stop was requested before the work was done.
    #[error("stopped before the work was done")]
    Stopped,
    /// libtorch refused an operation.
    #[error("{context}: {message}{}", remedy(message))]
    Engine {
        /// What was being done.
        context: String,
        /// The engine's own first line.
        message: String,
    },
}

/// The result of fallible functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Invalid`] from a message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// An [`Error::File`] about `path`.
    pub fn file(path: impl Into<PathBuf>, message: impl ToString) -> Self {
        Self::File { path: path.into(), message: message.to_string() }
    }
}

/// What to do about an engine's message; empty if it is not known.
fn remedy(message: &str) -> &'static str {
    if message.contains("out of memory") || message.contains("can't allocate memory") {
        "\n  hint: use smaller batches (train.batch and train.eval_batch, or --batch), smaller images, or \
         precision = \"bf16\""
    } else {
        ""
    }
}

/// `does not exist`, with the working folder if the path is relative to it.
#[must_use]
pub fn missing(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(folder) if path.is_relative() => format!("does not exist in the working folder, {}", folder.display()),
        _ => "does not exist".to_owned(),
    }
}

impl From<tch::TchError> for Error {
    fn from(e: tch::TchError) -> Self {
        let message = match e {
            tch::TchError::Torch(text) => first_line(&text),
            other => other.to_string(),
        };
        Self::Engine { context: "libtorch".to_owned(), message }
    }
}

impl From<heterodyne_shim::Error> for Error {
    fn from(e: heterodyne_shim::Error) -> Self {
        Self::Engine { context: "libtorch".to_owned(), message: e.message().to_owned() }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` and turns a panic of the engine (tch's operators panic on libtorch errors) into an [`Error::Engine`] with
/// `context`. Nothing is printed; unwinding drops the guards, which restore the thread's state.
pub fn catch<T>(context: impl FnOnce() -> String, f: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                default(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    QUIET.set(outer);
    result.unwrap_or_else(|payload| {
        let text =
            payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
        Err(Error::Engine { context: context(), message: engine_message(text.unwrap_or("unknown failure")) })
    })
}

/// Extracts the engine's sentence from "called `Result::unwrap()` on an `Err` value: Torch("sentence\nException raised
/// from ...")".
fn engine_message(text: &str) -> String {
    let inner = text.split_once("Torch(\"").map_or(text, |(_, rest)| rest);
    let end = ["\\n", "\n", "\")"].iter().filter_map(|mark| inner.find(mark)).min().unwrap_or(inner.len());
    inner[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn an_engine_panic_becomes_an_error_that_says_where() {
        let a = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let e = catch(|| "adding".to_owned(), || Ok(&a + Tensor::zeros([4], (Kind::Float, Device::Cpu)))).unwrap_err();
        let text = e.to_string();
        assert!(text.starts_with("adding: The size of tensor a (3) must match"), "{text}");
        assert!(!text.contains("Exception raised"), "{text}");
    }

    #[test]
    fn a_lack_of_memory_comes_with_a_remedy() {
        let e = catch(|| "stacking".to_owned(), || Ok(Tensor::f_zeros([1 << 46], (Kind::Float, Device::Cpu))?))
            .unwrap_err();
        let text = e.to_string();
        assert!(text.contains("can't allocate memory") && text.contains("train.batch"), "{text}");
        let message = "CUDA out of memory. Tried to allocate 20.00 MiB.".to_owned();
        assert!(Error::Engine { context: "training".to_owned(), message }.to_string().contains("train.batch"));
    }

    #[test]
    fn thread_state_survives_an_unwinding() {
        let _ = catch(String::new, || -> Result<()> {
            let _guard = heterodyne_shim::NoGrad::new();
            let _cast = heterodyne_shim::Autocast::new(Device::Cpu, true)?;
            panic!("engine")
        });
        assert!(heterodyne_shim::grad_enabled());
        assert!(!heterodyne_shim::autocast_enabled(Device::Cpu).unwrap());
    }
}
