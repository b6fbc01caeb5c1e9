//! Operations on many tensors in one call: optimizer updates, gradient norm, averaging. None of them waits for the
//! device.
use tch::Tensor;

use crate::{Result, address, addresses, ffi::bridge, take};

/// A learning rate.
#[derive(Clone, Copy, Debug)]
pub enum Rate<'a> {
    /// A number.
    Number(f64),
    /// A scalar on the parameters' device, for recorded updates: float32 on a GPU, float64 on a CPU.
    Scalar(&'a Tensor),
}

impl Rate<'_> {
    /// The number, and the scalar's address or 0.
    fn parts(self) -> (f64, usize) {
        match self {
            Self::Number(lr) => (lr, 0),
            Self::Scalar(lr) => (0.0, address(lr)),
        }
    }
}

/// Hyper-parameters of one SGD update (`torch.optim.SGD` without dampening).
#[derive(Clone, Copy, Debug)]
pub struct Sgd<'a> {
    /// Learning rate.
    pub lr: Rate<'a>,
    /// Momentum; if it is zero, the buffers are not read.
    pub momentum: f64,
    /// L2 penalty added to the gradient.
    pub weight_decay: f64,
    /// Nesterov's variant.
    pub nesterov: bool,
}

/// Hyper-parameters of one AdamW update (`torch.optim.AdamW`).
#[derive(Clone, Copy, Debug)]
pub struct AdamW<'a> {
    /// Learning rate.
    pub lr: Rate<'a>,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Added to the denominator.
    pub eps: f64,
}

/// One SGD update of `params` by their gradients; parameters without a gradient stay unchanged. `momenta` start at zero
/// and are on their parameters' device. `found_inf` is a float32 scalar on the device: 1 skips the update.
pub fn sgd_step(params: &[Tensor], momenta: &[Tensor], found_inf: &Tensor, h: Sgd) -> Result<()> {
    assert_eq!(params.len(), momenta.len(), "one momentum per parameter");
    let (lr, lr_scalar) = h.lr.parts();
    // SAFETY: all tensors are live for the call; the lists are of equal length.
    Ok(unsafe {
        bridge::sgd_step(
            &addresses(params),
            &addresses(momenta),
            address(found_inf),
            lr,
            lr_scalar,
            h.momentum,
            h.weight_decay,
            h.nesterov,
        )
    }?)
}

/// One AdamW update of `params` by their gradients; parameters without a gradient stay unchanged. `steps` are float32
/// scalars that count the updates of each parameter. `found_inf` as in [`sgd_step`].
pub fn adamw_step(
    params: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    steps: &[Tensor],
    found_inf: &Tensor,
    h: AdamW,
) -> Result<()> {
    assert!([exp_avgs.len(), exp_avg_sqs.len(), steps.len()] == [params.len(); 3], "one state per parameter");
    let (lr, lr_scalar) = h.lr.parts();
    // SAFETY: all tensors are live for the call; the lists are of equal length.
    Ok(unsafe {
        bridge::adamw_step(
            &addresses(params),
            &addresses(exp_avgs),
            &addresses(exp_avg_sqs),
            &addresses(steps),
            address(found_inf),
            lr,
            lr_scalar,
            h.beta1,
            h.beta2,
            h.weight_decay,
            h.eps,
        )
    }?)
}

/// The 2-norm of all gradients together, as a scalar on the device; an error if no parameter has a gradient.
pub fn grad_norm(params: &[Tensor]) -> Result<Tensor> {
    // SAFETY: all tensors are live for the call.
    Ok(take(unsafe { bridge::grad_norm(&addresses(params)) }?))
}

/// Multiplies all gradients by `factor`, a scalar on the device.
pub fn grad_scale(params: &[Tensor], factor: &Tensor) -> Result<()> {
    // SAFETY: all tensors are live for the call.
    Ok(unsafe { bridge::grad_scale(&addresses(params), address(factor)) }?)
}

/// Drops all gradients, so the next backward pass writes instead of adding.
pub fn grad_clear(params: &[Tensor]) -> Result<()> {
    // SAFETY: all tensors are live for the call.
    Ok(unsafe { bridge::grad_clear(&addresses(params)) }?)
}

/// `target += weight * (source - target)` for every pair.
pub fn lerp(targets: &[Tensor], sources: &[Tensor], weight: f64) -> Result<()> {
    assert_eq!(targets.len(), sources.len(), "one source per target");
    // SAFETY: all tensors are live for the call; the lists are of equal length.
    Ok(unsafe { bridge::lerp(&addresses(targets), &addresses(sources), weight) }?)
}
