//! CC: correlation congruence (Peng et al. 2019, arXiv 1904.01802, equations 5 to 9), on embeddings of equal width.
//!
//! ```text
//! e = W f + b                                                                 (B,D)   f_s and f_t each through a linear map of its own
//! kernel:      K(i,j) = sum_{p=0..P} exp(-2g) (2g)^p / p! (e_i . e_j)^p               e normalised; Gaussian kernel, Taylor order P
//!              L_cc   = mean over i, j of ( K_s(i,j) - K_t(i,j) )^2
//! neighbours:  L_cc   = mean over i of sum_d  d_i d_{i+1}                             d_i = |e_s - e_t| of image i
//! ```
//! The kernel is the paper's; `neighbours` is what RepDistiller computes and what the weight 0.02 belongs to.
use heterodyne_nn::{
    Output, Result, Scope, TapSpec, Terms,
    config::{KeyError, parse},
    layers::Linear,
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

use crate::{
    Context, Key, Method, MethodDef, Settings, Signal,
    parts::{
        keys::{self, count, positive},
        mode::{exact, part_input},
        pair::{check_batch, embedding, embedding_signal, embeddings, observe_embedding, signal},
        vectors::unit,
    },
};

/// The registry's entry.
pub static METHOD: MethodDef = MethodDef {
    name: "cc",
    title: "Correlation congruence",
    source: "Peng et al. 2019 (arXiv 1904.01802)",
    keys: &[
        Key { name: "dim", default: "128", doc: "Width of both embeddings, D; third-party default." },
        Key {
            name: "form",
            default: "\"kernel\"",
            doc: "\"kernel\" compares the Gaussian correlations of all pairs of a batch (published), \"neighbours\" multiplies the differences of \
                  consecutive images (third-party, RepDistiller).",
        },
        Key { name: "gamma", default: "0.4", doc: "Width of the Gaussian, g; third-party default." },
        Key { name: "order", default: "2", doc: "Order of the Taylor series, P; third-party default." },
    ],
    configure,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    Kernel,
    Neighbours,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Cc {
    dim: i64,
    form: Form,
    gamma: f64,
    order: i64,
}

impl Default for Cc {
    fn default() -> Self {
        Self { dim: 128, form: Form::Kernel, gamma: 0.4, order: 2 }
    }
}

fn configure(table: &toml::Table) -> Result<Box<dyn Settings>, KeyError> {
    let settings: Cc = parse(table)?;
    count("dim", settings.dim)?;
    positive("gamma", settings.gamma)?;
    keys::between("order", settings.order as f64, 1.0, 20.0)?;
    Ok(Box::new(settings))
}

impl Settings for Cc {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        embeddings("cc", student, teacher)?;
        check_batch("cc", batch)
    }

    fn build(&self, scope: &Scope, student: &TapSpec, teacher: &TapSpec, _sample_classes: &[i64]) -> Result<Box<dyn Method>> {
        let (d_s, d_t) = embeddings("cc", student, teacher)?;
        Ok(Box::new(Built {
            settings: *self,
            student: Linear::new(&scope.sub("student"), d_s, self.dim)?,
            teacher: Linear::new(&scope.sub("teacher"), d_t, self.dim)?,
            width: d_t,
            kind: scope.kind(),
        }))
    }

    fn resolved(&self) -> toml::Table {
        keys::table(self)
    }
}

struct Built {
    settings: Cc,
    student: Linear,
    teacher: Linear,
    /// Of the teacher's embedding.
    width: i64,
    kind: Kind,
}

/// K(i,j) of all pairs (B,B).
fn correlations(e_bd: &Tensor, gamma: f64, order: i64) -> Tensor {
    let e_bd = unit(e_bd);
    let product_bb = e_bd.matmul(&e_bd.transpose(0, 1));
    // Horner's rule: 1 + x(1 + x/2(1 + x/3(..))), x = 2g e_i.e_j.
    let x_bb = product_bb * (2.0 * gamma);
    (1..=order).rev().fold(x_bb.ones_like(), |sum, p| 1.0 + &x_bb / p as f64 * sum) * (-2.0 * gamma).exp()
}

impl Method for Built {
    fn signals(&self) -> Vec<Signal> {
        vec![embedding_signal(self.width)]
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        Ok(vec![observe_embedding(teacher, self.kind)?])
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let Cc { form, gamma, order, .. } = self.settings;
        let e_s = self.student.forward(&part_input(embedding(step.student, "student")?, self.kind)?);
        let e_t = self.teacher.forward(&part_input(&signal(step.teacher, 0, self.kind)?, self.kind)?);
        let _exact = exact(e_s.device())?;
        let (e_s, e_t) = (e_s.to_kind(self.kind), e_t.to_kind(self.kind));
        let value = match form {
            Form::Kernel => correlations(&e_s, gamma, order).mse_loss(&correlations(&e_t, gamma, order), Reduction::Mean),
            Form::Neighbours => {
                let d_bd = (e_s - e_t).abs();
                let rest = d_bd.size()[0] - 1;
                (d_bd.narrow(0, 0, rest) * d_bd.narrow(0, 1, rest)).sum(None::<Kind>) / rest as f64
            }
        };
        let mut terms = Terms::default();
        terms.push("cc", 1.0, value);
        Ok(terms)
    }
}
