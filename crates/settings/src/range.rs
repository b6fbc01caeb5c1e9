//! Range checks. A value out of range is an error that names the key, the value and the range.
use std::fmt::Display;

use crate::{Checked, KeyError};

/// Upper limit of a count: no network is that wide, and memory or time would run out first.
const MOST: i64 = 1 << 20;

/// A finite number above 0.
pub fn positive(key: &str, value: impl Number) -> Checked {
    number(key, value, |x| x > 0.0, "a number above 0")
}

/// A finite number of at least 0.
pub fn non_negative(key: &str, value: impl Number) -> Checked {
    number(key, value, |x| x >= 0.0, "a number of at least 0")
}

/// A finite number in `[low, high]`.
pub fn between(key: &str, value: impl Number, low: f64, high: f64) -> Checked {
    number(key, value, |x| (low..=high).contains(&x), &format!("a number from {low} to {high}"))
}

/// A probability.
pub fn probability(key: &str, value: impl Number) -> Checked {
    number(key, value, |p| (0.0..=1.0).contains(&p), "a probability, a number from 0 to 1")
}

/// A number above 0 and up to 1.
pub fn share(key: &str, value: impl Number) -> Checked {
    number(key, value, |x| x > 0.0 && x <= 1.0, "a number above 0 and up to 1")
}

/// A number of at least 0 and below 1.
pub fn below_1(key: &str, value: impl Number) -> Checked {
    number(key, value, |x| (0.0..1.0).contains(&x), "a number of at least 0 and below 1")
}

/// A number above 0 and below 1.
pub fn inside_01(key: &str, value: impl Number) -> Checked {
    number(key, value, |x| x > 0.0 && x < 1.0, "a number above 0 and below 1")
}

/// A count of at least 1, within reason.
pub fn count(key: &str, value: impl Whole) -> Checked {
    count_to(key, value, MOST)
}

/// A count from 1 to `most`.
pub fn count_to(key: &str, value: impl Whole, most: i64) -> Checked {
    whole(key, value, 1, most)
}

/// A whole number from `low` to `high`.
pub fn whole(key: &str, value: impl Whole, low: i64, high: i64) -> Checked {
    let Some(value) = value.value() else { return Ok(()) };
    let holds = (i128::from(low)..=i128::from(high)).contains(&value);
    demand(key, holds, value, &format!("a whole number from {low} to {high}"))
}

/// A whole number of at least 1.
pub fn at_least_1(key: &str, value: impl Whole) -> Checked {
    let Some(value) = value.value() else { return Ok(()) };
    demand(key, value >= 1, value, "a whole number of at least 1")
}

/// A number, or none, which every range takes.
pub trait Number {
    /// The number.
    fn value(self) -> Option<f64>;
}

impl Number for f64 {
    fn value(self) -> Option<f64> {
        Some(self)
    }
}

impl Number for Option<f64> {
    fn value(self) -> Option<f64> {
        self
    }
}

/// A whole number of any width, or none, which every range takes.
pub trait Whole {
    /// The number.
    fn value(self) -> Option<i128>;
}

macro_rules! whole {
    ($($int:ty),+) => {$(
        impl Whole for $int {
            fn value(self) -> Option<i128> {
                Some(self as i128)
            }
        }
    )+};
}
whole!(i64, u32, u64, usize);

impl<T: Whole> Whole for Option<T> {
    fn value(self) -> Option<i128> {
        self.and_then(Whole::value)
    }
}

fn number(key: &str, value: impl Number, holds: impl Fn(f64) -> bool, wanted: &str) -> Checked {
    let Some(value) = value.value() else { return Ok(()) };
    demand(key, value.is_finite() && holds(value), value, wanted)
}

/// Whole numbers from `low` to `high`.
pub fn each_whole<const N: usize>(key: &str, values: [i64; N], low: i64, high: i64) -> Checked {
    let valid = values.iter().all(|value| (low..=high).contains(value));
    demand(key, valid, format!("{values:?}"), &format!("whole numbers from {low} to {high}"))
}

/// Distinct whole numbers of at least 1.
pub fn distinct(key: &str, values: &[i64]) -> Checked {
    let valid = values.iter().enumerate().all(|(i, value)| *value >= 1 && !values[..i].contains(value));
    demand(key, valid && !values.is_empty(), format!("{values:?}"), "whole numbers of at least 1, each at most once")
}

/// Term weights: each at least 0, and at least one above 0.
pub fn weights(weights: &[(&str, f64)]) -> Checked {
    weights.iter().try_for_each(|(key, value)| non_negative(key, *value))?;
    if weights.iter().any(|(_, value)| *value > 0.0) {
        return Ok(());
    }
    let names: Vec<_> = weights.iter().map(|(key, _)| format!("`{key}`")).collect();
    Err(KeyError::new(
        "",
        format!(
            "{} are all 0, so nothing would be computed: raise one of them, or remove the method",
            names.join(", ")
        ),
    ))
}

fn demand(key: &str, holds: bool, value: impl Display, wanted: &str) -> Checked {
    if holds { Ok(()) } else { Err(KeyError::new(key, format!("{value} is out of range, expected {wanted}"))) }
}
