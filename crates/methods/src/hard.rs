//! Hard-label distillation of DeiT (Touvron et al. 2021, arXiv 2012.12877, equation 3).
//!
//! ```text
//! L_hard = CE( z_s , argmax z_t )
//! ```
//! DeiT trains a separate token on the teacher's decision; here the logits of any student learn it. `loss.ce = 0.5` and
//! `weight = 0.5` give the paper's sum.
use heterodyne_nn::{Labels, Terms};
use heterodyne_settings::settings;
use tch::Tensor;

use crate::LogitLoss;

settings! {
    /// Hard-label distillation.
    pub struct Hard {
        /// Label smoothing of the teacher's decision; the paper smooths the true labels only.
        smoothing: f64 = 0.0, Published, between(0.0, 0.999);
    }
}

impl LogitLoss for Hard {
    const NAME: &str = "hard";
    const SOURCE: &str = "DeiT, Touvron et al. 2021 (arXiv 2012.12877)";
    // Only the teacher's argmax is read, so there is no scale to standardise.
    const COMPARES_LOGITS: bool = false;

    fn loss(&self, z_s: &Tensor, z_t: &Tensor, _: &Labels) -> Terms {
        let decided = Labels::Hard(z_t.argmax(-1, false));
        Terms::one("hard", decided.cross_entropy(z_s, self.smoothing))
    }
}
