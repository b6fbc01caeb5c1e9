//! The loss of a run: cross-entropy and the weighted methods, term by term.
use heterodyne_methods::{Context, Method, Ranks, TeacherSignals};
use heterodyne_nn::{Output, ParamStore, Progress, Terms};

use super::input::{StepInput, TeacherOutput};
use crate::{Error, Result, plan::Weight};

/// One method with its weight.
pub struct LossTerm {
    /// Its name in the recipe and the log.
    pub name: String,
    /// Factor of all its terms as a function of the epoch.
    pub weight: Weight,
    /// The method, built for the two networks.
    pub method: Box<dyn Method>,
}

/// A term's weight as a function of the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The factor that does not change: the cross-entropy's, or the method's own.
    own: f64,
    /// The method whose weight it is multiplied by.
    method: Option<usize>,
}

/// `w_ce CE(z_s, y) + sum_k w_k L_k`, with `w_k` a function of the epoch.
pub struct DistillLoss {
    /// Weight of the cross-entropy.
    pub ce: f64,
    /// Label smoothing of the cross-entropy.
    pub smoothing: f64,
    /// Epochs of the run, for weights that change.
    pub epochs: f64,
    /// The methods, in the recipe's order.
    pub methods: Vec<LossTerm>,
    /// The methods' learnable parts.
    pub heads: ParamStore,
}

impl DistillLoss {
    /// Whether a method reads more than the teacher's logits.
    #[must_use]
    pub fn reads_teacher_taps(&self) -> bool {
        self.methods.iter().any(|m| !m.method.signals().is_empty())
    }

    /// Whether a method reads more than the student's logits.
    #[must_use]
    pub fn reads_student_taps(&self) -> bool {
        self.methods.iter().any(|m| m.method.reads_stages())
    }

    /// Whether a method still learns from the teacher at `epoch`. A method whose weight has decayed to 0 is no longer
    /// computed.
    #[must_use]
    pub fn needs_teacher(&self, epoch: f64) -> bool {
        self.methods.iter().any(|m| !self.has_ended(m, epoch))
    }

    /// Whether each method is still computed at `epoch`.
    #[must_use]
    pub fn active(&self, epoch: f64) -> Vec<bool> {
        self.methods.iter().map(|m| !self.has_ended(m, epoch)).collect()
    }

    /// The weights of terms at `epoch`.
    #[must_use]
    pub fn weights(&self, shares: &[Share], epoch: f64) -> Vec<f64> {
        let factor = |method: usize| self.methods[method].weight.at(epoch, self.epochs);
        shares.iter().map(|share| share.method.map_or(share.own, |method| share.own * factor(method))).collect()
    }

    fn has_ended(&self, m: &LossTerm, epoch: f64) -> bool {
        m.weight.end(self.epochs).is_some_and(|end| epoch >= end)
    }

    /// Reduces the teacher's output to what the methods read.
    pub fn observe(&self, teacher: &Output) -> Result<TeacherOutput> {
        let signals = self.methods.iter().map(|m| Ok(m.method.observe(teacher)?)).collect::<Result<_>>()?;
        Ok(TeacherOutput { logits: teacher.logits.shallow_clone(), signals })
    }

    /// The terms of one step, with the student's graph, and what their weights are made of.
    pub fn terms(
        &self,
        student: &Output,
        input: &StepInput,
        progress: Progress,
        ranks: &dyn Ranks,
    ) -> Result<(Terms, Vec<Share>)> {
        let StepInput { labels, samples, teacher, .. } = input;
        let (mut terms, mut shares) = (Terms::default(), Vec::new());
        if self.ce > 0.0 {
            terms.push("ce", self.ce, labels.cross_entropy(&student.logits, self.smoothing));
            shares.push(Share { own: self.ce, method: None });
        }
        if !self.needs_teacher(progress.epoch) {
            return Ok((terms, shares));
        }
        let teacher = teacher.as_ref().ok_or_else(|| Error::Plan("a method needs a teacher's output".to_owned()))?;
        let methods = self.methods.iter().zip(&teacher.signals).enumerate();
        for (number, (m, signals)) in methods.filter(|(_, (m, _))| !self.has_ended(m, progress.epoch)) {
            let teacher = TeacherSignals { logits: &teacher.logits, signals };
            let context = Context { student, teacher, labels, samples, smoothing: self.smoothing, progress, ranks };
            let own = m.method.loss(&context)?;
            shares.extend(own.iter().map(|term| Share { own: term.weight, method: Some(number) }));
            terms.extend(&m.name, m.weight.at(progress.epoch, self.epochs), own);
        }
        Ok((terms, shares))
    }
}
