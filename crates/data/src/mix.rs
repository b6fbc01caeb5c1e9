//! Mixup (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899) of whole batches, on the device
//! that holds them.
use heterodyne_nn::{Error, Labels, Result};
use heterodyne_settings::settings;
use tch::{Kind, Tensor};

use crate::Random;

settings! {
    /// Mixup and CutMix, timm's mode "batch". Each image is mixed with the one at the
    /// mirrored place of the batch, all with one weight. The default mixes nothing.
    pub struct Mix {
        /// alpha of mixup's weight, Beta(alpha, alpha); 0 switches mixup off.
        pub mixup: f64 = 0.0, Plain, non_negative;
        /// alpha of CutMix's weight; 0 switches CutMix off.
        pub cutmix: f64 = 0.0, Plain, non_negative;
        /// Probability that a batch is mixed.
        pub probability: f64 = 1.0, Plain, probability;
        /// Probability of CutMix, if both are on.
        pub switch: f64 = 0.5, Plain, probability;
    }
}

/// What happens to one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plan {
    /// Nothing.
    Keep,
    /// lambda x + (1 - lambda) x'.
    Blend {
        /// Share of the image itself.
        lambda: f64,
    },
    /// A rectangle of x' is pasted into x.
    Paste {
        /// Rows.
        rows: (i64, i64),
        /// Columns.
        columns: (i64, i64),
    },
}

impl Mix {
    /// Whether anything is ever mixed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.probability > 0.0 && (self.mixup > 0.0 || self.cutmix > 0.0)
    }

    /// Draws what happens to a batch of `height` x `width` images.
    pub fn plan(&self, height: i64, width: i64, rng: &mut Random) -> Plan {
        if !self.is_on() || !rng.chance(self.probability) {
            return Plan::Keep;
        }
        let cut = self.cutmix > 0.0 && (self.mixup == 0.0 || rng.chance(self.switch));
        let lambda = beta(if cut { self.cutmix } else { self.mixup }, rng);
        if !cut {
            return Plan::Blend { lambda };
        }
        // A box of the image's proportions with area 1 - lambda around a uniform centre, cut at the borders.
        let span = |length: i64, rng: &mut Random| {
            let cut = (length as f64 * (1.0 - lambda).sqrt()) as i64;
            let center = rng.below(length as usize) as i64;
            ((center - cut / 2).clamp(0, length), (center + (cut + 1) / 2).clamp(0, length))
        };
        Plan::Paste { rows: span(height, rng), columns: span(width, rng) }
    }

    /// Mixes `images` (B,3,H,W), uint8 or float32 levels, and their classes: float32 levels where images are blended,
    /// else the kind that came in, on the same device, and probabilities (B,`classes`). An unmixed batch keeps its hard
    /// labels.
    ///
    /// # Errors
    /// The shapes do not fit, or libtorch refuses.
    pub fn apply(&self, images: &Tensor, labels: &Tensor, classes: i64, rng: &mut Random) -> Result<(Tensor, Labels)> {
        let &[batch, _, height, width] = images.size().as_slice() else {
            return Err(Error::invalid(format!(
                "images of shape {:?} cannot be mixed; (B,3,H,W) is expected",
                images.size()
            )));
        };
        if labels.size() != [batch] {
            return Err(Error::invalid(format!(
                "{batch} images and labels of shape {:?} cannot be mixed",
                labels.size()
            )));
        }
        mix(images, labels, classes, self.plan(height, width, rng))
    }
}

/// Carries out a plan; see [`Mix::apply`].
///
/// # Errors
/// libtorch refuses.
pub fn mix(images: &Tensor, labels: &Tensor, classes: i64, plan: Plan) -> Result<(Tensor, Labels)> {
    let (mixed, lambda) = match plan {
        Plan::Keep => return Ok((images.shallow_clone(), Labels::Hard(labels.shallow_clone()))),
        Plan::Blend { lambda } => {
            let levels = images.f_to_kind(Kind::Float)?;
            // x' + lambda (x - x') in one pass.
            (levels.f_flip([0i64])?.f_lerp(&levels, lambda)?, lambda)
        }
        Plan::Paste { rows: (top, bottom), columns: (left, right) } => {
            let part = |x: &Tensor| x.f_narrow(2, top, bottom - top)?.f_narrow(3, left, right - left);
            let mut mixed = images.f_empty_like()?;
            mixed.f_copy_(images)?;
            part(&mixed)?.f_copy_(&part(images)?.f_flip([0i64])?)?;
            let area = (images.size()[2] * images.size()[3]) as f64;
            // The weight is that of the pixels that were really replaced.
            (mixed, 1.0 - ((bottom - top) * (right - left)) as f64 / area)
        }
    };
    let column = labels.f_unsqueeze(1)?;
    let one_hot = Tensor::f_zeros([labels.size()[0], classes], (Kind::Float, labels.device()))?
        .f_scatter_value_(1, &column, 1.0)?;
    let soft = one_hot.f_flip([0i64])?.f_lerp(&one_hot, lambda)?;
    Ok((mixed, Labels::Soft(soft)))
}

/// Beta(a, a) as the ratio of two Gamma(a) draws.
fn beta(a: f64, rng: &mut Random) -> f64 {
    let (x, y) = (gamma(a, rng), gamma(a, rng));
    // Both may underflow for tiny alphas, whose Beta is a fair coin.
    if x + y > 0.0 { x / (x + y) } else { f64::from(rng.below(2) as u8) }
}

/// Gamma(shape, 1) by Marsaglia and Tsang (2000); shapes below 1 through Gamma(shape + 1) U^(1/shape).
fn gamma(shape: f64, rng: &mut Random) -> f64 {
    if shape < 1.0 {
        return gamma(shape + 1.0, rng) * (1.0 - rng.unit()).powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = rng.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - rng.unit()).ln() < 0.5 * x * x + d * (1.0 - v + v.ln()) {
            return d * v;
        }
    }
}
