//! DIST: knowledge distillation from a stronger teacher (Huang et al. 2022, arXiv 2205.10536, equations 7 to 10).
//!
//! ```text
//! P = softmax(z/tau)                                     (B,C)
//! inter = tau^2 mean over images b  of  1 - corr( P_s[b,:], P_t[b,:] )
//! intra = tau^2 mean over classes c of  1 - corr( P_s[:,c], P_t[:,c] )
//! L_dist = beta inter + gamma intra                      corr: Pearson's
//! ```
use heterodyne_nn::{Error, Labels, Result, Terms};
use heterodyne_settings::{Checked, range, settings};
use tch::{Kind, Tensor};

use crate::{LogitLoss, parts::TensorExt};

/// Added to the product of two norms, so a constant row or column has correlation 0.
const EPS: f64 = 1e-12;

settings! {
    /// Distillation from a stronger teacher.
    pub struct Dist {
        /// Weight of the relation between classes.
        beta: f64 = 1.0, ThirdParty;
        /// Weight of the relation between images.
        gamma: f64 = 1.0, ThirdParty;
        /// Softens both distributions, tau.
        temperature: f64 = 1.0, ThirdParty, positive;
    }
}

impl LogitLoss for Dist {
    const NAME: &str = "dist";
    const SOURCE: &str = "Huang et al. 2022 (arXiv 2205.10536)";
    const RELATES_IMAGES: bool = true;

    fn demands(&self) -> Checked {
        range::weights(&[("beta", self.beta), ("gamma", self.gamma)])
    }

    fn check(&self, _classes: i64, batch: usize) -> Result<()> {
        if self.gamma == 0.0 || batch >= 2 {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "dist correlates the images of a batch, but the batch has {batch}: use a batch of at least 2, or gamma = 0"
        )))
    }

    fn loss(&self, z_s: &Tensor, z_t: &Tensor, _: &Labels) -> Terms {
        let [p_s, p_t] = [z_s, z_t].map(|z| (z / self.temperature).softmax(-1, None::<Kind>));
        let scale = self.temperature.powi(2);
        let mut terms = Terms::default();
        if self.beta > 0.0 {
            terms.push("inter", self.beta, distance(&p_s, &p_t, 1) * scale);
        }
        if self.gamma > 0.0 {
            terms.push("intra", self.gamma, distance(&p_s, &p_t, 0) * scale);
        }
        terms
    }
}

/// One minus the mean correlation along `dim` of two matrices.
fn distance(a: &Tensor, b: &Tensor, dim: i64) -> Tensor {
    let dims = [dim];
    let sum = |x: Tensor| x.sum_dim_intlist(dims.as_slice(), false, None::<Kind>);
    let centred = |x: &Tensor| x - x.mean_dim(dims.as_slice(), true, None::<Kind>);
    let (a, b) = (centred(a), centred(b));
    // The square root of a sum has no gradient at 0, so only the root of the product is taken.
    let norms = (sum(a.square()) * sum(b.square()) + EPS * EPS).sqrt();
    1.0 - (sum(a * b) / norms).mean_all()
}
