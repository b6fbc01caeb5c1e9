//! A plan made real: networks, heads, optimizer and loaders.
mod build;
pub mod data;
mod feed;
mod loaders;
pub mod origin;

use heterodyne_data::{EvalLoader, TrainLoader};

pub use self::feed::Place;
use crate::{Plan, cache::Cache, learner::Learner, network::Card, session::origin::Origin};

/// Everything a run needs.
pub struct Session {
    /// The plan, its networks' inputs filled in.
    pub plan: Plan,
    /// The networks, the loss and the optimizer.
    pub learner: Learner,
    /// The teacher's stored outputs.
    pub cache: Option<Cache>,
    /// Training batches.
    pub train: TrainLoader,
    /// Images to choose on: held-out training images, or a split of their own.
    pub validation: Option<EvalLoader>,
    /// Test images.
    pub test: EvalLoader,
    /// Some test images, shown with the teacher's own evaluation transform, for the check of the teacher.
    pub teacher_check: Option<EvalLoader>,
    /// The description that a weights file of this student carries.
    pub card: Card,
    /// A sentence about the data.
    pub data: String,
    /// What was matched or left out on the way, a sentence each.
    pub notes: Vec<String>,
    /// Number of training images.
    pub train_images: usize,
    /// What a checkpoint of this session is made with.
    pub origin: Origin,
    /// Whether a run may go on from a checkpoint that was made with something else.
    pub accept_changes: bool,
}

impl Session {
    /// Optimizer steps of the whole run.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.train.batches_per_epoch() as u64 * u64::from(self.plan.recipe.train.epochs)
    }
}
