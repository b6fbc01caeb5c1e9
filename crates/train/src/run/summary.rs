//! The result of a run.
use heterodyne_run::summary::{Status, Summary};

use super::checkpoint::Position;
use crate::{Result, device, session::Session};

/// The summary of a run that ended with `outcome` at `position`.
pub(super) fn summarise(s: &Session, position: &Position, outcome: &Result<Status>) -> Summary {
    let recipe = &s.plan.recipe;
    let (status, error) = match outcome {
        Ok(status) => (*status, None),
        Err(e) => (Status::Failed, Some(e.to_string())),
    };
    Summary {
        name: recipe.name.clone(),
        command: s.plan.mode.name().to_owned(),
        status,
        error,
        student: recipe.student.model.clone(),
        teacher: s.learner.teacher.as_ref().map(|t| t.name.clone()),
        teacher_score: position.teacher.clone(),
        methods: s.plan.methods.iter().map(|m| m.name.clone()).collect(),
        seed: recipe.seed,
        epochs: position.epoch,
        steps: position.step,
        parameters: s.learner.student.store.num_parameters() as u64,
        train_images: s.train_images as u64,
        last: position.last.clone(),
        detail: position.detail.clone(),
        best: position.best.clone(),
        selected_on: if s.validation.is_some() { "validation" } else { "test" }.to_owned(),
        seconds: position.seconds,
        images_per_second: position.images as f64 / position.seconds.max(1e-9),
        device: device::name(s.learner.device()).to_owned(),
        precision: recipe.train.precision.map_or_else(String::new, |precision| precision.name().to_owned()),
        metrics: None,
        versions: crate::versions(),
        machine: Some(device::machine(s.learner.device())),
    }
}
