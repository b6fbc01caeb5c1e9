//! BKD: each class of the teacher's distribution as a target of its own (Hao et al. 2023, arXiv 2310.19444, a baseline of OFA-KD).
//!
//! ```text
//! p_t = softmax(z_t)
//! L_bkd = mean over images and classes of  BCE( sigmoid(z_s), p_t ) = softplus(z_s) - p_t z_s
//! ```
use heterodyne_nn::{
    Result, Scope, TapSpec, Terms,
    config::{KeyError, parse},
};
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::{
    Context, Key, Method, MethodDef, Settings,
    parts::{
        keys,
        mode::{exact, float},
        pair::check_classes,
    },
};

/// The registry's entry.
pub static METHOD: MethodDef = MethodDef {
    name: "bkd",
    title: "Binary knowledge distillation",
    source: "baseline of OFA-KD, Hao et al. 2023 (arXiv 2310.19444)",
    keys: &[Key {
        name: "reduce",
        default: "\"mean\"",
        doc: "Over the classes: `mean` (PyTorch's default for this loss) or `sum`, which is C times as large. The choice is ours.",
    }],
    configure,
};

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Bkd {
    reduce: Reduce,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reduce {
    #[default]
    Mean,
    Sum,
}

fn configure(table: &toml::Table) -> Result<Box<dyn Settings>, KeyError> {
    Ok(Box::new(parse::<Bkd>(table)?))
}

impl Settings for Bkd {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, _batch: usize) -> Result<()> {
        check_classes("bkd", student, teacher)
    }

    fn build(&self, _scope: &Scope, student: &TapSpec, teacher: &TapSpec, _sample_classes: &[i64]) -> Result<Box<dyn Method>> {
        check_classes("bkd", student, teacher)?;
        Ok(Box::new(*self))
    }

    fn compares_logits(&self) -> bool {
        true
    }

    fn resolved(&self) -> toml::Table {
        keys::table(self)
    }
}

impl Method for Bkd {
    fn loss(&self, step: &Context) -> Result<Terms> {
        let (z_s, z_t) = (step.student.logits.shallow_clone(), step.teacher.logits.detach());
        let _exact = exact(z_s.device())?;
        let (z_s, p_t) = (float(&z_s), float(&z_t).softmax(-1, None::<Kind>));
        // softplus in a form that no logit overflows.
        let softplus = z_s.clamp_min(0.0) + (-z_s.abs()).exp().log1p();
        let loss = (softplus - p_t * &z_s).mean(None::<Kind>);
        let classes = z_s.size()[1] as f64;
        let mut terms = Terms::default();
        terms.push("kd", 1.0, if self.reduce == Reduce::Sum { loss * classes } else { loss });
        Ok(terms)
    }
}
