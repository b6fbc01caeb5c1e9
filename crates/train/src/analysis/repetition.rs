//! Compares a run with its repetition: measurements, accuracy and weights.
use std::collections::HashMap;

use heterodyne_nn::{Tensors, file};
use heterodyne_run::{Eval, Metric, RunFolder, metrics};
use tch::{Kind, Tensor};

use crate::{Result, cache::key};

/// A run next to its repetition.
#[derive(Clone, Debug)]
pub struct Repetition {
    /// Windows of steps that both runs have logged. A run that was interrupted has others there.
    pub windows: usize,
    /// Evaluations that both runs have.
    pub evals: usize,
    /// The first measurement that differs.
    pub first: Option<Divergence>,
    /// The last evaluations, of the run and of its repetition.
    pub last: Option<(Eval, Eval)>,
    /// The weights of the student, file by file.
    pub weights: Vec<Compared>,
}

/// A measurement that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// Optimizer steps done.
    pub step: u64,
    /// Its name.
    pub what: String,
    /// Its value in the run; `None` if it has none of this name.
    pub then: Option<f64>,
    /// Its value in the repetition.
    pub now: Option<f64>,
}

/// The weights of one file in both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// `last`, `best` or `ema`.
    pub name: &'static str,
    /// Number of tensors, in either run.
    pub tensors: usize,
    /// Number of tensors that differ in at least one bit, or that one run lacks.
    pub different: usize,
    /// The largest absolute difference of two values.
    pub largest: f64,
}

impl Repetition {
    /// Compares two finished runs.
    ///
    /// # Errors
    /// A file of one of them is damaged, or missing in the second.
    pub fn of(then: &RunFolder, now: &RunFolder) -> Result<Self> {
        let (a, b) = (then.read_summary()?, now.read_summary()?);
        let lines = |folder: &RunFolder, extent| match extent {
            Some(extent) => metrics::read_ended(&folder.metrics(), extent),
            None => metrics::read(&folder.metrics()),
        };
        let (windows, evals, first) = course(&lines(then, a.metrics)?, &lines(now, b.metrics)?);
        let names = ["last", "best", "ema"].into_iter().filter(|name| then.weights(name).is_file());
        let weights = names
            .map(|name| {
                let ((a, _), (b, _)) = (file::read(&then.weights(name))?, file::read(&now.weights(name))?);
                compared(name, &a, &b)
            })
            .collect::<Result<_>>()?;
        Ok(Self { windows, evals, first, last: a.last.zip(b.last), weights })
    }

    /// Whether there is something to compare and nothing differs. Time does not count.
    #[must_use]
    pub fn is_identical(&self) -> bool {
        self.windows + self.evals + self.weights.len() > 0
            && self.first.is_none()
            && self.weights.iter().all(|file| file.different == 0)
    }

    /// By how many points the final accuracy has changed.
    #[must_use]
    pub fn change(&self) -> f64 {
        self.last.as_ref().map_or(0.0, |(then, now)| now.top1 - then.top1)
    }
}

/// What a measurement is of: the steps of a window, or the step, split and weights of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Of {
    Window(u64, u64),
    Eval(u64, String, String),
}

/// Numbers by name.
type Numbers = Vec<(String, f64)>;

/// The measurements in order, each with its step and its numbers other than times.
fn measured(metrics: &[Metric]) -> Vec<(Of, u64, Numbers)> {
    let mut before = 0;
    let timed = |name: &str| ["images_per_second", "data_wait", "seconds"].contains(&name);
    let mut all = Vec::new();
    for metric in metrics {
        let step = metric.step();
        let of = match metric {
            Metric::Train { .. } => Of::Window(std::mem::replace(&mut before, step), step),
            Metric::Eval(eval) => Of::Eval(step, eval.split.clone(), eval.weights.clone()),
        };
        all.push((of, step, metric.numbers().into_iter().filter(|(name, _)| !timed(name)).collect()));
    }
    all
}

/// Numbers of windows and of evaluations in common, and the first that differ.
fn course(then: &[Metric], now: &[Metric]) -> (usize, usize, Option<Divergence>) {
    let now: HashMap<Of, Numbers> = measured(now).into_iter().map(|(of, _, numbers)| (of, numbers)).collect();
    let (mut windows, mut evals, mut first) = (0, 0, None);
    for (of, step, then) in measured(then) {
        let Some(now) = now.get(&of) else { continue };
        let (count, kind) = match &of {
            Of::Window(..) => (&mut windows, "training".to_owned()),
            Of::Eval(_, split, _) => (&mut evals, split.clone()),
        };
        *count += 1;
        first = first.or_else(|| divergence(step, &kind, &then, now));
    }
    (windows, evals, first)
}

