//! RKD: relational knowledge distillation (Park et al. 2019, arXiv 1904.05068, equations 4 to 9), on the pooled
//! embeddings.
//!
//! ```text
//! psi_D(i,j)   = |e_i - e_j| / mean of the non-zero distances
//! psi_A(i,j,k) = < (e_i - e_j)/|e_i - e_j| , (e_k - e_j)/|e_k - e_j| >
//! L_rkd = distance * mean of huber( psi_D^s - psi_D^t ) + angle * mean of huber( psi_A^s - psi_A^t )
//!                                                                              huber: smooth L1, threshold 1
//! ```
//! The means are over all pairs and triples, including those of an image with itself, as in the authors' code.
use heterodyne_nn::{Result, Scope, Terms};
use heterodyne_settings::{Checked, range, settings};
use tch::{Reduction, Tensor};

use crate::EmbeddingLoss;

use crate::parts::ops::TensorExt;

/// A distance below the square root of this is that of an image to itself.
const EPS: f64 = 1e-12;

settings! {
    /// Relational knowledge distillation.
    pub struct Rkd {
        /// Weight of the distances.
        distance: f64 = 25.0, Published;
        /// Weight of the angles.
        angle: f64 = 50.0, Published;
    }
}

/// Differences between all images of a batch: e_i - e_j (B,B,D) and their norms (B,B).
fn differences(e_bd: &Tensor) -> (Tensor, Tensor) {
    let d_bbd = e_bd.unsqueeze(1) - e_bd.unsqueeze(0);
    let length_bb = (d_bbd.square().sum_over(2) + EPS).sqrt();
    (d_bbd, length_bb)
}

/// Distances in units of their mean (B,B).
fn distances(length_bb: &Tensor) -> Tensor {
    let apart = length_bb.gt(2.0 * EPS.sqrt()).to_kind(length_bb.kind());
    let mean = (length_bb * &apart).sum_all() / apart.sum_all().clamp_min(1.0);
    length_bb / mean.clamp_min(EPS.sqrt())
}

/// The cosine of the angle at image j between i and k (B,B,B).
fn angles(d_bbd: &Tensor, length_bb: &Tensor) -> Tensor {
    let unit = (d_bbd / length_bb.unsqueeze(2)).transpose(0, 1);
    unit.bmm(&unit.transpose(1, 2))
}

impl EmbeddingLoss for Rkd {
    const NAME: &str = "rkd";
    const SOURCE: &str = "Park et al. 2019 (arXiv 1904.05068)";

    type Parts = ();

    fn demands(&self) -> Checked {
        range::weights(&[("distance", self.distance), ("angle", self.angle)])
    }

    fn parts(&self, _: &Scope, _: i64, _: i64) -> Result<()> {
        Ok(())
    }

    fn loss(&self, e_s: &Tensor, e_t: &Tensor) -> Result<Terms> {
        let ((d_s, length_s), (d_t, length_t)) = (differences(e_s), differences(e_t));
        let huber = |s: Tensor, t: Tensor| s.smooth_l1_loss(&t, Reduction::Mean, 1.0);
        let mut terms = Terms::default();
        if self.distance > 0.0 {
            terms.push("distance", self.distance, huber(distances(&length_s), distances(&length_t)));
        }
        if self.angle > 0.0 {
            terms.push("angle", self.angle, huber(angles(&d_s, &length_s), angles(&d_t, &length_t)));
        }
        Ok(terms)
    }
}
