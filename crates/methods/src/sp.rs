//! SP: similarity-preserving distillation (Tung and Mori 2019, arXiv 1907.09682, equations 1 to 4).
//!
//! ```text
//! A = X as rows, one per image            (B, CHW)
//! G = A A^T, each row divided by its norm (B,B)
//! L_sp = sum over levels of  |G_s - G_t|_F^2 / B^2
//! ```
use heterodyne_nn::{Output, Result, Scope, TapSpec, Terms};
use heterodyne_settings::settings;
use tch::{Kind, Reduction, Tensor};

use crate::{
    Context, Method, MethodSettings, Signal,
    parts::{
        levels::Levels,
        mode::exact,
        pair::{check_batch, signal, stage, stage_pairs},
    },
};

/// Added to the square of a norm.
const EPS: f64 = 1e-12;

settings! {
    /// Similarity-preserving distillation.
    pub struct Sp {
        /// Stages whose similarities are compared, summed; the paper takes the last one.
        levels: Levels = Levels::Stages(vec![4]), Published;
    }
}

impl MethodSettings for Sp {
    const NAME: &str = "sp";
    const TITLE: &str = "Similarity-preserving distillation";
    const SOURCE: &str = "Tung and Mori 2019 (arXiv 1907.09682)";

    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        check_batch(Self::NAME, batch)?;
        stage_pairs(Self::NAME, &self.levels, student, teacher).map(drop)
    }

    fn build(
        &self,
        scope: &Scope,
        student: &TapSpec,
        teacher: &TapSpec,
        _sample_classes: &[i64],
    ) -> Result<Box<dyn Method>> {
        let pairs = stage_pairs(Self::NAME, &self.levels, student, teacher)?;
        let levels =
            pairs.into_iter().map(|p| (p.level, p.teacher.channels * p.teacher.grid.0 * p.teacher.grid.1)).collect();
        Ok(Box::new(Built { levels, kind: scope.kind() }))
    }
}

struct Built {
    /// Each level with the number of the teacher's values.
    levels: Vec<(usize, i64)>,
    kind: Kind,
}

/// G of rows (B,N).
fn similarities(a_bn: &Tensor) -> Tensor {
    let g_bb = a_bn.mm(&a_bn.tr());
    let norm = (g_bb.square().sum_dim_intlist([1i64].as_slice(), true, None::<Kind>) + EPS).sqrt();
    g_bb / norm
}

impl Method for Built {
    fn signals(&self) -> Vec<Signal> {
        // A product of rows does not depend on the order within them, so that tokens stay as they lie.
        self.levels
            .iter()
            .map(|(level, n)| Signal { name: format!("stage{level} as a row"), shape: vec![*n] })
            .collect()
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        let of = |(level, _): &(usize, i64)| {
            Ok(stage(teacher, *level, "teacher")?.detach().to_tokens().to_kind(self.kind).flatten(1, 2))
        };
        self.levels.iter().map(of).collect()
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let _exact = exact(step.student.logits.device())?;
        let value = |(i, (level, _)): (usize, &(usize, i64))| {
            let a_s = stage(step.student, *level, "student")?.to_tokens().to_kind(self.kind).flatten(1, 2);
            let g_t = similarities(&signal(step.teacher, i, self.kind)?);
            Ok(similarities(&a_s).mse_loss(&g_t, Reduction::Mean))
        };
        let values: Vec<Tensor> = self.levels.iter().enumerate().map(value).collect::<Result<_>>()?;
        let mut terms = Terms::default();
        terms.push("similarity", 1.0, Tensor::stack(&values, 0).sum(None::<Kind>));
        Ok(terms)
    }
}
