//! Mean, sample standard deviation, and differences paired by seed.
use indexmap::IndexMap;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Accuracy (0..100) by seed.
pub type Seeds = IndexMap<u64, f64>;

/// Probability below the upper end of a two-sided interval of 95 %.
const UPPER: f64 = 0.975;

/// The mean difference of two rows over the seeds that both have.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Mean of the seeds' differences, in points.
    pub mean: f64,
    /// Its 95 % interval, from Student's t; `None` for a single seed.
    pub interval: Option<(f64, f64)>,
    /// Each seed's difference.
    pub each: Seeds,
}

impl Difference {
    /// `own` minus `base`; `None` without a common seed.
    #[must_use]
    pub fn paired(own: &Seeds, base: &Seeds) -> Option<Self> {
        let each: Seeds = own.iter().filter_map(|(seed, value)| Some((*seed, value - base.get(seed)?))).collect();
        let values: Vec<f64> = each.values().copied().collect();
        let mean = mean(&values)?;
        let half = std(&values).and_then(|std| {
            let count = values.len() as f64;
            let t = StudentsT::new(0.0, 1.0, count - 1.0).ok()?.inverse_cdf(UPPER);
            Some(t * std / count.sqrt())
        });
        Some(Self { mean, interval: half.map(|half| (mean - half, mean + half)), each })
    }
}

impl std::fmt::Display for Difference {
    /// `+4.07 [+1.59, +6.54]`, or the mean alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:+.2}", self.mean)?;
        self.interval.map_or(Ok(()), |(low, high)| write!(f, " [{low:+.2}, {high:+.2}]"))
    }
}

/// Arithmetic mean; `None` for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation (n - 1); `None` for fewer than two values.
pub fn std(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// `71.20 ± 0.35`; the mean alone for a single value, a dash for none.
pub fn spread(values: &[f64]) -> String {
    match (mean(values), std(values)) {
        (Some(mean), Some(std)) => format!("{mean:.2} ± {std:.2}"),
        (Some(mean), None) => format!("{mean:.2}"),
        _ => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_by_hand() {
        // Mean 6; deviations -4, -2, 0, 6 make 56; 56 / 3.
        let values = [2.0, 4.0, 6.0, 12.0];
        assert_eq!(mean(&values), Some(6.0));
        assert_eq!(std(&values), Some((56.0f64 / 3.0).sqrt()));
        assert_eq!((mean(&[]), std(&[]), std(&[1.0])), (None, None, None));
        assert_eq!(spread(&values), "6.00 ± 4.32");
        assert_eq!(spread(&[70.5]), "70.50");
        assert_eq!(spread(&[]), "–");
    }

    /// mean ± t(0.975, n - 1) std / sqrt(n), with t from tables of Student's distribution: 12.706205 for 1 degree of
    /// freedom, 4.302653 for 2, 2.364624 for 7, 2.045230 for 29.
    #[test]
    fn intervals_agree_with_tabled_quantiles() {
        for (count, t) in [(2u32, 12.706_204_736), (3, 4.302_652_730), (8, 2.364_624_252), (30, 2.045_229_642)] {
            // 1, 2, .., n: mean (n + 1) / 2 and variance n (n + 1) / 12.
            let own: Seeds = (0..count).map(|seed| (u64::from(seed), f64::from(seed) + 11.0)).collect();
            let base: Seeds = (0..count).map(|seed| (u64::from(seed), 10.0)).collect();
            let found = Difference::paired(&own, &base).unwrap();
            let n = f64::from(count);
            let (mean, half) = ((n + 1.0) / 2.0, t * ((n + 1.0) / 12.0).sqrt());
            assert!((found.mean - mean).abs() < 1e-12);
            let (low, high) = found.interval.unwrap();
            assert!((low - (mean - half)).abs() < 1e-6 && (high - (mean + half)).abs() < 1e-6, "{count}: {low} {high}");
        }
    }

    #[test]
    fn differences_are_paired_by_seed_whatever_the_order() {
        let own: Seeds = [(2, 87.0), (0, 82.0), (1, 83.0), (9, 10.0)].into();
        let base: Seeds = [(0, 80.0), (1, 81.0), (2, 82.0), (7, 99.0)].into();
        // 2, 2 and 5: mean 3, standard deviation sqrt(3), half of the interval 4.302653 sqrt(3) / sqrt(3).
        let found = Difference::paired(&own, &base).unwrap();
        assert_eq!(found.to_string(), "+3.00 [-1.30, +7.30]");
        assert_eq!(found.each, Seeds::from([(2, 5.0), (0, 2.0), (1, 2.0)]));
        let single = Difference::paired(&Seeds::from([(0, 79.0)]), &base).unwrap();
        assert_eq!((single.to_string().as_str(), single.interval), ("-1.00", None));
        assert_eq!(Difference::paired(&Seeds::from([(3, 79.0)]), &base), None);
    }
}
