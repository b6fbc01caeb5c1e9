//! Classification targets.
use tch::{Kind, Tensor};

/// One class per image, or a distribution if images were mixed.
#[derive(Debug)]
pub enum Labels {
    /// Class indices, int64 (B).
    Hard(Tensor),
    /// Probabilities, float32 (B,C), rows sum to 1.
    Soft(Tensor),
}

impl Labels {
    /// Number of images.
    #[must_use]
    pub fn len(&self) -> i64 {
        match self {
            Self::Hard(t) | Self::Soft(t) => t.size()[0],
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of each image, int64 (B); for a mixture, the class with the largest share.
    pub fn index(&self) -> Tensor {
        match self {
            Self::Hard(index_b) => index_b.shallow_clone(),
            Self::Soft(p_bc) => p_bc.argmax(-1, false),
        }
    }

    /// Mean cross-entropy of `logits` (B,C) in float32, with the target smoothed to (1-s) target + s/C
    /// (Szegedy et al. 2016; `torch.nn.functional.cross_entropy(.., label_smoothing=s)`).
    pub fn cross_entropy(&self, logits_bc: &Tensor, smoothing: f64) -> Tensor {
        let log_p_bc = log_softmax(logits_bc);
        let picked_b = match self {
            Self::Hard(index_b) => log_p_bc.gather(1, &index_b.unsqueeze(1), false).squeeze_dim(1),
            Self::Soft(p_bc) => (p_bc * &log_p_bc).sum_dim_intlist([1i64].as_slice(), false, None::<Kind>),
        };
        let hard = -picked_b.mean(None::<Kind>);
        if smoothing == 0.0 {
            return hard;
        }
        hard * (1.0 - smoothing) - log_p_bc.mean(None::<Kind>) * smoothing
    }
}

/// Log-softmax over the last dimension, in at least float32 whatever the input's precision.
pub fn log_softmax(logits: &Tensor) -> Tensor {
    let kind = if logits.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    logits.log_softmax(-1, kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn cross_entropy_is_torchs_for_hard_and_soft_targets() {
        let z = Tensor::randn([5, 7], (Kind::Double, Device::Cpu));
        let y = Tensor::from_slice(&[0i64, 6, 3, 3, 1]);
        for smoothing in [0.0, 0.1] {
            let theirs = z.cross_entropy_loss::<Tensor>(&y, None, tch::Reduction::Mean, -100, smoothing);
            for labels in [Labels::Hard(y.shallow_clone()), Labels::Soft(y.one_hot(7).to_kind(Kind::Double))] {
                let ours = labels.cross_entropy(&z, smoothing);
                assert!((ours.double_value(&[]) - theirs.double_value(&[])).abs() < 1e-12);
                assert_eq!(labels.index(), y);
            }
        }
    }

    #[test]
    fn huge_logits_give_a_finite_loss() {
        let z = Tensor::from_slice2(&[[1e4f32, -1e4, 0.0]]).to_kind(Kind::BFloat16);
        let loss = Labels::Hard(Tensor::from_slice(&[1i64])).cross_entropy(&z, 0.0).double_value(&[]);
        assert!((loss - 2e4).abs() < 100.0, "{loss}");
    }
}
