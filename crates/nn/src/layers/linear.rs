use std::cell::Ref;

use heterodyne_shim::packed::{PackedLinear, Post};
use tch::Tensor;

use super::frozen::{Frozen, sure};
use crate::{Init, Result, Scope};

/// `torch.nn.Linear`: (.., in) to (.., out).
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    frozen: Frozen<PackedLinear>,
}

impl Linear {
    /// As PyTorch builds it: weight and bias in U(-b, b), b = 1/sqrt(in).
    pub fn new(scope: &Scope, inputs: i64, outputs: i64) -> Result<Self> {
        Self::with(
            scope,
            inputs,
            outputs,
            Init::TorchDefault,
            Some(Init::Uniform { bound: 1.0 / (inputs as f64).sqrt() }),
        )
    }

    /// Creates `weight` (out, in) and, if an initialiser is given, `bias` (out).
    pub fn with(scope: &Scope, inputs: i64, outputs: i64, weight: Init, bias: Option<Init>) -> Result<Self> {
        Ok(Self {
            weight: scope.param("weight", &[outputs, inputs], weight)?,
            bias: bias.map(|init| scope.param("bias", &[outputs], init)).transpose()?,
            frozen: Frozen::default(),
        })
    }

    /// Applies the map to the last dimension.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_post(x, Post::None)
    }

    /// Applies the map to the last dimension, and `post` to the result.
    pub fn forward_post(&self, x: &Tensor, post: Post) -> Tensor {
        match self.packed() {
            Some(packed) => sure(packed.forward(x, post)),
            None => post.apply(x.linear(&self.weight, self.bias.as_ref())),
        }
    }

    /// The `count` outputs starting at `from`: (.., in) to (.., count).
    pub fn forward_part(&self, x: &Tensor, from: i64, count: i64) -> Tensor {
        match self.packed() {
            Some(packed) => sure(packed.forward_part(x, from, count, Post::None)),
            None => x.linear(
                &self.weight.narrow(0, from, count),
                self.bias.as_ref().map(|b| b.narrow(0, from, count)).as_ref(),
            ),
        }
    }

    /// Applies the map to the second-last dimension: (B,in,D) to (B,out,D).
    pub fn mix(&self, x_bnd: &Tensor) -> Tensor {
        match self.packed() {
            Some(packed) => sure(packed.mix(x_bnd, Post::None)),
            None => self.forward(&x_bnd.transpose(1, 2)).transpose(1, 2),
        }
    }

    /// The packed form of a frozen layer.
    pub(super) fn packed(&self) -> Option<Ref<'_, PackedLinear>> {
        let parameters: Vec<_> = [&self.weight].into_iter().chain(&self.bias).collect();
        self.frozen.get(&parameters, |kind| PackedLinear::new(&self.weight, self.bias.as_ref(), kind))
    }
}
