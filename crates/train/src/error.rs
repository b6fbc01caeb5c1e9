//! What can end a run.
use std::path::{Path, PathBuf};

use heterodyne_run::RecipeError;

/// Why a plan was refused or a run stopped. The message names the cause and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe, with file, line and hint.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Networks, methods, data or weights.
    #[error(transparent)]
    Nn(#[from] heterodyne_nn::Error),
    /// A file of the run folder.
    #[error(transparent)]
    Run(#[from] heterodyne_run::Error),
    /// The GPU that the recipe asks for.
    #[error("device = \"cuda\": {0}")]
    Cuda(#[from] heterodyne_shim::CudaError),
    /// The pair, the data or the settings contradict each other.
    #[error("{0}")]
    Plan(String),
    /// A loss or gradient stopped being a number.
    #[error(
        "step {step} (epoch {epoch:.2}): {what} is {value}; the parameters were not updated by it and every file \
         written before is whole\n  hint: {}", advice(*lr, largest.as_deref())
    )]
    NonFinite {
        /// The optimizer step, counted from 1.
        step: u64,
        /// The time in epochs.
        epoch: f64,
        /// The term's name, or the gradient norm.
        what: String,
        /// NaN or an infinity.
        value: f64,
        /// The learning rate of the step.
        lr: f64,
        /// The term that made up most of the loss, with its weight, where each of them was a number.
        largest: Option<String>,
    },
    /// The teacher's output stopped being a number, so that nothing could be learned from it.
    #[error(
        "step {step} (epoch {epoch:.2}): the teacher ({teacher}) gives values that are NaN or infinite; the student \
         was not updated by it and every file written before is whole\n  hint: check the teacher's weights, teacher.mean, teacher.std and teacher.precision"
    )]
    Teacher {
        /// The optimizer step, counted from 1.
        step: u64,
        /// The time in epochs.
        epoch: f64,
        /// What the teacher is called.
        teacher: String,
    },
    /// Weights that a checkpoint must not keep.
    #[error(
        "step {step}: the run has diverged: {flaw}; the checkpoint and the weights before are kept\n  hint: lower \
         optim.lr, add warm-up (schedule.warmup_epochs) or clipping (train.clip_grad)"
    )]
    Diverged {
        /// Optimizer steps done.
        step: u64,
        /// The tensor and what is wrong with it.
        flaw: String,
    },
    /// A checkpoint that was made with something else than what it is to go on with.
    #[error(
        "{}: the checkpoint was made with something else:\n  {}\n  hint: put back what was there, or go on knowingly \
         with --accept-changes; the result is then not that of an uninterrupted run",
        path.display(),
        changes.join("\n  ")
    )]
    Changed {
        /// The checkpoint.
        path: PathBuf,
        /// What is different.
        changes: Vec<String>,
    },
    /// A file of the run folder that could not be written.
    #[error("{cause}\n  hint: what was saved before is whole; once this can be written, `heterodyne {command} \
        --resume {}` goes on", folder.display())]
    Unwritten {
        /// The file and the reason.
        cause: Box<Error>,
        /// The command of the run.
        command: &'static str,
        /// The run folder.
        folder: PathBuf,
    },
    /// A checkpoint that does not belong to this run.
    #[error("the checkpoint does not fit this run: {0}")]
    State(String),
    /// A run folder that cannot continue.
    #[error("{}: {message}", path.display())]
    Resume {
        /// The run folder.
        path: PathBuf,
        /// Why not.
        message: String,
    },
}

/// The result of fallible functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn advice(lr: f64, largest: Option<&str>) -> String {
    let usual =
        format!("lower optim.lr (now {lr:.3e}), add warm-up (schedule.warmup_epochs) or clipping (train.clip_grad)");
    match largest {
        Some(largest) => format!("most of the loss is {largest}; look at its weight, or {usual}"),
        None => format!("{usual}, or look at that term's weight"),
    }
}

impl Error {
    /// Whether this is no fault but the answer to a request to stop.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Nn(heterodyne_nn::Error::Stopped))
    }

    /// Says of a file in `folder`, which a run was writing, how the run goes on; of anything else nothing more.
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

/// Runs `f`; a panic of the engine in it becomes an error that says what was being done.
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
