//! Hard-label distillation of DeiT (Touvron et al. 2021, arXiv 2012.12877, equation 3).
//!
//! ```text
//! L_hard = CE( z_s , argmax z_t )
//! ```
//! DeiT gives the teacher's decision to a token of its own; here the student's logits learn it, whatever the student is. With
//! `loss.ce = 0.5` and `weight = 0.5` this is the paper's sum.
use heterodyne_nn::{
    Labels, Result, Scope, TapSpec, Terms,
    config::{KeyError, parse},
};
use serde::{Deserialize, Serialize};

use crate::{
    Context, Key, Method, MethodDef, Settings,
    parts::{
        keys::{self, between},
        mode::exact,
        pair::check_classes,
    },
};

/// The registry's entry.
pub static METHOD: MethodDef = MethodDef {
    name: "hard",
    title: "Hard-label distillation",
    source: "DeiT, Touvron et al. 2021 (arXiv 2012.12877)",
    keys: &[Key {
        name: "smoothing",
        default: "0.0",
        doc: "Label smoothing of the teacher's decision; published: 0 (the paper smooths the true labels only).",
    }],
    configure,
};

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Hard {
    smoothing: f64,
}

fn configure(table: &toml::Table) -> Result<Box<dyn Settings>, KeyError> {
    let settings: Hard = parse(table)?;
    between("smoothing", settings.smoothing, 0.0, 0.999)?;
    Ok(Box::new(settings))
}

impl Settings for Hard {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, _batch: usize) -> Result<()> {
        check_classes("hard", student, teacher)
    }

    fn build(&self, _scope: &Scope, student: &TapSpec, teacher: &TapSpec, _sample_classes: &[i64]) -> Result<Box<dyn Method>> {
        check_classes("hard", student, teacher)?;
        Ok(Box::new(*self))
    }

    fn resolved(&self) -> toml::Table {
        keys::table(self)
    }
}

impl Method for Hard {
    fn loss(&self, step: &Context) -> Result<Terms> {
        let z_s = &step.student.logits;
        let _exact = exact(z_s.device())?;
        let decided = Labels::Hard(step.teacher.logits.argmax(-1, false));
        let mut terms = Terms::default();
        terms.push("hard", 1.0, decided.cross_entropy(z_s, self.smoothing));
        Ok(terms)
    }
}
