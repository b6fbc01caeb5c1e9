//! RSD: cross-architecture distillation by suppressing redundancy (Zhang et al. 2025, arXiv 2507.21844), as the authors' code has it.
//!
//! ```text
//! e_s   = W_2 GELU( BN( W_1 f_s ) )                          (B, d_t)     learnable; 2 d_s hidden, no biases
//! S, T  = e_s and f_t, each dimension standardised over the batch          population deviation
//! R     = T^T S / B                                          (d_t, d_t)
//! L_rsd = sum_i (R_ii - 1)^2 + kappa sum_{i != j} R_ij^2
//! ```
//! The usual weight is 0.1, beside the cross-entropy alone. Where several processes train together, the batch is all of theirs.
use heterodyne_nn::{
    Init, Output, Result, Scope, TapSpec, Terms,
    config::{KeyError, parse},
    layers::{BatchNorm2d, Linear},
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    Context, Key, Method, MethodDef, Settings, Signal,
    parts::{
        keys::{self, non_negative},
        mode::{exact, part_input, training},
        pair::{check_batch, embedding, embedding_signal, embeddings, observe_embedding, signal},
    },
};

/// The registry's entry.
pub static METHOD: MethodDef = MethodDef {
    name: "rsd",
    title: "Redundancy-suppressing distillation",
    source: "Zhang et al. 2025 (arXiv 2507.21844)",
    keys: &[Key {
        name: "kappa",
        default: "0.01",
        doc: "Weight of the correlations between different dimensions beside that of each dimension with itself; published.",
    }],
    configure,
};

/// Added to a variance: a dimension that is the same for all images then gives 0 and a finite gradient.
const EPS: f64 = 1e-10;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rsd {
    kappa: f64,
}

impl Default for Rsd {
    fn default() -> Self {
        Self { kappa: 0.01 }
    }
}

fn configure(table: &toml::Table) -> Result<Box<dyn Settings>, KeyError> {
    let settings: Rsd = parse(table)?;
    non_negative("kappa", settings.kappa)?;
    Ok(Box::new(settings))
}

impl Settings for Rsd {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        embeddings("rsd", student, teacher)?;
        check_batch("rsd", batch)
    }

    fn build(&self, scope: &Scope, student: &TapSpec, teacher: &TapSpec, _sample_classes: &[i64]) -> Result<Box<dyn Method>> {
        let (d_s, d_t) = embeddings("rsd", student, teacher)?;
        Ok(Box::new(Built {
            settings: *self,
            hidden: Linear::with(&scope.sub("hidden"), d_s, 2 * d_s, Init::TorchDefault, None)?,
            norm: BatchNorm2d::new(&scope.sub("norm"), 2 * d_s)?,
            project: Linear::with(&scope.sub("project"), 2 * d_s, d_t, Init::TorchDefault, None)?,
            width: d_t,
            kind: scope.kind(),
        }))
    }

    fn resolved(&self) -> toml::Table {
        keys::table(self)
    }
}

struct Built {
    settings: Rsd,
    hidden: Linear,
    norm: BatchNorm2d,
    project: Linear,
    /// d_t
    width: i64,
    kind: Kind,
}

/// Each column of (B,D) with mean 0 and variance 1.
fn standardised(e_bd: &Tensor) -> Tensor {
    let centred = e_bd - e_bd.mean_dim([0i64].as_slice(), true, None::<Kind>);
    let variance = centred.square().mean_dim([0i64].as_slice(), true, None::<Kind>);
    centred * (variance + EPS).rsqrt()
}

impl Method for Built {
    fn signals(&self) -> Vec<Signal> {
        vec![embedding_signal(self.width)]
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        Ok(vec![observe_embedding(teacher, self.kind)?])
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let f_s = part_input(embedding(step.student, "student")?, self.kind)?;
        let e_s = self.project.forward(&self.norm.forward(&self.hidden.forward(&f_s), training()).gelu("none"));
        let _exact = exact(e_s.device())?;
        let all = |x: &Tensor| step.ranks.gather(x);
        let (s, t) = (standardised(&all(&e_s.to_kind(self.kind))?), standardised(&all(&signal(step.teacher, 0, self.kind)?)?));
        let r_dd = t.transpose(0, 1).matmul(&s) / s.size()[0] as f64;
        let own = r_dd.diagonal(0, 0, 1);
        let others = r_dd.square().sum(None::<Kind>) - own.square().sum(None::<Kind>);
        let mut terms = Terms::default();
        terms.push("rsd", 1.0, (own - 1.0).square().sum(None::<Kind>) + others * self.settings.kappa);
        Ok(terms)
    }
}
