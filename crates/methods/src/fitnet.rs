//! FitNets: hints for thin deep nets (Romero et al. 2015, arXiv 1412.6550), for any pair of architectures.
//!
//! ```text
//! r_l(X_s^l) = resample( W_l X_s^l + b_l )          (B, C_t, H_t, W_t)    1x1 projection, then the teacher's grid
//! L_feature  = mean over levels of mean( (r_l(X_s^l) - X_t^l)^2 )
//! ```
//! If no axis grows, resampling averages over adaptive windows; otherwise it is bilinear. Both are linear with weights
//! that sum to 1, so projection and resampling commute, and the projection runs on the smaller grid.
//!
//! The public codes of the 32 px protocol (RepDistiller, mdistiller) use another regressor, `regressor =
//! "conv_bn_relu"`: a convolution, batch norm and ReLU. The convolution is 3x3 with stride 2 if the student's grid is
//! twice the teacher's, and a transposed 4x4 with stride 2 if it is half. Otherwise its kernel is one larger than the
//! student's surplus, so 1x1 for equal grids. These codes support no other grids, which are rejected here.
use heterodyne_nn::{
    Error, Init, Result, Scope, StageSpec,
    layers::{BatchNorm2d, Post},
};
use heterodyne_settings::{choice, settings};
use tch::{Reduction, Tensor};

use crate::{
    Signal, StageLoss,
    parts::{Levels, Pointwise, StagePair, check_norm, mean, shape, training},
};

choice! { enum RegressorKind { Linear, ConvBnRelu } }

settings! {
    /// FitNets: feature regression.
    pub struct FitNet {
        /// Stages whose features are regressed, "layer2" for the second behind a stem. The paper regresses one;
        /// averaging the losses of several is our choice.
        levels: Levels = Levels::every(), ThirdParty;
        /// What brings the student's features to the teacher's: "linear" (1x1 convolution and resampling, any pair) or
        /// "conv_bn_relu" (that of the 32 px protocol's public codes).
        regressor: RegressorKind = RegressorKind::Linear, ThirdParty;
    }
}

/// Maps the student's features to the teacher's at one level.
pub struct Hint(Regressor);

enum Regressor {
    Linear(Pointwise, Resample),
    ConvBnRelu(FitConv, BatchNorm2d),
}

impl Regressor {
    fn new(scope: &Scope, pair: &StagePair, kind: RegressorKind) -> Result<Self> {
        let StagePair { student, teacher, .. } = pair;
        Ok(match kind {
            RegressorKind::Linear => {
                let project = Pointwise::new(&scope.sub("project"), student.channels, teacher.channels)?;
                Self::Linear(project, Resample::between(student, teacher))
            }
            RegressorKind::ConvBnRelu => {
                let conv = FitConv::new(&scope.sub("conv"), pair)?;
                Self::ConvBnRelu(conv, BatchNorm2d::new(&scope.sub("norm"), teacher.channels)?)
            }
        })
    }

    fn forward(&self, x_bchw: &Tensor, (h, w): (i64, i64)) -> Tensor {
        match self {
            Self::Linear(project, Resample::Keep) => project.on_map(x_bchw),
            Self::Linear(project, Resample::Average) => project.on_map(&x_bchw.adaptive_avg_pool2d([h, w])),
            Self::Linear(project, Resample::Bilinear) => {
                project.on_map(x_bchw).upsample_bilinear2d([h, w], false, None, None)
            }
            Self::ConvBnRelu(conv, norm) => norm.forward_post(&conv.forward(x_bchw), training(), Post::Relu),
        }
    }
}