fn divergence(step: u64, kind: &str, then: &[(String, f64)], now: &[(String, f64)]) -> Option<Divergence> {
    let value = |of: &[(String, f64)], name: &str| of.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
    let mut names = then.iter().chain(now).map(|(name, _)| name);
    let name = names.find(|name| value(then, name).map(f64::to_bits) != value(now, name).map(f64::to_bits))?;
    Some(Divergence { step, what: format!("{kind} {name}"), then: value(then, name), now: value(now, name) })
}

fn compared(name: &'static str, then: &Tensors, now: &Tensors) -> Result<Compared> {
    let mut all = Compared { name, tensors: 0, different: 0, largest: 0.0 };
    for (name, a) in then {
        all.tensors += 1;
        let Some(b) = now.get(name).filter(|b| b.size() == a.size() && b.kind() == a.kind()) else {
            all.different += 1;
            continue;
        };
        if key::bytes(a)? != key::bytes(b)? {
            all.different += 1;
            all.largest = all.largest.max(distance(a, b)?);
        }
    }
    let added = now.keys().filter(|name| !then.contains_key(*name)).count();
    all.tensors += added;
    all.different += added;
    Ok(all)
}

/// The largest absolute difference.
fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let double = |t: &Tensor| t.f_to_kind(Kind::Double);
    Ok(double(a)?.f_sub(&double(b)?)?.f_abs()?.f_max()?.double_value(&[]))
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;

    fn window(step: u64, loss: f64, seconds: f64) -> Metric {
        let terms = IndexMap::from([("kd".to_owned(), 0.5)]);
        let (epoch, grad_norm) = (step as f64 / 10.0, Some(1.0));
        Metric::Train { step, epoch, lr: 0.1, loss, terms, grad_norm, images_per_second: 9.0, data_wait: 0.0, seconds }
    }

    fn eval(step: u64, top1: f64) -> Metric {
        let (split, weights) = ("test".to_owned(), "live".to_owned());
        Metric::Eval(Eval { step, epoch: 1.0, split, weights, top1, top5: None, loss: 1.0, images: 8, seconds: 2.0 })
    }

    #[test]
    fn times_do_not_count() {
        let (a, b) = ([window(5, 1.0, 3.0), eval(5, 50.0)], [window(5, 1.0, 4.0), eval(5, 50.0)]);
        assert_eq!(course(&a, &b), (1, 1, None));
    }

    #[test]
    fn the_first_difference_is_found_and_named() {
        let a = [window(5, 1.0, 0.0), window(10, 0.5, 0.0), eval(10, 50.0)];
        let b = [window(5, 1.0, 0.0), window(10, 0.5 + f64::EPSILON, 0.0), eval(10, 62.5)];
        let (_, _, first) = course(&a, &b);
        let what = "training loss".to_owned();
        assert_eq!(first, Some(Divergence { step: 10, what, then: Some(0.5), now: Some(0.5 + f64::EPSILON) }));
        let (_, _, first) = course(&a[2..], &b[2..]);
        assert_eq!(first.map(|d| (d.what, d.then, d.now)), Some(("test top1".to_owned(), Some(50.0), Some(62.5))));
    }

    #[test]
    fn means_over_other_windows_are_not_compared() {
        // The run was interrupted after step 3, and logged what it had.
        let a = [window(3, 1.2, 0.0), window(5, 0.7, 0.0), window(10, 0.5, 0.0)];
        let b = [window(5, 1.0, 0.0), window(10, 0.5, 0.0)];
        assert_eq!(course(&a, &b), (1, 0, None));
    }

    #[test]
    fn weights_are_compared_bit_by_bit() {
        let tensors = |values: &[f32]| {
            Tensors::from([("w".to_owned(), Tensor::from_slice(values)), ("count".to_owned(), Tensor::from(3_i64))])
        };
        let all = |different, largest| Compared { name: "last", tensors: 2, different, largest };
        assert_eq!(compared("last", &tensors(&[1.0, 2.0]), &tensors(&[1.0, 2.0])).unwrap(), all(0, 0.0));
        assert_eq!(compared("last", &tensors(&[1.0, 2.0]), &tensors(&[1.0, 2.5])).unwrap(), all(1, 0.5));
        assert_eq!(compared("last", &tensors(&[0.0]), &tensors(&[-0.0])).unwrap(), all(1, 0.0));
        assert_eq!(compared("last", &tensors(&[1.0]), &tensors(&[1.0, 2.0])).unwrap(), all(1, 0.0));
        let (mut more, own) = (tensors(&[1.0]), tensors(&[1.0]));
        more.insert("new".to_owned(), Tensor::from(1.0));
        assert_eq!(compared("last", &own, &more).unwrap(), Compared { tensors: 3, different: 1, ..all(0, 0.0) });
        assert_eq!(compared("last", &more, &own).unwrap(), Compared { tensors: 3, different: 1, ..all(0, 0.0) });
    }
}
