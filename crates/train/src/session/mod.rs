//! The objects of a plan: networks, heads, optimizer and loaders.
mod build;
pub mod data;
mod feed;
mod loaders;
pub mod origin;

use std::sync::atomic::AtomicBool;

use heterodyne_data::{EvalLoader, TrainLoader};
use heterodyne_shim::upload::Upload;

pub use self::feed::Place;
use crate::{Plan, World, cache::Cache, learner::Learner, network::Card, session::origin::Origin};

/// Everything that a run needs.
pub struct Session {
    /// The plan, with the networks' inputs filled in.
    pub plan: Plan,
    /// The networks, the loss and the optimizer.
    pub learner: Learner,
    /// The teacher's stored outputs.
    pub cache: Option<Cache>,
    /// The way of the batches to the device.
    pub upload: Upload,
    /// Training batches.
    pub train: TrainLoader,
    /// Validation images: held-out training images, or a separate split.
    pub validation: Option<EvalLoader>,
    /// Test images.
    pub test: EvalLoader,
    /// Images for the teacher's check, with the teacher's own evaluation transform.
    pub teacher_check: Option<(&'static str, EvalLoader)>,
    /// The description in this student's weights files.
    pub card: Card,
    /// A one-line description of the data.
    pub data: String,
    /// Notes on what was matched or left out, one sentence each.
    pub notes: Vec<String>,
    /// Number of training images.
    pub train_images: usize,
    /// The origin that this session's checkpoints record.
    pub origin: Origin,
    /// The processes that train together.
    pub world: World,
    /// Whether a run may resume from a checkpoint with another origin.
    pub accept_changes: bool,
}

impl Session {
    /// The request to stop that waiting for data heeds. Of several processes, none may stop before the others know.
    pub(crate) fn own_stop<'a>(&self, stop: &'a AtomicBool) -> &'a AtomicBool {
        static NEVER: AtomicBool = AtomicBool::new(false);
        if self.world.is_alone() { stop } else { &NEVER }
    }

    /// Optimizer steps of the whole run.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.train.batches_per_epoch() as u64 * u64::from(self.plan.recipe.train.epochs)
    }
}
