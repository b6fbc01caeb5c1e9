//! Maps values to pixels and places the ticks.

/// A linear or logarithmic axis.
#[derive(Clone, Debug)]
pub struct Scale {
    lo: f64,
    hi: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    /// An axis over `values`, from pixel `from` to pixel `to`. If all values are equal, the axis extends around them;
    /// without values it is 0..1. `log` takes effect only if every value is greater than 0.
    pub fn over(values: impl Iterator<Item = f64>, from: f64, to: f64, log: bool) -> Self {
        let (lo, hi) = values
            .filter(|v| v.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
        let log = log && lo > 0.0 && lo.is_finite();
        let (lo, hi) = match (lo <= hi, lo == hi, log) {
            (false, ..) => (0.0, 1.0),
            (_, true, true) => (lo / 2.0, hi * 2.0),
            (_, true, false) => {
                let pad = if lo == 0.0 { 1.0 } else { lo.abs() * 0.05 };
                (lo - pad, hi + pad)
            }
            _ => (lo, hi),
        };
        Self { lo, hi, from, to, log }
    }

    /// Extends the axis by `share` of its length at both ends, but not across 0 unless the values cross it.
    pub fn padded(mut self, share: f64) -> Self {
        if self.log {
            let factor = (self.hi / self.lo).powf(share);
            (self.lo, self.hi) = (self.lo / factor, self.hi * factor);
        } else {
            let pad = (self.hi - self.lo) * share;
            let (lo, hi) = (self.lo - pad, self.hi + pad);
            self.lo = if self.lo >= 0.0 { lo.max(0.0) } else { lo };
            self.hi = hi;
        }
        self
    }

    /// Caps the end of the axis at `limit`.
    pub fn capped(mut self, limit: f64) -> Self {
        if self.lo < limit {
            self.hi = self.hi.min(limit);
        }
        self
    }

    /// The pixel position of a value.
    pub fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value / self.lo).ln() / (self.hi / self.lo).ln()
        } else {
            (value - self.lo) / (self.hi - self.lo)
        };
        self.from + share.clamp(-0.05, 1.05) * (self.to - self.from)
    }

    /// About `count` round values on the axis, with their labels.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        if self.log && self.hi / self.lo >= 8.0 { self.decades(count) } else { self.even(count) }
    }

    fn even(&self, count: usize) -> Vec<(f64, String)> {
        let rough = (self.hi - self.lo) / count.max(1) as f64;
        let unit = 10f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * unit).find(|s| *s >= rough * 0.999).unwrap_or(10.0 * unit);
        let first = (self.lo / step - 1e-6).ceil();
        let last = (self.hi / step + 1e-6).floor();
        let number = (last - first).clamp(0.0, 50.0) as usize + 1;
        (0..number).map(|i| (first + i as f64) * step).map(|v| (v, label(v, step))).collect()
    }

    fn decades(&self, count: usize) -> Vec<(f64, String)> {
        let (first, last) = ((self.lo.log10() - 1e-9).ceil() as i32, (self.hi.log10() + 1e-9).floor() as i32);
        let stride = ((last - first + 1) as usize).div_ceil(count.max(1)).max(1);
        let fine = (last - first) < 2;
        let inside = |v: &f64| *v >= self.lo * 0.999 && *v <= self.hi * 1.001;
        let mantissas: &[f64] = if fine { &[1.0, 2.0, 5.0] } else { &[1.0] };
        ((first - 1)..=last)
            .rev()
            .filter(|d| ((last - d) as usize).is_multiple_of(stride))
            .flat_map(|d| mantissas.iter().map(move |m| m * 10f64.powi(d)))
            .filter(inside)
            .map(|v| (v, label(v, v)))
            .collect()
    }
}

/// A tick's label, with as many digits as `step` needs.
fn label(value: f64, step: f64) -> String {
    let size = value.abs();
    if size != 0.0 && (size >= 1e6 || step < 1e-3) {
        let text = format!("{value:.1e}");
        return text.replace(".0e", "e");
    }
    if size >= 1e4 && (value / 1e3).fract() == 0.0 {
        return format!("{}k", value / 1e3);
    }
    let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 6.0) as usize;
    let value = if value == 0.0 { 0.0 } else { value };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale, count: usize) -> Vec<String> {
        scale.ticks(count).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Scale::over([61.3, 92.7].into_iter(), 0.0, 100.0, false);
        assert_eq!(labels(&scale, 5), ["70", "80", "90"]);
        assert_eq!(
            labels(&Scale::over([0.0, 0.05].into_iter(), 0.0, 1.0, false), 5),
            ["0.00", "0.01", "0.02", "0.03", "0.04", "0.05"]
        );
        assert_eq!(
            labels(&Scale::over([0.0, 40_000.0].into_iter(), 0.0, 1.0, false), 4),
            ["0", "10k", "20k", "30k", "40k"]
        );
        assert_eq!(labels(&Scale::over([1e-5, 5e-4].into_iter(), 0.0, 1.0, false), 4), ["2e-4", "4e-4"]);
    }

    #[test]
    fn a_logarithmic_axis_has_decades() {
        let scale = Scale::over([0.01, 100.0].into_iter(), 0.0, 400.0, true);
        assert_eq!(scale.at(1.0), 200.0);
        assert_eq!(labels(&scale, 5), ["100", "10", "1", "0.1", "0.01"]);
        let short = Scale::over([0.3, 6.0].into_iter(), 0.0, 1.0, true);
        assert_eq!(labels(&short, 5), ["1", "2", "5", "0.5"]);
        let flat = Scale::over([0.0, 10.0].into_iter(), 0.0, 100.0, true);
        assert_eq!(flat.at(5.0), 50.0, "0 has no logarithm, so the axis is linear");
    }

    #[test]
    fn equal_values_and_no_values_make_an_axis() {
        assert_eq!(Scale::over([80.0, 80.0].into_iter(), 0.0, 100.0, false).at(80.0), 50.0);
        assert_eq!(Scale::over([0.0].into_iter(), 0.0, 100.0, false).at(0.0), 50.0);
        assert!(Scale::over(std::iter::empty(), 0.0, 100.0, false).at(0.5).is_finite());
        assert!(Scale::over([f64::NAN].into_iter(), 0.0, 100.0, true).at(0.5).is_finite());
    }
}
