use tch::Tensor;

use crate::{Init, Result, Scope};

/// `torch.nn.BatchNorm2d` with momentum 0.1: batch statistics in training, running ones otherwise.
#[derive(Debug)]
pub struct BatchNorm2d {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    eps: f64,
}

impl BatchNorm2d {
    /// `weight` (C) starts at 1, `bias` (C) at 0; `running_mean` and `running_var` are buffers. eps 1e-5.
    pub fn new(scope: &Scope, channels: i64) -> Result<Self> {
        Self::with(scope, channels, 1.0, 1e-5)
    }

    /// As [`BatchNorm2d::new`], with the weight's first value (0 in the last norm of a residual branch) and eps.
    pub fn with(scope: &Scope, channels: i64, weight: f64, eps: f64) -> Result<Self> {
        let shape = [channels];
        Ok(Self {
            weight: scope.param("weight", &shape, Init::Const(weight))?,
            bias: scope.param("bias", &shape, Init::Const(0.0))?,
            running_mean: scope.buffer("running_mean", &shape, 0.0)?,
            running_var: scope.buffer("running_var", &shape, 1.0)?,
            eps,
        })
    }

    /// Normalises (B,C,H,W) or (B,C) per channel.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        x.batch_norm(Some(&self.weight), Some(&self.bias), Some(&self.running_mean), Some(&self.running_var), train, 0.1, self.eps, true)
    }
}

/// `torch.nn.LayerNorm` over the last dimension.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `weight` (D) starts at 1, `bias` (D) at 0.
    pub fn new(scope: &Scope, width: i64, eps: f64) -> Result<Self> {
        Ok(Self { weight: scope.param("weight", &[width], Init::Const(1.0))?, bias: scope.param("bias", &[width], Init::Const(0.0))?, eps })
    }

    /// Normalises the last dimension.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}
