//! VID: variational information distillation (Ahn et al. 2019, arXiv 1904.05835, equations 4 to 6).
//!
//! ```text
//! mu_l(X_s^l)  = 1x1, ReLU, 1x1, ReLU, 1x1                         (B, C_t, H, W)    learnable
//! sigma_{l,c}^2 = log(1 + exp(a_{l,c})) + eps                      (C_t)             learnable, one for each channel
//! L_vid        = sum over levels of mean of  1/2 ( (X_t^l - mu_l)^2 / sigma_l^2 + log sigma_l^2 )
//! ```
//! The mean is over images, channels and positions of the smaller of the two grids, to which both sides are averaged.
//! This is the negative log-likelihood, without its constant, of the teacher's features under a Gaussian predicted from
//! the student's. It may be negative: each level contributes at least half the logarithm of `eps`.
//!
//! RepDistiller, mdistiller and torchdistill define mu_l as above, with all layers at the teacher's width. `regressor =
//! "norm"` follows a re-implementation of the paper: hidden layers twice as wide, each with a batch norm before its
//! ReLU.
use heterodyne_nn::{
    Init, Result, Scope,
    layers::{BatchNorm2d, Conv, Conv2d, Post},
};
use heterodyne_settings::{Checked, KeyError, choice, settings};
use tch::Tensor;

use crate::{
    Signal, StageLoss,
    parts::{Levels, StagePair, TensorExt, averaged, check_norm, training},
};

choice! { enum Regressor { Plain, Norm } }

settings! {
    /// Variational information distillation.
    pub struct Vid {
        /// Stages whose features are predicted, summed; "layers" means all except a stem.
        levels: Levels = Levels::every(), ThirdParty;
        /// "plain" is three 1x1 convolutions of the teacher's width with ReLU between them (three public codes), "norm"
        /// has hidden layers of twice that width with a batch norm (a re-implementation of the paper).
        regressor: Regressor = Regressor::Plain, ThirdParty;
        /// Initial value of the variances.
        variance: f64 = 5.0, ThirdParty;
        /// Smallest variance.
        eps: f64 = 1e-5, ThirdParty, positive;
    }
}

/// mu and sigma of one level.
pub struct Predictor {
    hidden: [(Conv2d, Option<BatchNorm2d>); 2],
    last: Conv2d,
    /// a, before the softplus.
    spread: Tensor,
}

impl Predictor {
    fn new(scope: &Scope, pair: &StagePair, settings: &Vid) -> Result<Self> {
        let (c_s, c_t) = (pair.student.channels, pair.teacher.channels);
        let has_norm = settings.regressor == Regressor::Norm;
        let width = if has_norm { 2 * c_t } else { c_t };
        let hidden = |name: &str, channels| {
            let scope = scope.sub(name);
            let conv = Conv2d::new(&scope.sub("conv"), channels, width, Conv::same(1))?;
            let norm = has_norm.then(|| BatchNorm2d::new(&scope.sub("norm"), width)).transpose()?;
            Ok::<_, heterodyne_nn::Error>((conv, norm))
        };
        Ok(Self {
            hidden: [hidden("first", c_s)?, hidden("second", width)?],
            last: Conv2d::new(&scope.sub("last"), width, c_t, Conv::same(1))?,
            spread: scope.param("spread", &[c_t], Init::Const((settings.variance - settings.eps).exp_m1().ln()))?,
        })
    }

    fn mean(&self, x_bchw: &Tensor) -> Tensor {
        let hidden = |x: Tensor, (conv, norm): &(Conv2d, Option<BatchNorm2d>)| {
            let x = conv.forward(&x);
            norm.as_ref().map_or_else(|| x.relu(), |norm| norm.forward_post(&x, training(), Post::Relu))
        };
        self.last.forward(&self.hidden.iter().fold(x_bchw.shallow_clone(), hidden))
    }

    /// (C_t,1,1).
    fn variance(&self, eps: f64) -> Tensor {
        (self.spread.softplus() + eps).reshape([-1, 1, 1])
    }
}

impl StageLoss for Vid {
    const NAME: &str = "vid";
    const SOURCE: &str = "Ahn et al. 2019 (arXiv 1904.05835)";
    const TERM: &str = "vid";
    type Parts = Predictor;

    fn demands(&self) -> Checked {
        if self.variance.is_finite() && self.variance > self.eps {
            return Ok(());
        }
        let message = format!("{} is out of range, expected a number above `eps`, {}", self.variance, self.eps);
        Err(KeyError::new("variance", message))
    }

    fn levels(&self) -> &Levels {
        &self.levels
    }

    fn check(&self, pair: &StagePair, batch: usize) -> Result<()> {
        if self.regressor == Regressor::Plain {
            return Ok(());
        }
        check_norm(Self::NAME, &format!("the predictor of stage {}", pair.level), batch, pair.common_grid())
    }

    fn parts(&self, scope: &Scope, pair: &StagePair) -> Result<Predictor> {
        Predictor::new(scope, pair, self)
    }

    fn signal(pair: &StagePair) -> Signal {
        let (h, w) = pair.common_grid();
        Signal { name: format!("stage{} averaged to {h}x{w}", pair.level), shape: vec![pair.teacher.channels, h, w] }
    }

    fn observe(pair: &StagePair, x_t: &Tensor) -> Tensor {
        averaged(x_t, pair.common_grid())
    }

    fn student(pair: &StagePair, predictor: &Predictor, x_s: &Tensor) -> Tensor {
        predictor.mean(&averaged(x_s, pair.common_grid()))
    }

    fn loss(&self, _: &StagePair, predictor: &Predictor, mean_bchw: &Tensor, x_t: &Tensor) -> Tensor {
        let variance = predictor.variance(self.eps);
        let off = (x_t - mean_bchw).square() / &variance;
        (off.mean_all() + variance.log().mean_all()) * 0.5
    }
}
