//! A look at the teacher before anything is trained: most failed distillations begin with a teacher that does not know
//! the data as it is presented to it.
use std::sync::{Arc, atomic::AtomicBool};

use heterodyne_data::{Dataset, EvalLoader};
use heterodyne_nn::InputSpec;

use crate::{Error, Result, eval, eval::Measured, session::Session};

/// Images that the check looks at, at most.
pub const IMAGES: usize = 512;

/// Images per step.
const BATCH: usize = 64;

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

/// Up to [`IMAGES`] of the samples `indices` at equal distances, so that those of a folder, which lie class by class,
/// are of all classes.
pub fn look(images: &Arc<dyn Dataset>, indices: Vec<usize>, spec: InputSpec, workers: usize) -> Result<EvalLoader> {
    Ok(EvalLoader::new(Arc::clone(images), indices, BATCH, spec, workers)?.spread(IMAGES, BATCH))
}

/// Measures the teacher; `None` without one.
///
/// # Errors
/// [`heterodyne_nn::Error::Stopped`] as soon as `stop` is set.
pub fn teacher(s: &Session, stop: &AtomicBool) -> Result<Option<TeacherCheck>> {
    let (Some(teacher), Some(look)) = (&s.pair.teacher, &s.look) else { return Ok(None) };
    let measured = eval::evaluate_until(teacher, look, stop, |_| {}).map_err(|e| match e {
        Error::Plan(what) => Error::Plan(format!("the teacher cannot teach: {what}")),
        other => other,
    })?;
    Ok(Some(TeacherCheck { measured, chance: 100.0 / teacher.taps().classes as f64 }))
}
