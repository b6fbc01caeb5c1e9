//! Ranges of values; what is outside is an error that names the key, the value and the range.
use std::fmt::Display;

use crate::{Checked, KeyError};

/// Where a count ends: no network is as wide, and beyond it memory and time end first.
const MOST: i64 = 1 << 20;

/// A finite number above 0.
pub fn positive(key: &str, value: f64) -> Checked {
    demand(key, value.is_finite() && value > 0.0, value, "a number above 0")
}

/// A finite number of at least 0.
pub fn non_negative(key: &str, value: f64) -> Checked {
    demand(key, value.is_finite() && value >= 0.0, value, "a number of at least 0")
}

/// A finite number in `[low, high]`.
pub fn between(key: &str, value: f64, low: f64, high: f64) -> Checked {
    demand(key, (low..=high).contains(&value), value, &format!("a number from {low} to {high}"))
}

/// A count of at least 1, within reason.
pub fn count(key: &str, value: i64) -> Checked {
    count_to(key, value, MOST)
}

/// A count from 1 to `most`.
pub fn count_to(key: &str, value: i64, most: i64) -> Checked {
    demand(key, (1..=most).contains(&value), value, &format!("a whole number from 1 to {most}"))
}

/// Whole numbers of at least 1, none twice.
pub fn distinct(key: &str, values: &[i64]) -> Checked {
    let valid = values.iter().enumerate().all(|(i, value)| *value >= 1 && !values[..i].contains(value));
    demand(key, valid && !values.is_empty(), format!("{values:?}"), "whole numbers of at least 1, each at most once")
}

/// Term weights: each a number of at least 0, and not all of them 0.
pub fn weights(weights: &[(&str, f64)]) -> Checked {
    weights.iter().try_for_each(|(key, value)| non_negative(key, *value))?;
    if weights.iter().any(|(_, value)| *value > 0.0) {
        return Ok(());
    }
    let names: Vec<_> = weights.iter().map(|(key, _)| format!("`{key}`")).collect();
    Err(KeyError::new(
        "",
        format!(
            "{} are all 0, so that nothing would be computed: raise one, or leave the method out",
            names.join(", ")
        ),
    ))
}

fn demand(key: &str, holds: bool, value: impl Display, wanted: &str) -> Checked {
    if holds { Ok(()) } else { Err(KeyError::new(key, format!("{value} is out of range, expected {wanted}"))) }
}
