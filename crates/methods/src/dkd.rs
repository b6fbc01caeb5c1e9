//! DKD: decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679, equations 5 to 7).
//!
//! ```text
//! p = softmax(z/T),  b = [ p_y , 1 - p_y ],  q = softmax(z_k/T) over the classes k != y
//! tckd = T^2 KL( b_t || b_s )          the target class against the rest
//! nckd = T^2 KL( q_t || q_s )          the rest among themselves
//! L_dkd = alpha tckd + beta nckd       KL: sum over classes / B
//! ```
//! For a mixed label, y is the class with the largest share, which is our choice.
use heterodyne_nn::{Error, Labels, Result, Terms};
use heterodyne_settings::{Checked, range, settings};
use tch::{Kind, Tensor};

use crate::{LogitLoss, parts::divergence::kd};

settings! {
    /// Decoupled knowledge distillation.
    pub struct Dkd {
        /// Weight of the target class's part.
        alpha: f64 = 1.0, Published;
        /// Weight of the other classes' part: 2 in the heterogeneous protocol, 8 in the 32 px CIFAR protocol.
        beta: f64 = 2.0, ThirdParty;
        /// Softens both distributions, T: 1 in the heterogeneous protocol, 4 in the 32 px CIFAR protocol.
        temperature: f64 = 1.0, ThirdParty, positive;
    }
}

impl LogitLoss for Dkd {
    const NAME: &str = "dkd";
    const SOURCE: &str = "Zhao et al. 2022 (arXiv 2203.08679)";

    fn demands(&self) -> Checked {
        range::weights(&[("alpha", self.alpha), ("beta", self.beta)])
    }

    fn check(&self, classes: i64, _batch: usize) -> Result<()> {
        if classes >= 3 {
            return Ok(());
        }
        Err(Error::invalid(
            "dkd compares the non-target classes with each other, but of 2 classes only one is left: use kd, which is \
             equivalent there",
        ))
    }

    fn loss(&self, z_s: &Tensor, z_t: &Tensor, labels: &Labels) -> Terms {
        let y_b1 = labels.index().unsqueeze(1);
        let [s, t] = [z_s, z_t].map(|z| Decoupled::of(&(z / self.temperature), &y_b1));
        let scale = self.temperature.powi(2);
        let mut terms = Terms::default();
        // The log-probabilities of two classes are valid logits of their distribution.
        if self.alpha > 0.0 {
            terms.push("tckd", self.alpha, kd(&t.log_b_b2, &s.log_b_b2, 1.0) * scale);
        }
        if self.beta > 0.0 {
            terms.push("nckd", self.beta, kd(&t.others, &s.others, 1.0) * scale);
        }
        terms
    }
}

/// Logits split by the target class.
struct Decoupled {
    /// log [p_y, 1 - p_y] (B,2)
    log_b_b2: Tensor,
    /// The logits of all other classes (B,C-1).
    others: Tensor,
}

impl Decoupled {
    fn of(z_bc: &Tensor, y_b1: &Tensor) -> Self {
        let j = Tensor::arange(z_bc.size()[1] - 1, (Kind::Int64, z_bc.device())).unsqueeze(0);
        // Classes before the target keep their index; those after it move down by one.
        let others = z_bc.gather(1, &(&j + j.ge_tensor(y_b1).to_kind(Kind::Int64)), false);
        let all_b1 = z_bc.logsumexp([1i64].as_slice(), true);
        let target = z_bc.gather(1, y_b1, false) - &all_b1;
        let rest = others.logsumexp([1i64].as_slice(), true) - &all_b1;
        Self { log_b_b2: Tensor::cat(&[target, rest], 1), others }
    }
}
