//! RKD: relational knowledge distillation (Park et al. 2019, arXiv 1904.05068, equations 4 to 9), on the pooled embeddings.
//!
//! ```text
//! psi_D(i,j)   = |e_i - e_j| / mean of the non-zero distances
//! psi_A(i,j,k) = < (e_i - e_j)/|e_i - e_j| , (e_k - e_j)/|e_k - e_j| >
//! L_rkd = distance * mean of huber( psi_D^s - psi_D^t ) + angle * mean of huber( psi_A^s - psi_A^t )      huber: smooth L1, threshold 1
//! ```
//! Means run over all pairs and triples, those of an image with itself included, as in the authors' code.
use heterodyne_nn::{
    Output, Result, Scope, TapSpec, Terms,
    config::{KeyError, parse},
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

use crate::{
    Context, Key, Method, MethodDef, Settings, Signal,
    parts::{
        keys,
        mode::exact,
        pair::{check_batch, embedding, embedding_signal, embeddings, observe_embedding, signal},
    },
};

/// The registry's entry.
pub static METHOD: MethodDef = MethodDef {
    name: "rkd",
    title: "Relational knowledge distillation",
    source: "Park et al. 2019 (arXiv 1904.05068)",
    keys: &[
        Key { name: "distance", default: "25.0", doc: "Weight of the distances; published." },
        Key { name: "angle", default: "50.0", doc: "Weight of the angles; published." },
    ],
    configure,
};

/// Distances below the root of this are those of an image to itself.
const EPS: f64 = 1e-12;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rkd {
    distance: f64,
    angle: f64,
}

impl Default for Rkd {
    fn default() -> Self {
        Self { distance: 25.0, angle: 50.0 }
    }
}

fn configure(table: &toml::Table) -> Result<Box<dyn Settings>, KeyError> {
    let settings: Rkd = parse(table)?;
    keys::weights(&[("distance", settings.distance), ("angle", settings.angle)])?;
    Ok(Box::new(settings))
}

impl Settings for Rkd {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        embeddings("rkd", student, teacher)?;
        check_batch("rkd", batch)
    }

    fn build(&self, scope: &Scope, student: &TapSpec, teacher: &TapSpec, _sample_classes: &[i64]) -> Result<Box<dyn Method>> {
        let (_, width) = embeddings("rkd", student, teacher)?;
        Ok(Box::new(Built { settings: *self, width, kind: scope.kind() }))
    }

    fn resolved(&self) -> toml::Table {
        keys::table(self)
    }
}

struct Built {
    settings: Rkd,
    /// Of the teacher's embedding.
    width: i64,
    kind: Kind,
}

/// Differences between all images of a batch: e_i - e_j (B,B,D), and their lengths (B,B).
fn differences(e_bd: &Tensor) -> (Tensor, Tensor) {
    let d_bbd = e_bd.unsqueeze(1) - e_bd.unsqueeze(0);
    let length_bb = (d_bbd.square().sum_dim_intlist([2i64].as_slice(), false, None::<Kind>) + EPS).sqrt();
    (d_bbd, length_bb)
}

/// Distances in units of their mean (B,B).
fn distances(length_bb: &Tensor) -> Tensor {
    let apart = length_bb.gt(2.0 * EPS.sqrt()).to_kind(length_bb.kind());
    let mean = (length_bb * &apart).sum(None::<Kind>) / apart.sum(None::<Kind>).clamp_min(1.0);
    length_bb / mean.clamp_min(EPS.sqrt())
}

/// The cosine of the angle at image j between i and k (B,B,B).
fn angles(d_bbd: &Tensor, length_bb: &Tensor) -> Tensor {
    let unit = (d_bbd / length_bb.unsqueeze(2)).transpose(0, 1);
    unit.bmm(&unit.transpose(1, 2))
}

impl Method for Built {
    fn signals(&self) -> Vec<Signal> {
        vec![embedding_signal(self.width)]
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        Ok(vec![observe_embedding(teacher, self.kind)?])
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let Rkd { distance, angle } = self.settings;
        let _exact = exact(step.student.logits.device())?;
        let e_s = embedding(step.student, "student")?.to_kind(self.kind);
        let e_t = signal(step.teacher, 0, self.kind)?;
        let ((d_s, length_s), (d_t, length_t)) = (differences(&e_s), differences(&e_t));
        let huber = |s: Tensor, t: Tensor| s.smooth_l1_loss(&t, Reduction::Mean, 1.0);
        let mut terms = Terms::default();
        if distance > 0.0 {
            terms.push("distance", distance, huber(distances(&length_s), distances(&length_t)));
        }
        if angle > 0.0 {
            terms.push("angle", angle, huber(angles(&d_s, &length_s), angles(&d_t, &length_t)));
        }
        Ok(terms)
    }
}
