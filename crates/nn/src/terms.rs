//! A loss as named, weighted terms.
use tch::{Kind, Tensor};

/// One summand of the loss.
#[derive(Debug)]
pub struct Term {
    /// Its name in the log, `method.term`.
    pub name: String,
    /// Its factor in the total.
    pub weight: f64,
    /// Its unweighted value, a scalar on the device.
    pub value: Tensor,
}

/// The summands of a step's loss, in a fixed order.
#[derive(Debug, Default)]
pub struct Terms(Vec<Term>);

impl Terms {
    /// Adds a summand.
    pub fn push(&mut self, name: impl Into<String>, weight: f64, value: Tensor) {
        self.0.push(Term { name: name.into(), weight, value });
    }

    /// Makes a loss of one term with weight 1.
    pub fn one(name: impl Into<String>, value: Tensor) -> Self {
        let mut terms = Self::default();
        terms.push(name, 1.0, value);
        terms
    }

    /// Adds another loss, its names prefixed with `prefix.` and its weights multiplied by `weight`.
    pub fn extend(&mut self, prefix: &str, weight: f64, other: Self) {
        self.0.extend(other.0.into_iter().map(|t| Term {
            name: format!("{prefix}.{}", t.name),
            weight: t.weight * weight,
            value: t.value,
        }));
    }

    /// The summands.
    pub fn iter(&self) -> std::slice::Iter<'_, Term> {
        self.0.iter()
    }

    /// Number of summands.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stacked unweighted values (number of terms), detached from the graph, still on the device.
    pub fn values(&self) -> Tensor {
        let values: Vec<Tensor> = self.0.iter().map(|t| t.value.detach().to_kind(Kind::Float)).collect();
        Tensor::stack(&values, 0)
    }

    /// `sum_k weight_k * value_k`, a differentiable scalar; `None` without terms.
    #[must_use]
    pub fn total(&self) -> Option<Tensor> {
        self.0.iter().map(|t| &t.value * t.weight).reduce(|a, b| a + b)
    }

    /// The same with the given weights (number of terms), on the values' device.
    #[must_use]
    pub fn total_by(&self, weights: &Tensor) -> Option<Tensor> {
        let weighted = |(k, t): (usize, &Term)| &t.value * weights.select(0, k as i64).to_kind(t.value.kind());
        self.0.iter().enumerate().map(weighted).reduce(|a, b| a + b)
    }
}

impl<'a> IntoIterator for &'a Terms {
    type Item = &'a Term;
    type IntoIter = std::slice::Iter<'a, Term>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The progress of training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// Optimizer steps of the whole run.
    pub steps: u64,
    /// Epochs done, with the fraction of the current one.
    pub epoch: f64,
}
