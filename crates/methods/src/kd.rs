//! KD: distilling the knowledge in a neural network (Hinton, Vinyals and Dean 2015, arXiv 1503.02531).
//!
//! ```text
//! p = softmax(z/T)
//! L_kd = T^2 KL(p_t || p_s)          KL: sum over classes / B
//! ```
use heterodyne_nn::{
    Result, Scope, TapSpec, Terms,
    config::{KeyError, parse},
};
use serde::{Deserialize, Serialize};

use crate::{
    Context, Key, Method, MethodDef, Settings,
    parts::{
        divergence,
        keys::{self, positive},
        mode::exact,
        pair::check_classes,
    },
};

/// The registry's entry.
pub static METHOD: MethodDef = MethodDef {
    name: "kd",
    title: "Knowledge distillation",
    source: "Hinton, Vinyals and Dean 2015 (arXiv 1503.02531)",
    keys: &[Key {
        name: "temperature",
        default: "1.0",
        doc: "Softens both distributions, T. Third-party default: 1 in the heterogeneous protocol; the 32 px CIFAR protocol takes 4.",
    }],
    configure,
};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Kd {
    temperature: f64,
}

impl Default for Kd {
    fn default() -> Self {
        Self { temperature: 1.0 }
    }
}

fn configure(table: &toml::Table) -> Result<Box<dyn Settings>, KeyError> {
    let settings: Kd = parse(table)?;
    positive("temperature", settings.temperature)?;
    Ok(Box::new(settings))
}

impl Settings for Kd {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, _batch: usize) -> Result<()> {
        check_classes("kd", student, teacher)
    }

    fn build(&self, _scope: &Scope, student: &TapSpec, teacher: &TapSpec, _sample_classes: &[i64]) -> Result<Box<dyn Method>> {
        check_classes("kd", student, teacher)?;
        Ok(Box::new(*self))
    }

    fn compares_logits(&self) -> bool {
        true
    }

    fn resolved(&self) -> toml::Table {
        keys::table(self)
    }
}

impl Method for Kd {
    fn loss(&self, step: &Context) -> Result<Terms> {
        let (z_s, z_t) = (&step.student.logits, step.teacher.logits);
        let _exact = exact(z_s.device())?;
        let mut terms = Terms::default();
        terms.push("kd", 1.0, divergence::kd(z_t, z_s, self.temperature));
        Ok(terms)
    }
}
