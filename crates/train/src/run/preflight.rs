//! A look at the teacher before anything is trained: most failed distillations begin with a teacher that does not know
//! the data as it is presented to it.
use std::sync::atomic::AtomicBool;

use super::eval::{self, Measured};
use crate::{Error, Result, session::Session};

/// What the check found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TeacherCheck {
    /// The teacher on test images (held-out ones, where those are to be left alone) at equal distances, shown to it as
    /// its own evaluation has them.
    pub measured: Measured,
    /// Accuracy of guessing, in percent.
    pub chance: f64,
}

impl TeacherCheck {
    /// Whether the teacher is hardly better than guessing.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        self.is_constant() || (self.measured.top1 < 3.0 * self.chance && self.measured.top1 < 50.0)
    }

    /// Whether it gives the same answer to images of several classes.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.measured.answers == 1 && self.measured.classes > 1
    }
}

/// Measures the teacher; `None` without one.
///
/// # Errors
/// [`heterodyne_nn::Error::Stopped`] as soon as `stop` is set.
pub fn teacher(s: &Session, stop: &AtomicBool) -> Result<Option<TeacherCheck>> {
    let (Some(teacher), Some(images)) = (&s.learner.teacher, &s.teacher_check) else { return Ok(None) };
    let measured = eval::evaluate_until(teacher, images, stop, |_| {}).map_err(|e| match e {
        Error::Plan(what) => Error::Plan(format!("the teacher cannot teach: {what}")),
        other => other,
    })?;
    Ok(Some(TeacherCheck { measured, chance: 100.0 / teacher.taps().classes as f64 }))
}
