//! Loss values between two logging steps, collected on the device and fetched together.
use indexmap::IndexMap;
use tch::{Kind, Tensor};

use crate::{Error, Result, World, learner::StepValues};

/// Values of the steps since the last fetch.
#[derive(Debug, Default)]
pub struct Meter {
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    step: u64,
    epoch: f64,
    lr: f64,
    names: Vec<String>,
    weights: Vec<f64>,
    values: Tensor,
}

/// Means over the steps of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The weighted total.
    pub loss: f64,
    /// Every unweighted term, averaged over the steps that had it.
    pub terms: IndexMap<String, f64>,
    /// The gradient's 2-norm before clipping.
    pub grad_norm: f64,
    /// The learning rate of the last step.
    pub lr: f64,
}

impl Meter {
    /// Stores a step's values without fetching them.
    pub fn add(&mut self, step: u64, epoch: f64, lr: f64, values: StepValues) {
        self.pending.push(Pending {
            step,
            epoch,
            lr,
            names: values.names,
            weights: values.weights,
            values: values.values,
        });
    }

    /// Number of steps not fetched yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether all steps have been fetched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Fetches all stored values in one transfer and returns their means, over all processes too. An error names the
    /// first value that is not finite, or `teacher` if the value came from there.
    pub fn fetch(&mut self, teacher: Option<&str>, world: &World) -> Result<Option<Window>> {
        let pending = std::mem::take(&mut self.pending);
        let Some(lr) = pending.last().map(|last| last.lr) else { return Ok(None) };
        let all: Vec<&Tensor> = pending.iter().map(|p| &p.values).collect();
        let flat = Tensor::cat(&all, 0).to_kind(Kind::Double) / f64::from(world.size());
        world.sum(&flat)?;
        let flat = flat.to_device(tch::Device::Cpu).contiguous();
        let mut values = vec![0.0f64; flat.numel()];
        let length = values.len();
        flat.f_copy_data(&mut values, length).map_err(heterodyne_nn::Error::from)?;

        let (mut loss, mut grad_norm, mut terms) = (Mean::default(), Mean::default(), IndexMap::<String, Mean>::new());
        let mut rest = values.as_slice();
        for p in &pending {
            let (row, behind) = rest.split_at(p.names.len() + 3);
            rest = behind;
            let (said, row) = (row[row.len() - 1], &row[..row.len() - 1]);
            if let Some(bad) = row.iter().position(|v| !v.is_finite()) {
                if let (Some(teacher), false) = (teacher, said.is_finite()) {
                    return Err(Error::Teacher { step: p.step, epoch: p.epoch, teacher: teacher.to_owned() });
                }
                let largest = (bad >= p.names.len()).then(|| p.largest(row)).flatten();
                return Err(Error::NonFinite {
                    step: p.step,
                    epoch: p.epoch,
                    what: p.column(bad),
                    value: row[bad],
                    lr: p.lr,
                    largest,
                });
            }
            for (name, value) in p.names.iter().zip(row) {
                terms.entry(name.clone()).or_default().add(*value);
            }
            loss.add(row[p.names.len()]);
            grad_norm.add(row[p.names.len() + 1]);
        }
        let terms = terms.into_iter().map(|(name, mean)| (name, mean.value())).collect();
        Ok(Some(Window { loss: loss.value(), terms, grad_norm: grad_norm.value(), lr }))
    }
}

impl Pending {
    /// The largest weighted term, with its weight.
    fn largest(&self, row: &[f64]) -> Option<String> {
        let parts =
            self.names.iter().zip(&self.weights).zip(row).map(|((name, weight), value)| (weight * value, name, weight));
        let (_, name, weight) = parts.max_by(|a, b| a.0.abs().total_cmp(&b.0.abs()))?;
        Some(format!("`{name}` (weight {weight})"))
    }

    fn column(&self, index: usize) -> String {
        match self.names.get(index) {
            Some(name) => format!("the loss term `{name}`"),
            None if index == self.names.len() => "the total loss".to_owned(),
            None => "the gradient norm".to_owned(),
        }
    }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    fn value(&self) -> f64 {
        self.sum / self.count
    }
}
