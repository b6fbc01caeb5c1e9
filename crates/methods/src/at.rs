//! AT: paying more attention to attention (Zagoruyko and Komodakis 2017, arXiv 1612.03928, section 3.1).
//!
//! ```text
//! X at the smaller of both grids, by averaging
//! Q(X)  = vec( sum_c x_c^2 ),   q = Q / |Q|                (B,N)
//! L_at  = sum over levels of  mean( (q_s - q_t)^2 )        the form in which RepDistiller compares it, with weight 1000
//! ```
use heterodyne_nn::{Output, Result, Scope, TapSpec, Terms};
use heterodyne_settings::settings;
use tch::{Kind, Reduction, Tensor};

use crate::{
    Context, Method, MethodSettings, Signal,
    parts::{
        levels::Levels,
        mode::exact,
        pair::{StagePair, averaged, signal, stage, stage_pairs},
    },
};

/// Added to the square of a norm.
const EPS: f64 = 1e-12;

settings! {
    /// Attention transfer.
    pub struct At {
        /// Stages whose attention is compared, summed; "layers" are all but a stem.
        levels: Levels = Levels::every(), ThirdParty;
    }
}

impl MethodSettings for At {
    const NAME: &str = "at";
    const TITLE: &str = "Attention transfer";
    const SOURCE: &str = "Zagoruyko and Komodakis 2017 (arXiv 1612.03928)";

    fn check(&self, student: &TapSpec, teacher: &TapSpec, _batch: usize) -> Result<()> {
        stage_pairs(Self::NAME, &self.levels, student, teacher).map(drop)
    }

    fn build(
        &self,
        scope: &Scope,
        student: &TapSpec,
        teacher: &TapSpec,
        _sample_classes: &[i64],
    ) -> Result<Box<dyn Method>> {
        let levels = stage_pairs(Self::NAME, &self.levels, student, teacher)?.into_iter().map(Level::of).collect();
        Ok(Box::new(Built { levels, kind: scope.kind() }))
    }
}

struct Built {
    levels: Vec<Level>,
    kind: Kind,
}

/// One pair of stages and the grid on which they meet.
struct Level {
    level: usize,
    grid: (i64, i64),
}

impl Level {
    fn of(pair: StagePair) -> Self {
        Self { level: pair.level, grid: pair.common_grid() }
    }

    /// q (B,N) of a map (B,C,H,W).
    fn attention(&self, x_bchw: &Tensor) -> Tensor {
        let q =
            averaged(x_bchw, self.grid).square().sum_dim_intlist([1i64].as_slice(), false, None::<Kind>).flatten(1, 2);
        let norm = (q.square().sum_dim_intlist([1i64].as_slice(), true, None::<Kind>) + EPS).sqrt();
        q / norm
    }
}

impl Method for Built {
    fn signals(&self) -> Vec<Signal> {
        let of = |l: &Level| Signal {
            name: format!("attention of stage{} on {}x{}", l.level, l.grid.0, l.grid.1),
            shape: vec![l.grid.0 * l.grid.1],
        };
        self.levels.iter().map(of).collect()
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        let of = |l: &Level| Ok(l.attention(&stage(teacher, l.level, "teacher")?.detach().to_map().to_kind(self.kind)));
        self.levels.iter().map(of).collect()
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let _exact = exact(step.student.logits.device())?;
        let value = |(i, l): (usize, &Level)| {
            let q_s = l.attention(&stage(step.student, l.level, "student")?.to_map().to_kind(self.kind));
            Ok(q_s.mse_loss(&signal(step.teacher, i, self.kind)?, Reduction::Mean))
        };
        let values: Vec<Tensor> = self.levels.iter().enumerate().map(value).collect::<Result<_>>()?;
        let mut terms = Terms::default();
        terms.push("attention", 1.0, Tensor::stack(&values, 0).sum(None::<Kind>));
        Ok(terms)
    }
}
