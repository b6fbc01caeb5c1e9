//! PKT: learning deep representations with probabilistic knowledge transfer (Passalis and Tefas 2018, arXiv 1803.10837, equations 3 to 8).
//!
//! ```text
//! k(i,j) = ( cos(e_i, e_j) + 1 ) / 2,   p(j|i) = k(i,j) / sum_j k(i,j)          embeddings e of the images of a batch
//! L_pkt  = mean over i, j of  p_t log( p_t / p_s )                              the form of RepDistiller, with weight 30000
//! ```
use heterodyne_nn::{
    Output, Result, Scope, TapSpec, Terms,
    config::{KeyError, parse},
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    Context, Key, Method, MethodDef, Settings, Signal,
    parts::{
        keys::{self, positive},
        mode::exact,
        pair::{check_batch, embedding, embedding_signal, embeddings, observe_embedding, signal},
    },
};

/// The registry's entry.
pub static METHOD: MethodDef = MethodDef {
    name: "pkt",
    title: "Probabilistic knowledge transfer",
    source: "Passalis and Tefas 2018 (arXiv 1803.10837)",
    keys: &[Key { name: "eps", default: "1e-7", doc: "Added to both probabilities in the logarithm, and to the norms; third-party default." }],
    configure,
};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Pkt {
    eps: f64,
}

impl Default for Pkt {
    fn default() -> Self {
        Self { eps: 1e-7 }
    }
}

fn configure(table: &toml::Table) -> Result<Box<dyn Settings>, KeyError> {
    let settings: Pkt = parse(table)?;
    positive("eps", settings.eps)?;
    Ok(Box::new(settings))
}

impl Settings for Pkt {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        embeddings("pkt", student, teacher)?;
        check_batch("pkt", batch)
    }

    fn build(&self, scope: &Scope, student: &TapSpec, teacher: &TapSpec, _sample_classes: &[i64]) -> Result<Box<dyn Method>> {
        let (_, width) = embeddings("pkt", student, teacher)?;
        Ok(Box::new(Built { eps: self.eps, width, kind: scope.kind() }))
    }

    fn resolved(&self) -> toml::Table {
        keys::table(self)
    }
}

struct Built {
    eps: f64,
    /// Of the teacher's embedding.
    width: i64,
    kind: Kind,
}

impl Built {
    /// p (B,B) of embeddings (B,D).
    fn probabilities(&self, e_bd: &Tensor) -> Tensor {
        let sum = |x: &Tensor| x.sum_dim_intlist([1i64].as_slice(), true, None::<Kind>);
        let unit = e_bd / ((sum(&e_bd.square()) + self.eps * self.eps).sqrt() + self.eps);
        let k = (unit.mm(&unit.tr()) + 1.0) / 2.0;
        &k / sum(&k)
    }
}

impl Method for Built {
    fn signals(&self) -> Vec<Signal> {
        vec![embedding_signal(self.width)]
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        Ok(vec![observe_embedding(teacher, self.kind)?])
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let _exact = exact(step.student.logits.device())?;
        let p_s = self.probabilities(&embedding(step.student, "student")?.to_kind(self.kind));
        let p_t = self.probabilities(&signal(step.teacher, 0, self.kind)?);
        let loss = (&p_t * ((&p_t + self.eps).log() - (p_s + self.eps).log())).mean(None::<Kind>);
        let mut terms = Terms::default();
        terms.push("similarity", 1.0, loss);
        Ok(terms)
    }
}
