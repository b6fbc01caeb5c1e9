//! Scales the loss so that small gradients survive float16, as `torch.amp.GradScaler` does, without waiting for the
//! device: a step whose gradients overflow is skipped and halves the scale, and many good steps in a row double it.
use heterodyne_nn::Tensors;
use heterodyne_shim::{self as shim, NoGrad};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// PyTorch's defaults.
const FIRST: f32 = 65536.0;
const GROWTH: f64 = 2.0;
const BACKOFF: f64 = 0.5;
const INTERVAL: i64 = 2000;
/// An overflow at a smaller scale is not the scale's fault.
const LEAST: f64 = 1.0;

/// The scale and what its changes depend on, all on the device.
#[derive(Debug)]
pub struct Scaler {
    /// float32 (1).
    scale: Tensor,
    /// Good steps since the last change, int32 (1).
    good: Tensor,
    /// 2-norm of the last gradient that did not overflow, float32 scalar.
    norm: Tensor,
}

impl Scaler {
    /// A scaler for parameters on `device`.
    #[must_use]
    pub fn new(device: Device) -> Self {
        Self {
            scale: Tensor::from_slice(&[FIRST]).to_device(device),
            good: Tensor::zeros([1], (Kind::Int, device)),
            norm: Tensor::zeros([], (Kind::Float, device)),
        }
    }

    /// The scaled loss, a scalar.
    pub fn scaled(&self, total: &Tensor) -> Tensor {
        total * self.scale.squeeze()
    }

    /// Divides the gradients by the scale.
    ///
    /// # Errors
    /// libtorch refuses it.
    pub fn unscale(&self, params: &[Tensor]) -> Result<()> {
        Ok(shim::grad_scale(params, &self.scale.squeeze().reciprocal())?)
    }

    /// Adapts the scale. `norm` is the 2-norm of the unscaled gradient and `found_inf` a float32 scalar, 1 if the step
    /// is skipped; `total` is the loss. Returns the norm to report: that of the last good step if only the scaled
    /// gradient has overflowed, so that a skipped step is not taken for a diverging run.
    ///
    /// # Errors
    /// libtorch refuses it.
    pub fn update(&self, total: &Tensor, norm: &Tensor, found_inf: &Tensor) -> Result<Tensor> {
        let _guard = NoGrad::new();
        let overflow = total.isfinite().logical_and(&norm.isfinite().logical_not());
        let tolerated = overflow.logical_and(&self.scale.squeeze().ge(LEAST));
        let shown = self.norm.where_self(&tolerated, norm);
        let good = norm.where_self(&norm.isfinite(), &self.norm);
        self.norm.shallow_clone().f_copy_(&good).map_err(heterodyne_nn::Error::from)?;
        let found_inf = found_inf.reshape([1]);
        let mut scale = self.scale.shallow_clone();
        let _ = scale
            .f_internal_amp_update_scale_(&self.good, &found_inf, GROWTH, BACKOFF, INTERVAL)
            .map_err(heterodyne_nn::Error::from)?;
        Ok(shown)
    }

    /// The state, as handles, not copies.
    #[must_use]
    pub fn state(&self) -> Tensors {
        let of = [("scale", &self.scale), ("good", &self.good), ("norm", &self.norm)];
        of.into_iter().map(|(name, t)| (name.to_owned(), t.shallow_clone())).collect()
    }

    /// Restores a saved state.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load_state(&self, saved: &Tensors) -> Result<()> {
        let _guard = NoGrad::new();
        for (name, own) in self.state() {
            let saved = saved.get(&name).filter(|t| t.size() == own.size());
            let saved = saved.ok_or_else(|| Error::State(format!("the checkpoint lacks the scaler's `{name}`")))?;
            own.shallow_clone().f_copy_(saved).map_err(heterodyne_nn::Error::from)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(t: &Tensor) -> f64 {
        t.double_value(&[])
    }

    fn scale(s: &Scaler) -> f64 {
        s.scale.double_value(&[0])
    }

    fn update(s: &Scaler, total: f32, norm: f32) -> f64 {
        let found = f32::from(!(total + norm).is_finite());
        value(&s.update(&Tensor::from(total), &Tensor::from(norm), &Tensor::from(found)).unwrap())
    }

    #[test]
    fn an_overflow_halves_the_scale_and_many_good_steps_double_it() {
        let s = Scaler::new(Device::Cpu);
        assert_eq!((update(&s, 1.0, 2.0), scale(&s)), (2.0, 65536.0));
        assert_eq!((update(&s, 1.0, f32::INFINITY), scale(&s)), (2.0, 32768.0));
        assert_eq!((update(&s, 1.0, f32::NAN), scale(&s)), (2.0, 16384.0));
        for _ in 0..INTERVAL {
            update(&s, 1.0, 3.0);
        }
        assert_eq!(scale(&s), 32768.0);
    }

    #[test]
    fn a_diverging_run_is_not_hidden() {
        let s = Scaler::new(Device::Cpu);
        assert!(update(&s, f32::NAN, f32::NAN).is_nan());
        let mut steps = 0;
        while update(&s, 1.0, f32::INFINITY).is_finite() {
            steps += 1;
        }
        assert_eq!((steps, scale(&s) < 1.0), (16, true));
    }

    #[test]
    fn scaling_and_unscaling_cancel_and_the_state_is_restored() {
        let s = Scaler::new(Device::Cpu);
        let w = Tensor::from_slice(&[3.0f32, -2.0]).set_requires_grad(true);
        s.scaled(&(&w * &w).sum(Kind::Float)).backward();
        s.unscale(&[w.shallow_clone()]).unwrap();
        assert_eq!(Vec::<f32>::try_from(w.grad()).unwrap(), [6.0, -4.0]);

        update(&s, 1.0, f32::INFINITY);
        let other = Scaler::new(Device::Cpu);
        other.load_state(&s.state()).unwrap();
        assert_eq!(scale(&other), 32768.0);
        assert!(other.load_state(&Tensors::new()).is_err());
    }
}
