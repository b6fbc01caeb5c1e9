//! Evaluations during a run, and the weights that are written.
use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::atomic::AtomicBool,
};

use heterodyne_nn::file;
use heterodyne_run::{
    metrics::Eval,
    summary::{Agreement, ClassScore, Detail},
};
use heterodyne_shim::NoGrad;
use serde::{Deserialize, Serialize};

use super::{
    eval::{self, Measured},
    event::{Event, Observer},
};
use crate::{Error, Result, learner::Ema, network::values, session::Session};

/// A network's predictions for some images of a split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// `validation` or `test`.
    pub split: String,
    /// The predicted class by position in the dataset.
    pub of: BTreeMap<usize, i64>,
}

/// The progress of a run at an evaluation.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u32,
}

/// Evaluates on the held-out images, if there are any, then on the test images if `tested` is set. Uses the average of
/// the weights if there is one.
pub(super) fn splits(
    s: &Session,
    at: At,
    tested: bool,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Vec<(Eval, Measured)>> {
    let mut measure = || {
        let held_out = s.validation.iter().map(|loader| ("validation", loader));
        let all = held_out.chain(tested.then_some(("test", &s.test)));
        all.map(|(split, loader)| {
            let each = |done| observer.on(&Event::Evaluating { done });
            let m = eval::evaluate_among(&s.world, &s.learner.student, loader, s.own_stop(stop), each).map_err(
                |e| match e {
                    Error::Plan(flaw) => Error::Diverged { step: at.step, flaw },
                    other => other,
                },
            )?;
            let eval = Eval {
                step: at.step,
                epoch: f64::from(at.epoch),
                split: split.to_owned(),
                weights: if s.learner.ema.is_some() { "ema" } else { "live" }.to_owned(),
                top1: m.top1,
                top5: m.top5,
                loss: m.loss,
                images: m.images as u64,
                seconds: m.seconds,
            };
            Ok((eval, m))
        })
        .collect()
    };
    match &s.learner.ema {
        Some(ema) => ema.swapped(&mut measure),
        None => measure(),
    }
}

/// Gives all processes rank 0's running statistics: those of local batch norms differ, and an evaluation that is shared
/// must use the same.
///
/// # Errors
/// Another process cannot be reached.
pub(super) fn share_buffers(s: &Session) -> Result<()> {
    if s.world.is_alone() {
        return Ok(());
    }
    let student = &s.learner.student.store;
    let trained: HashSet<String> = student.parameters().into_iter().map(|(name, ..)| name).collect();
    let average = s.learner.ema.iter().map(Ema::tensors);
    let all = std::iter::once(student.tensors()).chain(average).flatten();
    let _constant = NoGrad::new();
    s.world.broadcast(&all.filter(|(name, _)| !trained.contains(name)).map(|(_, t)| t).collect::<Vec<_>>())
}

/// What the evaluation shows besides its accuracy; `teacher` are the teacher's predictions.
pub(super) fn detail(s: &Session, (eval, m): &(Eval, Measured), teacher: Option<&Answers>) -> Detail {
    let names = &s.card.class_names;
    let class = |number: usize| names.get(number).cloned().unwrap_or_else(|| number.to_string());
    let scores = m.per_class.iter().enumerate();
    let loader = if eval.split == "test" { Some(&s.test) } else { s.validation.as_ref() };
    let own = || loader.into_iter().flat_map(|loader| loader.indices().iter().zip(&m.predictions));
    let agreement = teacher.filter(|teacher| teacher.split == eval.split).map(|teacher| {
        let same = own().filter(|(index, answer)| teacher.of.get(*index) == Some(*answer)).count();
        let images = teacher.of.len();
        Agreement { images: images as u64, percent: 100.0 * same as f64 / images.max(1) as f64 }
    });
    Detail {
        split: eval.split.clone(),
        calibration_error: m.calibration_error,
        classes: scores.map(|(c, &(images, correct))| ClassScore { class: class(c), images, correct }).collect(),
        agreement,
    }
}

/// Writes the student's weights, or their `average`.
///
/// # Errors
/// The weights have diverged, or the file cannot be written.
pub(super) fn write_weights(s: &Session, path: &Path, step: u64, average: bool) -> Result<()> {
    let tensors = match &s.learner.ema {
        Some(ema) if average => ema.tensors(),
        _ => s.learner.student.store.tensors(),
    };
    if let Some(flaw) = values::flaw(&tensors)? {
        return Err(Error::Diverged { step, flaw });
    }
    Ok(file::write(path, tensors.iter().map(|(name, t)| (name.as_str(), t)), s.card.metadata()?)?)
}
