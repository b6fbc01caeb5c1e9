//! RSD: cross-architecture distillation by suppressing redundancy (Zhang et al. 2025, arXiv 2507.21844), as in the
//! authors' code.
//!
//! ```text
//! e_s   = W_2 GELU( BN( W_1 f_s ) )                          (B, d_t)     learnable; 2 d_s hidden, no biases
//! S, T  = e_s and f_t, each dimension standardised over the batch          population deviation
//! R     = T^T S / B                                          (d_t, d_t)
//! L_rsd = sum_i (R_ii - 1)^2 + kappa sum_{i != j} R_ij^2
//! ```
//! The usual weight is 0.1, with the cross-entropy as the only other term. With several processes, the batch is that of
//! all processes.
use heterodyne_nn::{
    Init, Result, Scope, Terms,
    layers::{BatchNorm2d, Linear},
};
use heterodyne_settings::settings;
use tch::Tensor;

use crate::{
    EmbeddingLoss,
    parts::{TensorExt, training},
};

/// Added to a variance: a dimension that is constant over the batch then gives 0 and a finite gradient.
const EPS: f64 = 1e-10;

settings! {
    /// Redundancy-suppressing distillation.
    pub struct Rsd {
        /// Weight of the correlations between different dimensions beside that of each dimension with itself.
        kappa: f64 = 0.01, Published, non_negative;
    }
}

/// The student's projector.
#[derive(Debug)]
pub struct Projector {
    hidden: Linear,
    norm: BatchNorm2d,
    project: Linear,
}

/// Standardises each column of (B,D) to mean 0 and variance 1.
fn standardised(e_bd: &Tensor) -> Tensor {
    let centred = e_bd - e_bd.mean_keepdim(&[0]);
    let variance = centred.square().mean_keepdim(&[0]);
    centred * (variance + EPS).rsqrt()
}

impl EmbeddingLoss for Rsd {
    const NAME: &str = "rsd";
    const SOURCE: &str = "Zhang et al. 2025 (arXiv 2507.21844)";

    type Parts = Projector;

    fn parts(&self, scope: &Scope, d_s: i64, d_t: i64) -> Result<Projector> {
        Ok(Projector {
            hidden: Linear::with(&scope.sub("hidden"), d_s, 2 * d_s, Init::TorchDefault, None)?,
            norm: BatchNorm2d::new(&scope.sub("norm"), 2 * d_s)?,
            project: Linear::with(&scope.sub("project"), 2 * d_s, d_t, Init::TorchDefault, None)?,
        })
    }

    fn student(p: &Projector, f_s: &Tensor) -> Tensor {
        p.project.forward(&p.norm.forward(&p.hidden.forward(f_s), training()).gelu("none"))
    }

    fn loss(&self, e_s: &Tensor, e_t: &Tensor) -> Result<Terms> {
        let (s, t) = (standardised(e_s), standardised(e_t));
        let r_dd = t.transpose(0, 1).matmul(&s) / s.size()[0] as f64;
        let own = r_dd.diagonal(0, 0, 1);
        let others = r_dd.square().sum_all() - own.square().sum_all();
        Ok(Terms::one("rsd", (own - 1.0).square().sum_all() + others * self.kappa))
    }
}
