//! A look at the teacher before anything is trained: most failed distillations begin with a teacher that does not know the data
//! as it is presented to it.
use std::sync::atomic::AtomicBool;

use crate::{Error, Result, eval, eval::Measured, session::Session};

/// Images that the check looks at, at most.
pub const IMAGES: usize = 512;

/// What the check found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TeacherCheck {
    /// The teacher on the first test images.
    pub measured: Measured,
    /// Accuracy of guessing, in percent.
    pub chance: f64,
}

impl TeacherCheck {
    /// Whether the teacher is hardly better than guessing.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        self.measured.top1 < 3.0 * self.chance && self.measured.top1 < 50.0
    }
}

/// Measures the teacher on the first [`IMAGES`] test images; `None` without a teacher.
///
/// # Errors
/// [`heterodyne_nn::Error::Stopped`] as soon as `stop` is set.
pub fn teacher(s: &Session, stop: &AtomicBool) -> Result<Option<TeacherCheck>> {
    let Some(teacher) = &s.pair.teacher else { return Ok(None) };
    let measured = eval::evaluate_until(teacher, &s.test.first(IMAGES), stop, |_| {}).map_err(|e| match e {
        Error::Plan(what) => Error::Plan(format!("the teacher cannot teach: {what}")),
        other => other,
    })?;
    Ok(Some(TeacherCheck { measured, chance: 100.0 / teacher.taps().classes as f64 }))
}
