//! Loss values between two logging steps, gathered on the device and fetched together.
use indexmap::IndexMap;
use tch::{Kind, Tensor};

use crate::{Error, Result, step::StepValues};

/// Values of the steps since the last fetch.
#[derive(Debug, Default)]
pub struct Meter {
    names: Vec<String>,
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    step: u64,
    epoch: f64,
    lr: f64,
    values: Tensor,
}

/// Means over the steps of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The weighted total.
    pub loss: f64,
    /// Every unweighted term.
    pub terms: IndexMap<String, f64>,
    /// The gradient's 2-norm before clipping.
    pub grad_norm: f64,
}

impl Meter {
    /// Keeps a step's values, without fetching them.
    pub fn add(&mut self, step: u64, epoch: f64, lr: f64, values: StepValues) {
        self.names = values.names;
        self.pending.push(Pending { step, epoch, lr, values: values.values });
    }

    /// Number of steps that wait to be fetched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether no step waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Fetches all waiting values in one transfer and gives their means; an error names the first value that is not finite.
    pub fn fetch(&mut self) -> Result<Option<Window>> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(None);
        }
        let stacked: Vec<&Tensor> = pending.iter().map(|p| &p.values).collect();
        let table = Tensor::stack(&stacked, 0).to_kind(Kind::Double).to_device(tch::Device::Cpu).contiguous();
        let columns = self.names.len() + 2;
        let mut flat = vec![0.0f64; pending.len() * columns];
        table.f_copy_data(&mut flat, pending.len() * columns).map_err(heterodyne_nn::Error::from)?;
        for (p, row) in pending.iter().zip(flat.chunks(columns)) {
            if let Some(bad) = row.iter().position(|v| !v.is_finite()) {
                return Err(Error::NonFinite { step: p.step, epoch: p.epoch, what: self.column(bad), value: row[bad], lr: p.lr });
            }
        }
        let mean = |column: usize| flat.iter().skip(column).step_by(columns).sum::<f64>() / pending.len() as f64;
        Ok(Some(Window {
            loss: mean(columns - 2),
            terms: self.names.iter().enumerate().map(|(i, name)| (name.clone(), mean(i))).collect(),
            grad_norm: mean(columns - 1),
        }))
    }

    fn column(&self, index: usize) -> String {
        match self.names.get(index) {
            Some(name) => format!("the loss term `{name}`"),
            None if index == self.names.len() => "the total loss".to_owned(),
            None => "the norm of the gradient".to_owned(),
        }
    }
}
