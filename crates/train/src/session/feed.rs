//! Turns a batch of the loader into the input of a step: upload, mixing, and the teacher's output.
use heterodyne_data::{
    Batch,
    random::{Purpose, Random},
};
use tch::Tensor;

use super::Session;
use crate::{
    Result,
    learner::{StepInput, TeacherOutput},
};

/// The position of a batch in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The batch's epoch, from 0.
    pub epoch: u32,
    /// The batch's number in the epoch, from 0.
    pub batch: u64,
    /// The time in epochs, including the fraction.
    pub time: f64,
}

impl Session {
    /// Turns a batch into the input of a step; calls `uploaded` when the images are on the device and mixed.
    ///
    /// # Errors
    /// The teacher's pass fails.
    pub fn feed(&self, batch: Batch, at: Place, uploaded: impl FnOnce()) -> Result<StepInput> {
        let (images, labels) = (self.upload.copy(&batch.images)?, self.upload.copy(&batch.labels)?);
        let mut rng = Random::new(self.plan.recipe.seed, Purpose::Mix, u64::from(at.epoch), at.batch);
        let (images, labels) = self.plan.mix.apply(&images, &labels, self.card.classes, &mut rng)?;
        uploaded();
        let teacher = self.teacher_output(&batch, &images, at.time)?;
        Ok(StepInput { images, labels, samples: batch.rows, teacher })
    }

    /// The teacher's output for a batch whose images are on the device; `None` without a teacher, or if all methods
    /// have ended at `time`.
    fn teacher_output(&self, batch: &Batch, images: &Tensor, time: f64) -> Result<Option<TeacherOutput>> {
        if self.learner.teacher.is_none() || !self.learner.loss.needs_teacher(time) {
            return Ok(None);
        }
        let teach = |images: &Tensor| self.learner.teach(images);
        match &self.cache {
            None => teach(images),
            Some(cache) => cache.teacher_output(batch, images, &self.upload, teach),
        }
        .map(Some)
    }
}
