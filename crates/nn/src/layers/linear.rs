use tch::Tensor;

use crate::{Init, Result, Scope};

/// `torch.nn.Linear`: (.., in) to (.., out).
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// As PyTorch builds it: weight and bias in U(-b, b), b = 1/sqrt(in).
    pub fn new(scope: &Scope, inputs: i64, outputs: i64) -> Result<Self> {
        Self::with(scope, inputs, outputs, Init::TorchDefault, Some(Init::Uniform { bound: 1.0 / (inputs as f64).sqrt() }))
    }

    /// `weight` (out, in) and, where an initialiser is given, `bias` (out).
    pub fn with(scope: &Scope, inputs: i64, outputs: i64, weight: Init, bias: Option<Init>) -> Result<Self> {
        Ok(Self {
            weight: scope.param("weight", &[outputs, inputs], weight)?,
            bias: bias.map(|init| scope.param("bias", &[outputs], init)).transpose()?,
        })
    }

    /// Applies the map to the last dimension.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }
}
