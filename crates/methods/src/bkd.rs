//! BKD: each class of the teacher's distribution is a separate binary target (Hao et al. 2023, arXiv 2310.19444, a
//! baseline of OFA-KD).
//!
//! ```text
//! p_t = softmax(z_t)
//! L_bkd = mean over images and classes of  BCE( sigmoid(z_s), p_t ) = softplus(z_s) - p_t z_s
//! ```
use heterodyne_nn::{Labels, Terms};
use heterodyne_settings::{choice, settings};
use tch::{Kind, Tensor};

use crate::{LogitLoss, parts::TensorExt};

settings! {
    /// Binary knowledge distillation.
    pub struct Bkd {
        /// Reduction over the classes: `mean` (PyTorch's default for this loss) or `sum`, which is C times as large.
        reduce: Reduce = Reduce::Mean, Ours;
    }
}

choice! { enum Reduce { Mean, Sum } }

impl LogitLoss for Bkd {
    const NAME: &str = "bkd";
    const SOURCE: &str = "baseline of OFA-KD, Hao et al. 2023 (arXiv 2310.19444)";

    fn loss(&self, z_s: &Tensor, z_t: &Tensor, _: &Labels) -> Terms {
        let p_t = z_t.softmax(-1, None::<Kind>);
        // softplus in a form that does not overflow for any logit.
        let softplus = z_s.clamp_min(0.0) + (-z_s.abs()).exp().log1p();
        let loss = (softplus - p_t * z_s).mean_all();
        let classes = z_s.size()[1] as f64;
        Terms::one("kd", if self.reduce == Reduce::Sum { loss * classes } else { loss })
    }
}
