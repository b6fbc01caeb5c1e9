//! CC: correlation congruence (Peng et al. 2019, arXiv 1904.01802, equations 5 to 9), on embeddings of equal width.
//!
//! ```text
//! e = W f + b                                                         (B,D)   f_s and f_t through separate linear maps
//! kernel:      K(i,j) = sum_{p=0..P} exp(-2g) (2g)^p / p! (e_i . e_j)^p  e normalised; Gaussian kernel, Taylor order P
//!              L_cc   = mean over i, j of ( K_s(i,j) - K_t(i,j) )^2
//! neighbours:  L_cc   = mean over i of sum_d  d_i d_{i+1}                             d_i = |e_s - e_t| of image i
//! ```
//! The kernel is the paper's. `neighbours` is what RepDistiller computes, and the weight 0.02 belongs to it.
use heterodyne_nn::{Result, Scope, Terms, layers::Linear};
use heterodyne_settings::{choice, settings};
use tch::{Reduction, Tensor};

use crate::{
    EmbeddingLoss,
    parts::{TensorExt, normalize},
};

choice! { enum Form { Kernel, Neighbours } }

settings! {
    /// Correlation congruence.
    pub struct Cc {
        /// Width of both embeddings, D.
        dim: i64 = 128, ThirdParty, count;
        /// "kernel" compares the Gaussian correlations of all pairs of a batch (the paper), "neighbours" multiplies the
        /// differences of consecutive images (RepDistiller).
        form: Form = Form::Kernel, Published;
        /// Width of the Gaussian, g.
        gamma: f64 = 0.4, ThirdParty, positive;
        /// Order of the Taylor series, P.
        order: i64 = 2, ThirdParty, count_to(20);
    }
}

/// The linear map of each side.
#[derive(Debug)]
pub struct Maps {
    student: Linear,
    teacher: Linear,
}

/// K(i,j) of all pairs (B,B).
fn correlations(e_bd: &Tensor, gamma: f64, order: i64) -> Tensor {
    let e_bd = normalize(e_bd);
    let product_bb = e_bd.matmul(&e_bd.transpose(0, 1));
    // Horner's rule: 1 + x(1 + x/2(1 + x/3(..))), x = 2g e_i.e_j.
    let x_bb = product_bb * (2.0 * gamma);
    (1..=order).rev().fold(x_bb.ones_like(), |sum, p| 1.0 + &x_bb / p as f64 * sum) * (-2.0 * gamma).exp()
}

impl EmbeddingLoss for Cc {
    const NAME: &str = "cc";
    const SOURCE: &str = "Peng et al. 2019 (arXiv 1904.01802)";

    type Parts = Maps;

    fn parts(&self, scope: &Scope, d_s: i64, d_t: i64) -> Result<Maps> {
        Ok(Maps {
            student: Linear::new(&scope.sub("student"), d_s, self.dim)?,
            teacher: Linear::new(&scope.sub("teacher"), d_t, self.dim)?,
        })
    }

    fn student(maps: &Maps, f_s: &Tensor) -> Tensor {
        maps.student.forward(f_s)
    }

    fn teacher(maps: &Maps, f_t: &Tensor) -> Tensor {
        maps.teacher.forward(f_t)
    }

    fn loss(&self, e_s: &Tensor, e_t: &Tensor) -> Result<Terms> {
        let kernel = |e: &Tensor| correlations(e, self.gamma, self.order);
        let value = match self.form {
            Form::Kernel => kernel(e_s).mse_loss(&kernel(e_t), Reduction::Mean),
            Form::Neighbours => {
                let d_bd = (e_s - e_t).abs();
                let rest = d_bd.size()[0] - 1;
                (d_bd.narrow(0, 0, rest) * d_bd.narrow(0, 1, rest)).sum_all() / rest as f64
            }
        };
        Ok(Terms::one("cc", value))
    }
}
