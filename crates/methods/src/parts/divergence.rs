//! Divergences and their means.
use heterodyne_nn::{Result, Terms, labels::log_softmax};
use tch::{Reduction, Tensor};

use super::{
    mode::{autocast_off, float},
    ops::TensorExt,
};
use crate::Context;

/// `T^2 KL( softmax(p/T) || softmax(q/T) )` of logits over the last dimension, summed over all other dimensions; at
/// least float32, from log-softmax. The factor T^2 keeps the gradient's size when T changes (Hinton et al. 2015,
/// section 2). Shapes broadcast.
pub fn kl_sum(p_logits: &Tensor, q_logits: &Tensor, temperature: f64) -> Tensor {
    let log_p = log_softmax(&tempered(p_logits, temperature));
    let log_q = log_softmax(&tempered(q_logits, temperature));
    log_q.kl_div(&log_p, Reduction::Sum, true) * (temperature * temperature)
}

/// `T^2 KL( p_t || p_s )`, sum over classes and mean over the batch, of logits (B,C). The teacher gets no gradient.
pub fn kd(teacher_bc: &Tensor, student_bc: &Tensor, temperature: f64) -> Tensor {
    kl_sum(&teacher_bc.detach(), student_bc, temperature) / student_bc.size()[0] as f64
}

/// Adds the logit loss of a step as the term `kd`, unless its weight is 0.
pub fn push_kd(terms: &mut Terms, step: &Context, weight: f64, temperature: f64) -> Result<()> {
    if weight > 0.0 {
        let _float32 = autocast_off(step.student.logits.device())?;
        terms.push("kd", weight, kd(step.teacher.logits, &step.student.logits, temperature));
    }
    Ok(())
}

/// The mean of scalars.
pub fn mean(values: &[Tensor]) -> Tensor {
    Tensor::stack(values, 0).mean_all()
}

fn tempered(logits: &Tensor, temperature: f64) -> Tensor {
    let logits = float(logits);
    if temperature == 1.0 { logits } else { logits / temperature }
}
