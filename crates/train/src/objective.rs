//! The loss of a run: cross-entropy and the weighted methods, term by term.
use heterodyne_methods::{Context, Method};
use heterodyne_nn::{Labels, Output, ParamStore, Progress, Terms};

use crate::{Error, Result};

/// One method with its weight.
pub struct Weighted {
    /// Its name in the recipe and the log.
    pub name: String,
    /// Factor of all its terms.
    pub weight: f64,
    /// The method, built for the pair.
    pub method: Box<dyn Method>,
}

/// `w_ce CE(z_s, y) + sum_k w_k L_k` (METHODS, "The total").
pub struct Objective {
    /// Weight of the cross-entropy.
    pub ce: f64,
    /// Label smoothing of the cross-entropy.
    pub smoothing: f64,
    /// The methods, in the recipe's order.
    pub methods: Vec<Weighted>,
    /// The methods' learnable parts.
    pub heads: ParamStore,
}

impl Objective {
    /// The terms of one step; the student's graph is in them.
    pub fn terms(&self, student: &Output, teacher: Option<&Output>, labels: &Labels, progress: Progress) -> Result<Terms> {
        let mut terms = Terms::default();
        if self.ce > 0.0 {
            terms.push("ce", self.ce, labels.cross_entropy(&student.logits, self.smoothing));
        }
        if self.methods.is_empty() {
            return Ok(terms);
        }
        let teacher = teacher.ok_or_else(|| Error::Plan("a method needs a teacher's output".to_owned()))?;
        let context = Context { student, teacher, labels, smoothing: self.smoothing, progress };
        for m in &self.methods {
            terms.extend(&m.name, m.weight, m.method.loss(&context)?);
        }
        Ok(terms)
    }
}
