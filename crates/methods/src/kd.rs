//! KD: distilling the knowledge in a neural network (Hinton, Vinyals and Dean 2015, arXiv 1503.02531).
//!
//! ```text
//! p = softmax(z/T)
//! L_kd = T^2 KL(p_t || p_s)          KL: sum over classes / B
//! ```
use heterodyne_nn::{Labels, Terms};
use heterodyne_settings::settings;
use tch::Tensor;

use crate::{LogitLoss, parts::divergence};

settings! {
    /// Knowledge distillation.
    pub struct Kd {
        /// Softens both distributions, T: 1 in the heterogeneous protocol, 4 in the 32 px CIFAR protocol.
        temperature: f64 = 1.0, ThirdParty, positive;
    }
}

impl LogitLoss for Kd {
    const NAME: &str = "kd";
    const SOURCE: &str = "Hinton, Vinyals and Dean 2015 (arXiv 1503.02531)";

    fn loss(&self, z_s: &Tensor, z_t: &Tensor, _: &Labels) -> Terms {
        Terms::one("kd", divergence::kd(z_t, z_s, self.temperature))
    }
}
