//! DKD: decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679, equations 5 to 7).
//!
//! ```text
//! p = softmax(z/T),  b = [ p_y , 1 - p_y ],  q = softmax(z_k/T) over the classes k != y
//! tckd = T^2 KL( b_t || b_s )          the target class against the rest
//! nckd = T^2 KL( q_t || q_s )          the rest among themselves
//! L_dkd = alpha tckd + beta nckd       KL: sum over classes / B
//! ```
//! Of a mixed label, y is the class with the largest share; this is ours.
use heterodyne_nn::{
    Error, Result, Scope, TapSpec, Terms,
    config::{KeyError, parse},
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    Context, Key, Method, MethodDef, Settings,
    parts::{
        divergence::kd,
        keys::{self, positive},
        mode::{exact, float},
        pair::check_classes,
    },
};

/// The registry's entry.
pub static METHOD: MethodDef = MethodDef {
    name: "dkd",
    title: "Decoupled knowledge distillation",
    source: "Zhao et al. 2022 (arXiv 2203.08679)",
    keys: &[
        Key { name: "alpha", default: "1.0", doc: "Weight of the target class's part; published." },
        Key { name: "beta", default: "2.0", doc: "Weight of the other classes' part. Third-party default: 2 in the heterogeneous protocol; the 32 px CIFAR protocol takes 8." },
        Key { name: "temperature", default: "1.0", doc: "Softens both distributions, T. Third-party default: 1 in the heterogeneous protocol; the 32 px CIFAR protocol takes 4." },
    ],
    configure,
};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Dkd {
    alpha: f64,
    beta: f64,
    temperature: f64,
}

impl Default for Dkd {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 2.0, temperature: 1.0 }
    }
}

fn configure(table: &toml::Table) -> Result<Box<dyn Settings>, KeyError> {
    let settings: Dkd = parse(table)?;
    keys::weights(&[("alpha", settings.alpha), ("beta", settings.beta)])?;
    positive("temperature", settings.temperature)?;
    Ok(Box::new(settings))
}

impl Settings for Dkd {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, _batch: usize) -> Result<()> {
        check_classes("dkd", student, teacher)?;
        if student.classes < 3 {
            return Err(Error::invalid(
                "dkd compares the classes other than the target among themselves, and of 2 classes only one is left: take kd, which is the \
                 same there",
            ));
        }
        Ok(())
    }

    fn build(&self, _scope: &Scope, student: &TapSpec, teacher: &TapSpec, _sample_classes: &[i64]) -> Result<Box<dyn Method>> {
        self.check(student, teacher, 1)?;
        Ok(Box::new(*self))
    }

    fn compares_logits(&self) -> bool {
        true
    }

    fn resolved(&self) -> toml::Table {
        keys::table(self)
    }
}

impl Method for Dkd {
    fn loss(&self, step: &Context) -> Result<Terms> {
        let (z_s, z_t) = (step.student.logits.shallow_clone(), step.teacher.logits.detach());
        let _exact = exact(z_s.device())?;
        let y_b1 = step.labels.index().unsqueeze(1);
        let [s, t] = [z_s, z_t].map(|z| Decoupled::of(&(float(&z) / self.temperature), &y_b1));
        let mut terms = Terms::default();
        // Two classes' logarithms are logits of their distribution.
        if self.alpha > 0.0 {
            terms.push("tckd", self.alpha, kd(&t.log_b_b2, &s.log_b_b2, 1.0) * self.temperature.powi(2));
        }
        if self.beta > 0.0 {
            terms.push("nckd", self.beta, kd(&t.others, &s.others, 1.0) * self.temperature.powi(2));
        }
        Ok(terms)
    }
}

/// Logits taken apart by the target.
struct Decoupled {
    /// log [p_y, 1 - p_y] (B,2)
    log_b_b2: Tensor,
    /// The logits of all other classes (B,C-1).
    others: Tensor,
}

impl Decoupled {
    fn of(z_bc: &Tensor, y_b1: &Tensor) -> Self {
        let j = Tensor::arange(z_bc.size()[1] - 1, (Kind::Int64, z_bc.device())).unsqueeze(0);
        // The classes before the target keep their place, those behind it move up.
        let others = z_bc.gather(1, &(&j + j.ge_tensor(y_b1).to_kind(Kind::Int64)), false);
        let all_b1 = z_bc.logsumexp([1i64].as_slice(), true);
        let target = z_bc.gather(1, y_b1, false) - &all_b1;
        let rest = others.logsumexp([1i64].as_slice(), true) - &all_b1;
        Self { log_b_b2: Tensor::cat(&[target, rest], 1), others }
    }
}
