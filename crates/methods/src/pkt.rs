//! PKT: learning deep representations with probabilistic knowledge transfer (Passalis and Tefas 2018, arXiv 1803.10837,
//! equations 3 to 8).
//!
//! ```text
//! k(i,j) = ( cos(e_i, e_j) + 1 ) / 2,   p(j|i) = k(i,j) / sum_j k(i,j)          embeddings e of the images of a batch
//! L_pkt  = mean over i, j of  p_t log( p_t / p_s )                              as in RepDistiller, with weight 30000
//! ```
use heterodyne_nn::{Result, Scope, Terms};
use heterodyne_settings::settings;
use tch::Tensor;

use crate::EmbeddingLoss;

use crate::parts::ops::TensorExt;

settings! {
    /// Probabilistic knowledge transfer.
    pub struct Pkt {
        /// Added to both probabilities in the logarithm, and to the norms.
        eps: f64 = 1e-7, ThirdParty, positive;
    }
}

impl Pkt {
    /// p (B,B) of embeddings (B,D).
    fn probabilities(&self, e_bd: &Tensor) -> Tensor {
        let sum = |x: &Tensor| x.sum_keepdim(1);
        let unit = e_bd / ((sum(&e_bd.square()) + self.eps * self.eps).sqrt() + self.eps);
        let k = (unit.mm(&unit.tr()) + 1.0) / 2.0;
        &k / sum(&k)
    }
}

impl EmbeddingLoss for Pkt {
    const NAME: &str = "pkt";
    const SOURCE: &str = "Passalis and Tefas 2018 (arXiv 1803.10837)";

    type Parts = ();

    fn parts(&self, _: &Scope, _: i64, _: i64) -> Result<()> {
        Ok(())
    }

    fn loss(&self, e_s: &Tensor, e_t: &Tensor) -> Result<Terms> {
        let (p_s, p_t) = (self.probabilities(e_s), self.probabilities(e_t));
        let loss = (&p_t * ((&p_t + self.eps).log() - (p_s + self.eps).log())).mean_all();
        Ok(Terms::one("similarity", loss))
    }
}
