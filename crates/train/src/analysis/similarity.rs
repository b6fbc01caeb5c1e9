//! How similar the features of a run's two networks are, stage by stage, and how their energy is distributed over
//! frequencies: the papers' argument for comparing low frequencies, measured on your own run.
use heterodyne_nn::{FeatureMap, Pass, StageKind};
use heterodyne_run::similarity::{self, Similarity};
use tch::Tensor;

use super::{
    cka::{Cka, LEAST_BATCH},
    energy::Energy,
};
use crate::{Error, Result, error::guarded, network::Network, session::Session};

/// Runs both networks over `images` test images, spread evenly, in minibatches of `batch`; an incomplete last minibatch
/// is dropped. `weights` names the student's weights; `each` receives the number of images done.
pub fn compare(s: &Session, images: usize, batch: usize, weights: &str, each: impl FnMut(usize)) -> Result<Similarity> {
    let teacher = s.learner.teacher.as_ref();
    let teacher = teacher.ok_or_else(|| {
        Error::Plan("the run has no teacher, so there is nothing to compare its features with".to_owned())
    })?;
    for net in [teacher, &s.learner.student] {
        if net.taps().stages.is_empty() {
            return Err(Error::Plan(format!(
                "{} has no stages, only logits: there are no features to compare",
                net.name
            )));
        }
    }
    guarded("comparing features", || measure(s, teacher, images, batch, weights, each))
}

fn measure(
    s: &Session,
    teacher: &Network,
    images: usize,
    batch: usize,
    weights: &str,
    mut each: impl FnMut(usize),
) -> Result<Similarity> {
    let student = &s.learner.student;
    let loader = s.test.spread(images, batch);
    let batch = batch.min(loader.len());
    if batch < LEAST_BATCH {
        return Err(Error::Plan(format!(
            "comparing features needs at least {LEAST_BATCH} images, but there are {batch}"
        )));
    }
    let num_teacher = teacher.taps().stages.len();
    let mut cka = Cka::default();
    let mut energies: Vec<Energy> = (0..num_teacher + student.taps().stages.len()).map(|_| Energy::default()).collect();
    let mut done = 0;
    for loaded in loader.iter() {
        let loaded = loaded?;
        if loaded.indices.len() < batch {
            break;
        }
        let x = loaded.images.to_device(student.device());
        let (t, s) = (teacher.infer(&x, Pass::TEACH)?, student.infer(&x, Pass::TEACH)?);
        let maps: Vec<Tensor> = t.stages.iter().chain(&s.stages).map(FeatureMap::to_map).collect();
        for (energy, map) in energies.iter_mut().zip(&maps) {
            energy.add(map)?;
        }
        cka.add(&maps)?;
        done += batch;
        each(done);
    }
    let all = cka.values()?;
    let block = |rows: &[Vec<Option<f64>>], from: usize| rows.iter().map(|row| row[from..].to_vec()).collect();
    let own = |rows: &[Vec<Option<f64>>], to: usize| rows.iter().map(|row| row[..to].to_vec()).collect();
    let (of_teacher, of_student) = energies.split_at(num_teacher);
    Ok(Similarity {
        weights: weights.to_owned(),
        images: done,
        batch,
        teacher: side(teacher, of_teacher)?,
        student: side(student, of_student)?,
        cka: similarity::Cka {
            teacher_student: block(&all[..num_teacher], num_teacher),
            teacher: own(&all[..num_teacher], num_teacher),
            student: block(&all[num_teacher..], num_teacher),
        },
    })
}

fn side(net: &Network, energies: &[Energy]) -> Result<similarity::Side> {
    let stages = net.taps().stages.iter().zip(energies).map(|(spec, energy)| {
        let kind = if spec.kind == StageKind::Map { "map" } else { "tokens" };
        let grid = [spec.grid.0, spec.grid.1];
        Ok(similarity::Stage { kind: kind.to_owned(), channels: spec.channels, grid, energy: energy.shares()? })
    });
    Ok(similarity::Side { model: net.name.clone(), stages: stages.collect::<Result<_>>()? })
}
