//! DIST: knowledge distillation from a stronger teacher (Huang et al. 2022, arXiv 2205.10536, equations 7 to 10).
//!
//! ```text
//! P = softmax(z/tau)                                     (B,C)
//! inter = tau^2 mean over images b  of  1 - corr( P_s[b,:], P_t[b,:] )
//! intra = tau^2 mean over classes c of  1 - corr( P_s[:,c], P_t[:,c] )
//! L_dist = beta inter + gamma intra                      corr: Pearson's
//! ```
use heterodyne_nn::{
    Error, Result, Scope, TapSpec, Terms,
    config::{KeyError, parse},
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    Context, Key, Method, MethodDef, Settings,
    parts::{
        keys::{self, positive},
        mode::{exact, float},
        pair::check_classes,
    },
};

/// The registry's entry.
pub static METHOD: MethodDef = MethodDef {
    name: "dist",
    title: "Distillation from a stronger teacher",
    source: "Huang et al. 2022 (arXiv 2205.10536)",
    keys: &[
        Key { name: "beta", default: "1.0", doc: "Weight of the relation between classes. Third-party default." },
        Key { name: "gamma", default: "1.0", doc: "Weight of the relation between images. Third-party default." },
        Key { name: "temperature", default: "1.0", doc: "Softens both distributions, tau. Third-party default." },
    ],
    configure,
};

/// Added to the product of two norms, so that a constant row or column has correlation 0.
const EPS: f64 = 1e-12;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Dist {
    beta: f64,
    gamma: f64,
    temperature: f64,
}

impl Default for Dist {
    fn default() -> Self {
        Self { beta: 1.0, gamma: 1.0, temperature: 1.0 }
    }
}

fn configure(table: &toml::Table) -> Result<Box<dyn Settings>, KeyError> {
    let settings: Dist = parse(table)?;
    keys::weights(&[("beta", settings.beta), ("gamma", settings.gamma)])?;
    positive("temperature", settings.temperature)?;
    Ok(Box::new(settings))
}

impl Settings for Dist {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        check_classes("dist", student, teacher)?;
        if self.gamma > 0.0 && batch < 2 {
            return Err(Error::invalid(format!(
                "dist correlates the images of a batch, and the batch has {batch}: use a batch of at least 2, or gamma = 0"
            )));
        }
        Ok(())
    }

    fn build(&self, _scope: &Scope, student: &TapSpec, teacher: &TapSpec, _sample_classes: &[i64]) -> Result<Box<dyn Method>> {
        check_classes("dist", student, teacher)?;
        Ok(Box::new(*self))
    }

    fn compares_logits(&self) -> bool {
        true
    }

    fn resolved(&self) -> toml::Table {
        keys::table(self)
    }
}

impl Method for Dist {
    fn loss(&self, step: &Context) -> Result<Terms> {
        let (z_s, z_t) = (step.student.logits.shallow_clone(), step.teacher.logits.detach());
        let _exact = exact(z_s.device())?;
        let [p_s, p_t] = [z_s, z_t].map(|z| (float(&z) / self.temperature).softmax(-1, None::<Kind>));
        let scale = self.temperature.powi(2);
        let mut terms = Terms::default();
        if self.beta > 0.0 {
            terms.push("inter", self.beta, distance(&p_s, &p_t, 1) * scale);
        }
        if self.gamma > 0.0 {
            terms.push("intra", self.gamma, distance(&p_s, &p_t, 0) * scale);
        }
        Ok(terms)
    }
}

/// One minus the mean correlation along `dim` of two matrices.
fn distance(a: &Tensor, b: &Tensor, dim: i64) -> Tensor {
    let dims = [dim];
    let sum = |x: Tensor| x.sum_dim_intlist(dims.as_slice(), false, None::<Kind>);
    let centred = |x: &Tensor| x - x.mean_dim(dims.as_slice(), true, None::<Kind>);
    let (a, b) = (centred(a), centred(b));
    // The root of a sum that may be 0 has no gradient there; of the product of two it is not needed apart.
    let norms = (sum(a.square()) * sum(b.square()) + EPS * EPS).sqrt();
    1.0 - (sum(a * b) / norms).mean(None::<Kind>)
}
