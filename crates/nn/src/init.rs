//! PyTorch's and timm's initialisers. Each draws from a generator in PyTorch's order, so equal seeds give equal
//! weights.
use heterodyne_shim::Rng;
use tch::{Kind, Tensor};

use crate::Result;

/// The initialiser of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// A constant.
    Const(f64),
    /// N(0, std^2).
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// U(-bound, bound).
    Uniform {
        /// Largest magnitude.
        bound: f64,
    },
    /// N(0, std^2) truncated at the absolute values -2 and 2 (`timm.layers.trunc_normal_`).
    TruncNormal {
        /// Standard deviation before truncation.
        std: f64,
    },
    /// `nn.Linear` and `nn.Conv2d` as PyTorch builds them: `kaiming_uniform_(a=sqrt(5))`, that is U(-b, b) with b =
    /// 1/sqrt(fan_in).
    TorchDefault,
    /// `kaiming_normal_(mode="fan_out", nonlinearity="relu")` (He et al. 2015): N(0, 2/fan_out).
    KaimingNormalFanOut,
    /// `timm.layers.lecun_normal_`: N(0,1) truncated at -2 and 2, scaled to variance 1/fan_in.
    LecunNormal,
    /// `xavier_uniform_` (Glorot and Bengio 2010): U(-b, b) with b = sqrt(6/(fan_in+fan_out)).
    XavierUniform,
}

/// (fan_in, fan_out) of a weight (out, in, ...): `torch.nn.init._calculate_fan_in_and_fan_out`.
#[must_use]
pub fn fans(shape: &[i64]) -> (f64, f64) {
    let field: i64 = shape.iter().skip(2).product();
    let at = |i: usize| (shape.get(i).copied().unwrap_or(1) * field) as f64;
    (at(1), at(0))
}

impl Init {
    /// Fills `x` in place.
    pub fn fill(self, x: &Tensor, rng: &Rng) -> Result<()> {
        let (fan_in, fan_out) = fans(&x.size());
        match self {
            Self::Const(value) => {
                let _guard = heterodyne_shim::NoGrad::new();
                let _ = x.shallow_clone().f_fill_(value)?;
            }
            Self::Normal { std } => rng.normal(x, 0.0, std)?,
            Self::Uniform { bound } => rng.uniform(x, -bound, bound)?,
            Self::TruncNormal { std } => trunc_normal(x, std, rng)?,
            Self::TorchDefault => {
                let bound = 1.0 / fan_in.sqrt();
                rng.uniform(x, -bound, bound)?;
            }
            Self::KaimingNormalFanOut => rng.normal(x, 0.0, (2.0 / fan_out).sqrt())?,
            Self::LecunNormal => {
                trunc_normal(x, 1.0, rng)?;
                let _guard = heterodyne_shim::NoGrad::new();
                let _ = x.shallow_clone().f_mul_scalar_((1.0 / fan_in).sqrt() / STD_OF_CUT_NORMAL)?;
            }
            Self::XavierUniform => {
                let bound = (6.0 / (fan_in + fan_out)).sqrt();
                rng.uniform(x, -bound, bound)?;
            }
        }
        Ok(())
    }
}

/// Standard deviation of N(0,1) truncated at -2 and 2, to the digits that timm and JAX use.
const STD_OF_CUT_NORMAL: f64 = 0.879_625_661_034_239_8;

/// Draws by inverting the cumulative distribution, as PyTorch does.
fn trunc_normal(x: &Tensor, std: f64, rng: &Rng) -> Result<()> {
    let cut = normal_cdf(2.0 / std);
    rng.uniform(x, 2.0 * (1.0 - cut) - 1.0, 2.0 * cut - 1.0)?;
    let _guard = heterodyne_shim::NoGrad::new();
    let mut x = x.shallow_clone();
    let _ = x.f_erfinv_()?.f_mul_scalar_(std * std::f64::consts::SQRT_2)?.f_clamp_(-2.0, 2.0)?;
    Ok(())
}

fn normal_cdf(x: f64) -> f64 {
    let half = Tensor::from(x / std::f64::consts::SQRT_2).to_kind(Kind::Double).erf();
    (1.0 + half.double_value(&[])) / 2.0
}
