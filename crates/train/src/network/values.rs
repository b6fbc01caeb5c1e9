//! Checks a network's values for damage and divergence.
use heterodyne_nn::Tensors;
use tch::{Kind, Tensor};

use crate::Result;

/// Larger values are a sign of damage or divergence: their products overflow float32 within a few layers.
const LARGEST: f64 = 1e10;

/// Describes the first tensor with a NaN or infinite value, an absurdly large value, or a negative variance.
pub fn flaw(tensors: &Tensors) -> Result<Option<String>> {
    for (name, t) in tensors {
        if let Some(what) = flaw_of(name, t)? {
            return Ok(Some(format!("`{name}` {what}")));
        }
    }
    Ok(None)
}

fn flaw_of(name: &str, t: &Tensor) -> Result<Option<String>> {
    if t.numel() == 0 || !matches!(t.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
        return Ok(None);
    }
    // Both are NaN if any value is.
    let (low, high) = t.detach().f_to_kind(Kind::Float)?.f_aminmax(None, false)?;
    let (low, high) = (low.double_value(&[]), high.double_value(&[]));
    if !(low.is_finite() && high.is_finite()) {
        let bad = t.detach().f_isfinite()?.f_logical_not()?.f_sum(None::<Kind>)?.int64_value(&[]);
        return Ok(Some(format!("has {bad} of {} values that are NaN or infinite", t.numel())));
    }
    let largest = if -low > high { low } else { high };
    if largest.abs() > LARGEST {
        return Ok(Some(format!("has a value of {:e}, too large to compute with", largest as f32)));
    }
    Ok((name.ends_with("running_var") && low < 0.0)
        .then(|| format!("is a variance but has a value of {:e}", low as f32)))
}
