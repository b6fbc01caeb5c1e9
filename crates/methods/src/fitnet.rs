//! FitNets: hints for thin deep nets (Romero et al. 2015, arXiv 1412.6550), on any pair of architectures.
//!
//! ```text
//! r_l(X_s^l) = resample( W_l X_s^l + b_l )          (B, C_t, H_t, W_t)    1x1 projection, then the teacher's grid
//! L_feature  = mean over levels of mean( (r_l(X_s^l) - X_t^l)^2 )
//! ```
//! Resampling to a grid that is smaller along an axis or equal averages over adaptive windows; where one axis grows it is
//! bilinear. Both are linear with weights that sum to 1, so that projection and resampling commute: the projection runs on the
//! smaller grid.
use heterodyne_nn::{
    Output, Result, Scope, StageSpec, TapSpec, Terms,
    config::{KeyError, parse},
};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

use crate::{
    Context, Key, Method, MethodDef, Settings, Signal,
    parts::{
        divergence::mean,
        keys,
        mode::{exact, part_input},
        pair::{StagePair, signal, stage, stage_pairs},
        pointwise::Pointwise,
    },
};

/// The registry's entry.
pub static METHOD: MethodDef = MethodDef {
    name: "fitnet",
    title: "FitNets: feature regression",
    source: "Romero et al. 2015 (arXiv 1412.6550)",
    keys: &[Key {
        name: "levels",
        default: "[1, 2, 3, 4]",
        doc: "Stages whose features are regressed; third-party default (the paper regresses one), and their losses are averaged, which is ours.",
    }],
    configure,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FitNet {
    levels: Vec<usize>,
}

impl Default for FitNet {
    fn default() -> Self {
        Self { levels: vec![1, 2, 3, 4] }
    }
}

fn configure(table: &toml::Table) -> Result<Box<dyn Settings>, KeyError> {
    let settings: FitNet = parse(table)?;
    keys::levels(&settings.levels)?;
    Ok(Box::new(settings))
}

impl Settings for FitNet {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, _batch: usize) -> Result<()> {
        stage_pairs("fitnet", &self.levels, student, teacher).map(drop)
    }

    fn build(&self, scope: &Scope, student: &TapSpec, teacher: &TapSpec, _sample_classes: &[i64]) -> Result<Box<dyn Method>> {
        let regressor = |pair: StagePair| Regressor::new(scope, pair);
        let regressors = stage_pairs("fitnet", &self.levels, student, teacher)?.into_iter().map(regressor).collect::<Result<_>>()?;
        Ok(Box::new(Built { regressors, kind: scope.kind() }))
    }

    fn resolved(&self) -> toml::Table {
        keys::table(self)
    }
}

struct Built {
    regressors: Vec<Regressor>,
    kind: Kind,
}

struct Regressor {
    level: usize,
    project: Pointwise,
    resample: Resample,
    /// The teacher's channels.
    channels: i64,
    /// The teacher's grid.
    grid: (i64, i64),
}

enum Resample {
    Keep,
    Average,
    Bilinear,
}

impl Regressor {
    fn new(scope: &Scope, pair: StagePair) -> Result<Self> {
        let StagePair { level, student, teacher } = pair;
        let project = Pointwise::new(&scope.sub(pair.scope()).sub("project"), student.channels, teacher.channels)?;
        Ok(Self { level, project, resample: Resample::between(&student, &teacher), channels: teacher.channels, grid: teacher.grid })
    }

    fn forward(&self, x_bchw: &Tensor) -> Tensor {
        let (h, w) = self.grid;
        match self.resample {
            Resample::Keep => self.project.on_map(x_bchw),
            Resample::Average => self.project.on_map(&x_bchw.adaptive_avg_pool2d([h, w])),
            Resample::Bilinear => self.project.on_map(x_bchw).upsample_bilinear2d([h, w], false, None, None),
        }
    }
}

impl Resample {
    fn between(student: &StageSpec, teacher: &StageSpec) -> Self {
        if student.grid == teacher.grid {
            Self::Keep
        } else if teacher.grid.0 <= student.grid.0 && teacher.grid.1 <= student.grid.1 {
            Self::Average
        } else {
            Self::Bilinear
        }
    }
}

impl Method for Built {
    fn signals(&self) -> Vec<Signal> {
        let of = |r: &Regressor| Signal { name: format!("stage{} as a map", r.level), shape: vec![r.channels, r.grid.0, r.grid.1] };
        self.regressors.iter().map(of).collect()
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        let of = |r: &Regressor| Ok(stage(teacher, r.level, "teacher")?.detach().to_map().to_kind(self.kind));
        self.regressors.iter().map(of).collect()
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let value = |(i, regressor): (usize, &Regressor)| {
            let x_bchw = part_input(&stage(step.student, regressor.level, "student")?.to_map(), self.kind)?;
            let y_bchw = regressor.forward(&x_bchw);
            let _exact = exact(y_bchw.device())?;
            let target_bchw = signal(step.teacher, i, self.kind)?;
            Ok(y_bchw.to_kind(self.kind).mse_loss(&target_bchw, Reduction::Mean))
        };
        let values: Vec<Tensor> = self.regressors.iter().enumerate().map(value).collect::<Result<_>>()?;
        let mut terms = Terms::default();
        terms.push("feature", 1.0, mean(&values));
        Ok(terms)
    }
}
