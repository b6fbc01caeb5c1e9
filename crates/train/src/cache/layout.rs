//! The layout of a row in memory: the logits in float32, then the signals in bfloat16, concatenated. On disk, each of
//! them is a column, so methods share what they have in common.
use heterodyne_methods::Signal;
use serde_json::json;
use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use super::{column::Place, key::hex};
use crate::{
    Error, Result,
    learner::{DistillLoss, TeacherOutput},
};

/// The positions of logits and signals in a row.
#[derive(Debug)]
pub struct Layout {
    pub(super) classes: i64,
    /// Every signal once, even if several methods read it.
    pub(super) signals: Vec<Signal>,
    /// For each method, the indices of its signals in the list.
    pub(super) places: Vec<Vec<usize>>,
}

impl Layout {
    /// The layout for the methods of a loss.
    pub fn of(loss: &DistillLoss, classes: i64) -> Self {
        let mut signals: Vec<Signal> = Vec::new();
        let mut place = |signal: Signal| {
            signals.iter().position(|known| *known == signal).unwrap_or_else(|| {
                signals.push(signal);
                signals.len() - 1
            })
        };
        let places = loss.methods.iter().map(|m| m.method.signals().into_iter().map(&mut place).collect()).collect();
        Self { classes, signals, places }
    }

    /// Length of a row: a multiple of 4, so it can be read as float32.
    pub fn row_bytes(&self) -> usize {
        (4 * self.classes + 2 * self.signal_values() + 2 * self.padding()) as usize
    }

    /// The columns in the order of a row; a signal's with its description. Its name has a hash of the description:
    /// equal signals of any methods have one column.
    pub fn columns(&self) -> Vec<(Place, Option<String>)> {
        let logits = Place { name: "logits".to_owned(), bytes: 4 * self.classes as usize };
        let signal = |signal: &Signal| {
            let about = format!("{:#}\n", json!({ "signal": signal.name, "shape": signal.shape }));
            let key = hex(&Sha256::digest(&about));
            (Place { name: format!("signal-{}", &key[..16]), bytes: 2 * size(signal) as usize }, Some(about))
        };
        std::iter::once((logits, None)).chain(self.signals.iter().map(signal)).collect()
    }

    fn signal_values(&self) -> i64 {
        self.signals.iter().map(size).sum()
    }

    fn padding(&self) -> i64 {
        self.signal_values() % 2
    }

    /// Encodes an output as uint8 (B, row bytes) on its device.
    pub fn encode(&self, output: &TeacherOutput) -> Result<Tensor> {
        let batch = output.logits.size()[0];
        let mut values = Vec::with_capacity(self.signals.len() + 1);
        for (i, signal) in self.signals.iter().enumerate() {
            let own = output
                .signals
                .iter()
                .zip(&self.places)
                .find_map(|(own, places)| own.get(places.iter().position(|p| *p == i)?));
            let own = own.ok_or_else(|| Error::State(format!("the teacher's output lacks `{}`", signal.name)))?;
            values.push(own.f_to_kind(Kind::BFloat16)?.f_reshape([batch, -1])?);
        }
        let logits = output.logits.f_to_kind(Kind::Float)?.f_contiguous()?;
        values.push(Tensor::f_zeros([batch, self.padding()], (Kind::BFloat16, logits.device()))?);
        Ok(Tensor::f_cat(
            &[logits.f_view_dtype(Kind::Uint8)?, Tensor::f_cat(&values, 1)?.f_view_dtype(Kind::Uint8)?],
            1,
        )?)
    }

    /// The inverse of [`Layout::encode`]; signals stay bfloat16 and are views into `rows` (B, row bytes).
    pub fn decode(&self, rows: &Tensor) -> Result<TeacherOutput> {
        let batch = rows.size()[0];
        let logits = rows.f_view_dtype(Kind::Float)?.f_narrow(1, 0, self.classes)?.f_contiguous()?;
        let halves = rows.f_view_dtype(Kind::BFloat16)?;
        let mut first = 2 * self.classes;
        let mut signals = Vec::with_capacity(self.signals.len());
        for signal in &self.signals {
            let shape: Vec<i64> = std::iter::once(batch).chain(signal.shape.iter().copied()).collect();
            signals.push(halves.f_narrow(1, first, size(signal))?.f_view(shape.as_slice())?);
            first += size(signal);
        }
        let of_method = |places: &Vec<usize>| places.iter().map(|&p| signals[p].shallow_clone()).collect();
        Ok(TeacherOutput { logits, signals: self.places.iter().map(of_method).collect() })
    }
}

fn size(signal: &Signal) -> i64 {
    signal.shape.iter().product()
}
