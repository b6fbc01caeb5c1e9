//! NST: knowledge distillation via neuron selectivity transfer (Huang and Wang 2017, arXiv 1707.01219, equations 4 to
//! 6).
//!
//! ```text
//! X at the smaller of both grids, by averaging;  f_c = vec(x_c) / |x_c|          the places that channel c selects
//! k(a,b) = (a . b)^2
//! L_nst  = sum over levels of  mean_cc' k(f_s, f_s) + mean_cc' k(f_t, f_t) - 2 mean_cc' k(f_s, f_t)
//! ```
//! This is the squared distance (MMD) between the two sets of channels under the polynomial kernel; the numbers of
//! channels need not agree. The usual weight is 50.
use heterodyne_nn::{Output, Result, Scope, TapSpec, Terms};
use heterodyne_settings::settings;
use tch::{Kind, Tensor};

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
    /// Neuron selectivity transfer.
    pub struct Nst {
        /// Stages whose channels are compared, summed; "layers" are all but a stem.
        levels: Levels = Levels::every(), ThirdParty;
    }
}

impl MethodSettings for Nst {
    const NAME: &str = "nst";
    const TITLE: &str = "Neuron selectivity transfer";
    const SOURCE: &str = "Huang and Wang 2017 (arXiv 1707.01219)";

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

/// One pair of stages, the grid on which they meet, and the teacher's channels.
struct Level {
    level: usize,
    grid: (i64, i64),
    channels: i64,
}

impl Level {
    fn of(pair: StagePair) -> Self {
        Self { level: pair.level, grid: pair.common_grid(), channels: pair.teacher.channels }
    }

    /// f (B,C,N) of a map (B,C,H,W).
    fn selectivity(&self, x_bchw: &Tensor) -> Tensor {
        let x = averaged(x_bchw, self.grid).flatten(2, 3);
        let norm = (x.square().sum_dim_intlist([2i64].as_slice(), true, None::<Kind>) + EPS).sqrt();
        x / norm
    }
}

/// The mean of k over images and pairs of channels.
fn kernel(a_bcn: &Tensor, b_bcn: &Tensor) -> Tensor {
    a_bcn.bmm(&b_bcn.transpose(1, 2)).square().mean(None::<Kind>)
}

impl Method for Built {
    fn signals(&self) -> Vec<Signal> {
        let of = |l: &Level| Signal {
            name: format!("channels of stage{} on {}x{}", l.level, l.grid.0, l.grid.1),
            shape: vec![l.channels, l.grid.0 * l.grid.1],
        };
        self.levels.iter().map(of).collect()
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        let of =
            |l: &Level| Ok(l.selectivity(&stage(teacher, l.level, "teacher")?.detach().to_map().to_kind(self.kind)));
        self.levels.iter().map(of).collect()
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let _exact = exact(step.student.logits.device())?;
        let value = |(i, l): (usize, &Level)| {
            let f_s = l.selectivity(&stage(step.student, l.level, "student")?.to_map().to_kind(self.kind));
            let f_t = signal(step.teacher, i, self.kind)?;
            Ok(kernel(&f_s, &f_s) + kernel(&f_t, &f_t) - kernel(&f_s, &f_t) * 2.0)
        };
        let values: Vec<Tensor> = self.levels.iter().enumerate().map(value).collect::<Result<_>>()?;
        let mut terms = Terms::default();
        terms.push("selectivity", 1.0, Tensor::stack(&values, 0).sum(None::<Kind>));
        Ok(terms)
    }
}
