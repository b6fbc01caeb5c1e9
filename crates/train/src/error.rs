//! The errors of planning and training.
use std::path::{Path, PathBuf};

use heterodyne_run::RecipeError;

/// Why a plan was refused or a run stopped. Messages name the cause and a remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mistake in the recipe, with file, line and hint.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// An error from networks, methods, data or weights.
    #[error(transparent)]
    Nn(#[from] heterodyne_nn::Error),
    /// An error in a file of the run folder.
    #[error(transparent)]
    Run(#[from] heterodyne_run::Error),
    /// The GPU that the recipe requires is not usable.
    #[error("device = \"cuda\": {0}")]
    Cuda(heterodyne_shim::CudaError),
    /// Networks, data and settings that do not fit together.
    #[error("{0}")]
    Plan(String),
    /// A loss or gradient became NaN or infinite.
    #[error(
        "step {step} (epoch {epoch:.2}): {what} is {value}. The update was skipped; files on disk are intact.\n  \
         hint: {}", advice(*lr, largest.as_deref())
    )]
    NonFinite {
        /// The optimizer step, counted from 1.
        step: u64,
        /// The time in epochs.
        epoch: f64,
        /// The loss term, the total or the gradient norm.
        what: String,
        /// NaN or an infinity.
        value: f64,
        /// The learning rate of the step.
        lr: f64,
        /// The largest term of the loss with its weight, if every term was finite.
        largest: Option<String>,
    },
    /// The teacher's output became NaN or infinite.
    #[error(
        "step {step} (epoch {epoch:.2}): the output of the teacher ({teacher}) is NaN or infinite. The update was \
         skipped; files on disk are intact.\n  hint: check the teacher's weights, teacher.mean, teacher.std and \
         teacher.precision"
    )]
    Teacher {
        /// The optimizer step, counted from 1.
        step: u64,
        /// The time in epochs.
        epoch: f64,
        /// The teacher's name.
        teacher: String,
    },
    /// The weights have diverged and must not be saved.
    #[error(
        "step {step}: the run has diverged: {flaw}. The previous checkpoint and weights are kept.\n  hint: lower \
         optim.lr, or add warm-up (schedule.warmup_epochs) or clipping (train.clip_grad)"
    )]
    Diverged {
        /// Optimizer steps done.
        step: u64,
        /// The tensor and what is wrong with it.
        flaw: String,
    },
    /// The recipe, teacher, classes or images have changed since the checkpoint was written.
    #[error(
        "{}: the run has changed since this checkpoint was written:\n  {}\n  hint: undo the change, or pass \
         --accept-changes; the result then differs from that of an uninterrupted run",
        path.display(),
        changes.join("\n  ")
    )]
    Changed {
        /// The checkpoint.
        path: PathBuf,
        /// The differences, one line each.
        changes: Vec<String>,
    },
    /// A file of the run folder could not be written.
    #[error("{cause}\n  hint: everything saved so far is intact; once the file can be written, continue with \
        `heterodyne {command} --resume {}`", folder.display())]
    Unwritten {
        /// The file and the reason.
        cause: Box<Error>,
        /// The command of the run.
        command: &'static str,
        /// The run folder.
        folder: PathBuf,
    },
    /// The processes of a run cannot work together.
    #[error("{0}")]
    Ranks(String),
    /// The checkpoint does not belong to this run.
    #[error("the checkpoint does not fit this run: {0}")]
    State(String),
    /// The run folder cannot be resumed.
    #[error("{}: {message}", path.display())]
    Resume {
        /// The run folder.
        path: PathBuf,
        /// The reason.
        message: String,
    },
}

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn advice(lr: f64, largest: Option<&str>) -> String {
    let usual =
        format!("lower optim.lr (now {lr:.3e}), or add warm-up (schedule.warmup_epochs) or clipping (train.clip_grad)");
    match largest {
        Some(largest) => format!("most of the loss is {largest}: check that weight, or {usual}"),
        None => format!("{usual}, or check the term's weight"),
    }
}

// Its text is part of this error's, so it is not a source besides.
impl From<heterodyne_shim::CudaError> for Error {
    fn from(e: heterodyne_shim::CudaError) -> Self {
        Self::Cuda(e)
    }
}

impl Error {
    /// Whether this is the response to a stop request rather than a failure.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Nn(heterodyne_nn::Error::Stopped))
    }

    /// Adds how to resume the run if a file in its `folder` could not be written; returns other errors unchanged.
    pub(crate) fn while_writing(self, command: &'static str, folder: &Path) -> Self {
        match &self {
            Self::Run(heterodyne_run::Error { path, .. }) | Self::Nn(heterodyne_nn::Error::File { path, .. })
                if path.starts_with(folder) =>
            {
                Self::Unwritten { cause: Box::new(self), command, folder: folder.to_owned() }
            }
            _ => self,
        }
    }
}

/// Runs `f`; a libtorch panic inside it becomes an error prefixed with `what`.
pub(crate) fn guarded<T>(what: &str, f: impl FnOnce() -> Result<T>) -> Result<T> {
    heterodyne_nn::catch(|| what.to_owned(), || Ok(f())).map_err(Error::from).flatten()
}

impl From<tch::TchError> for Error {
    fn from(e: tch::TchError) -> Self {
        Self::Nn(e.into())
    }
}

impl From<heterodyne_shim::Error> for Error {
    fn from(e: heterodyne_shim::Error) -> Self {
        Self::Nn(e.into())
    }
}
