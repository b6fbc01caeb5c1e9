//! Mean and sample standard deviation.

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
}
