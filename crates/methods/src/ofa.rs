//! OFA-KD: one-for-all distillation between heterogeneous architectures (Hao et al. 2023, arXiv 2310.19444, equations 5
//! and 6).
//!
//! ```text
//! z_i    = W_i P_i( X_s^i ) + b_i                            (B,C)   exit of stage i; P_i as in HCD, which adopted it
//! L(z)   = mean_b sum_c  -[ (p_t + m)^eps - m ]_c log p_c            p = softmax(z/T), p_t = softmax(z_t/T),
//!                                                                    m the label, one-hot
//! L_ofa  = w_kd L(z_s) + w_ofa sum_i L(z_i)
//! ```
//! Only the teacher's logits are read. With eps = 1 this is the cross-entropy with the teacher's distribution; eps > 1
//! raises the target class. For a mixed label, m is the class with the largest share, as in the authors' code. With the
//! shares themselves and eps > 1, the target would be negative for small p_t, and the loss would have no lower bound.
use heterodyne_nn::{Labels, Result, TapSpec, Terms, labels::log_softmax, layers::Linear};
use heterodyne_settings::{Checked, range, settings};
use tch::{Kind, Tensor};

use crate::{
    BuildContext, Context, Method, MethodSettings,
    parts::{Head, Levels, TensorExt, autocast_off, check_classes, float, stage, stage_spec},
};

settings! {
    /// One-for-all distillation.
    pub struct Ofa {
        /// Weight of the loss of the final logits.
        w_kd: f64 = 1.0, ThirdParty;
        /// Weight of the sum of the exits' losses.
        w_ofa: f64 = 1.0, ThirdParty;
        /// Exponent of the target, at least 1: 1 on CIFAR-100, 1.5 on ImageNet.
        eps: f64 = 1.0, Published, between(1.0, 100.0);
        /// Softens both distributions, T.
        temperature: f64 = 1.0, ThirdParty, positive;
        /// Stages with an exit.
        levels: Levels = Levels::every(), ThirdParty;
    }
}

impl MethodSettings for Ofa {
    const NAME: &str = "ofa";
    const SOURCE: &str = "Hao et al. 2023 (arXiv 2310.19444)";

    fn demands(&self) -> Checked {
        range::weights(&[("w_kd", self.w_kd), ("w_ofa", self.w_ofa)])
    }

    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        check_classes(Self::NAME, student, teacher)?;
        let levels = self.exits(student, teacher);
        levels.into_iter().try_for_each(|level| Head::check(Self::NAME, level, student, teacher, batch))
    }

    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>> {
        let BuildContext { scope, student, teacher, .. } = *pair;
        let exit = |level: usize| {
            let spec = stage_spec(Self::NAME, "student", level, student, teacher)?;
            let scope = scope.sub(format!("level{level}"));
            // The widths of the embeddings; the stage's own width if a network has no embedding tap.
            let own = student.embedding.unwrap_or(spec.channels);
            let head = Head::new(&scope.sub("head"), &spec, level, own.max(teacher.embedding.unwrap_or(0)), own)?;
            let classifier = Linear::new(&scope.sub("classifier"), head.width(), student.classes)?;
            Ok(Exit { level, head, classifier })
        };
        let exits = self.exits(student, teacher).into_iter().map(exit).collect::<Result<_>>()?;
        Ok(Box::new(OfaLoss { settings: self.clone(), exits, kind: scope.kind() }))
    }
}

impl Ofa {
    /// The stages whose exits are used.
    fn exits(&self, student: &TapSpec, teacher: &TapSpec) -> Vec<usize> {
        if self.w_ofa > 0.0 { self.levels.of(student, teacher) } else { Vec::new() }
    }
}

struct OfaLoss {
    settings: Ofa,
    exits: Vec<Exit>,
    kind: Kind,
}

/// The classifier of one stage.
struct Exit {
    level: usize,
    head: Head,
    classifier: Linear,
}

impl Method for OfaLoss {
    fn reads_stages(&self) -> bool {
        !self.exits.is_empty()
    }

    fn is_recordable(&self) -> bool {
        true
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let Ofa { w_kd, w_ofa, eps, temperature, .. } = self.settings;
        let (z_s, z_t) = (step.student.logits.shallow_clone(), step.teacher.logits.detach());
        let exit = |e: &Exit| Ok(e.classifier.forward(&e.head.forward(stage(step.student, e.level, "student")?)?));
        let exits: Vec<Tensor> = self.exits.iter().map(exit).collect::<Result<_>>()?;
        let _float32 = autocast_off(z_s.device())?;
        let target_bc = target(&float(&z_t), step.labels, eps, temperature);
        let loss = |z: &Tensor| {
            let log_p_bc = log_softmax(&(float(z) / temperature));
            -(&target_bc.to_kind(log_p_bc.kind()) * log_p_bc).sum_over(1).mean_all()
        };
        let mut terms = Terms::default();
        if w_kd > 0.0 {
            terms.push("kd", w_kd, loss(&z_s));
        }
        if let Some(first) = exits.first() {
            let rest = exits[1..].iter().map(|z| loss(&z.to_kind(self.kind)));
            terms.push("ofa", w_ofa, rest.fold(loss(&first.to_kind(self.kind)), |sum, l| sum + l));
        }
        Ok(terms)
    }
}

/// (p_t + m)^eps - m, (B,C).
fn target(z_t: &Tensor, labels: &Labels, eps: f64, temperature: f64) -> Tensor {
    let p_t = (z_t / temperature).softmax(-1, None::<Kind>);
    if eps == 1.0 {
        return p_t;
    }
    let m = labels.index().one_hot(p_t.size()[1]).to_kind(p_t.kind());
    (p_t + &m).pow_tensor_scalar(eps) - m
}
