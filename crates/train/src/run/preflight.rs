//! Checks the teacher before training: most failed distillations start with a teacher that performs poorly on the data
//! as it is presented.
use std::sync::atomic::AtomicBool;

use heterodyne_run::summary::TeacherScore;

use super::{
    eval::{self, Measured},
    measure::Answers,
};
use crate::{Error, Result, session::Session};

/// The result of the check.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherCheck {
    /// The teacher's accuracy on evenly spaced test images (held-out images if the recipe leaves the test images
    /// alone), with its own evaluation transform.
    pub measured: Measured,
    /// Which images these are: `test` or `validation`.
    pub split: &'static str,
    /// Accuracy at chance level, in percent.
    pub chance: f64,
}

impl TeacherCheck {
    /// What the summary keeps.
    #[must_use]
    pub fn score(&self) -> TeacherScore {
        let Measured { top1, images, .. } = self.measured;
        TeacherScore { split: self.split.to_owned(), top1, images: images as u64 }
    }

    /// Whether the teacher is barely better than chance.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        self.is_constant() || (self.measured.top1 < 3.0 * self.chance && self.measured.top1 < 50.0)
    }

    /// Whether the teacher predicts one class for images of several classes.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.measured.answers == 1 && self.measured.classes > 1
    }
}

/// Evaluates the teacher; `None` without a teacher.
///
/// # Errors
/// [`heterodyne_nn::Error::Stopped`] as soon as `stop` is set.
pub fn teacher(s: &Session, stop: &AtomicBool) -> Result<Option<TeacherCheck>> {
    let (Some(teacher), Some((split, images))) = (&s.learner.teacher, &s.teacher_check) else { return Ok(None) };
    let measured = eval::evaluate_among(&s.world, teacher, images, s.own_stop(stop), |_| {}).map_err(|e| match e {
        Error::Plan(what) => Error::Plan(format!("the teacher cannot be used: {what}")),
        other => other,
    })?;
    Ok(Some(TeacherCheck { measured, split, chance: 100.0 / teacher.taps().classes as f64 }))
}

/// The teacher's predictions in its check, by position in the dataset.
#[must_use]
pub fn answers(s: &Session, check: &TeacherCheck) -> Option<Answers> {
    let (split, images) = s.teacher_check.as_ref()?;
    let of = images.indices().iter().copied().zip(check.measured.predictions.iter().copied()).collect();
    Some(Answers { split: (*split).to_owned(), of })
}