enum Resample {
    Keep,
    Average,
    Bilinear,
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

/// How a convolution reaches the teacher's grid.
enum Fit {
    /// 3x3, stride 2.
    Halve,
    /// Transposed 4x4, stride 2.
    Double,
    /// A kernel of this size, no padding.
    Valid(i64, i64),
}

impl Fit {
    fn between(pair: &StagePair) -> Result<Self> {
        let ((a, b), (c, d)) = (pair.student.grid, pair.teacher.grid);
        if (a, b) == (2 * c, 2 * d) {
            Ok(Self::Halve)
        } else if (2 * a, 2 * b) == (c, d) {
            Ok(Self::Double)
        } else if a >= c && b >= d {
            Ok(Self::Valid(1 + a - c, 1 + b - d))
        } else {
            Err(Error::invalid(format!(
                "fitnet: the regressor \"conv_bn_relu\" cannot map the student's {} to the teacher's {} at level {}: \
                 use `regressor = \"linear\"`, or other `levels`",
                shape(&pair.student),
                shape(&pair.teacher),
                pair.level
            )))
        }
    }
}

/// The convolution from one grid to another.
struct FitConv {
    weight: Tensor,
    bias: Tensor,
    fit: Fit,
}

impl FitConv {
    fn new(scope: &Scope, pair: &StagePair) -> Result<Self> {
        let (c_s, c_t) = (pair.student.channels, pair.teacher.channels);
        let fit = Fit::between(pair)?;
        let shape = match fit {
            Fit::Halve => [c_t, c_s, 3, 3],
            Fit::Double => [c_s, c_t, 4, 4],
            Fit::Valid(h, w) => [c_t, c_s, h, w],
        };
        let fan_in: i64 = shape[1..].iter().product();
        Ok(Self {
            weight: scope.param("weight", &shape, Init::TorchDefault)?,
            bias: scope.param("bias", &[c_t], Init::Uniform { bound: 1.0 / (fan_in as f64).sqrt() })?,
            fit,
        })
    }

    /// (B,C_s,H_s,W_s) to (B,C_t,H_t,W_t).
    fn forward(&self, x_bchw: &Tensor) -> Tensor {
        let (weight, bias) = (&self.weight, Some(&self.bias));
        match self.fit {
            Fit::Halve => x_bchw.conv2d(weight, bias, [2, 2], [1, 1], [1, 1], 1),
            Fit::Double => x_bchw.conv_transpose2d(weight, bias, [2, 2], [1, 1], [0, 0], 1, [1, 1]),
            Fit::Valid(..) => x_bchw.conv2d(weight, bias, [1, 1], [0, 0], [1, 1], 1),
        }
    }
}

impl StageLoss for FitNet {
    const NAME: &str = "fitnet";
    const SOURCE: &str = "Romero et al. 2015 (arXiv 1412.6550)";
    const TERM: &str = "feature";
    type Parts = Hint;

    fn levels(&self) -> &Levels {
        &self.levels
    }

    fn check(&self, pair: &StagePair, batch: usize) -> Result<()> {
        if self.regressor == RegressorKind::Linear {
            return Ok(());
        }
        Fit::between(pair)?;
        check_norm(Self::NAME, &format!("the regressor of stage {}", pair.level), batch, pair.teacher.grid)
    }

    fn parts(&self, scope: &Scope, pair: &StagePair) -> Result<Hint> {
        Ok(Hint(Regressor::new(scope, pair, self.regressor)?))
    }

    fn signal(pair: &StagePair) -> Signal {
        let StageSpec { channels, grid: (h, w), .. } = pair.teacher;
        Signal { name: format!("stage{} as a map", pair.level), shape: vec![channels, h, w] }
    }

    fn observe(_: &StagePair, x_t: &Tensor) -> Tensor {
        x_t.shallow_clone()
    }

    fn student(pair: &StagePair, Hint(regressor): &Hint, x_s: &Tensor) -> Tensor {
        regressor.forward(x_s, pair.teacher.grid)
    }

    fn loss(&self, _: &StagePair, _: &Hint, y_bchw: &Tensor, x_t: &Tensor) -> Tensor {
        y_bchw.mse_loss(x_t, Reduction::Mean)
    }

    fn total(values: &[Tensor]) -> Tensor {
        mean(values)
    }
}
