//! The building block of CNNs: convolution and batch norm.
use std::cell::Ref;

use heterodyne_nn::{
    FeatureMap, Result, Scope,
    layers::{BatchNorm2d, Conv, Conv2d, Frozen, Post},
    shim::packed::PackedConv,
};
use tch::Tensor;

/// Default epsilon of a batch norm.
pub const EPS: f64 = 1e-5;

/// A convolution without bias and a batch norm.
#[derive(Debug)]
pub struct ConvBn {
    conv: Conv2d,
    bn: BatchNorm2d,
    /// The convolution with the norm folded in.
    frozen: Frozen<PackedConv>,
}

impl ConvBn {
    /// Creates both under the names `conv` and `bn` in `scope`; `gamma` is the batch norm's initial weight.
    pub fn new(
        scope: &Scope,
        (conv, bn): (&str, &str),
        channels_in: i64,
        channels_out: i64,
        shape: Conv,
        gamma: f64,
    ) -> Result<Self> {
        Self::with_eps(scope, (conv, bn), channels_in, channels_out, shape, gamma, EPS)
    }

    /// As [`ConvBn::new`], with the batch norm's epsilon.
    pub fn with_eps(
        scope: &Scope,
        (conv, bn): (&str, &str),
        channels_in: i64,
        channels_out: i64,
        shape: Conv,
        gamma: f64,
        eps: f64,
    ) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::new(&scope.sub(conv), channels_in, channels_out, shape)?,
            bn: BatchNorm2d::with(&scope.sub(bn), channels_out, gamma, eps)?,
            frozen: Frozen::default(),
        })
    }

    /// post(bn(conv(x))): (B,in,H,W) to (B,out,H',W'). When a frozen network is evaluated, the norm is folded into the
    /// convolution.
    pub fn forward(&self, x_bchw: &Tensor, train: bool, post: Post) -> Tensor {
        match self.folded(train) {
            Some(folded) => folded.forward(x_bchw, post).unwrap_or_else(|e| panic!("{e}")),
            None => self.bn.forward_post(&self.conv.forward(x_bchw), train, post),
        }
    }

    fn folded(&self, train: bool) -> Option<Ref<'_, PackedConv>> {
        if train {
            self.frozen.forget();
            return None;
        }
        let parameters = [&self.conv.parameters()[..], &self.bn.parameters()].concat();
        self.frozen.get(&parameters, |kind| {
            let (scale, shift) = self.bn.scale_and_shift();
            self.conv.pack_scaled(&scale, &shift, kind)
        })
    }
}

/// Side of the grid after a window of odd size with "same" padding moves in steps of `stride`.
pub const fn strided(side: i64, stride: i64) -> i64 {
    (side - 1) / stride + 1
}

/// (B,C,H,W) to (B,C).
pub fn global_mean(x_bchw: &Tensor) -> Tensor {
    FeatureMap::Map(x_bchw.shallow_clone()).pooled()
}

/// Runs the blocks of all layers in order; with `taps`, appends each layer's output to `stages`.
pub fn run_layers<B>(
    mut x_bchw: Tensor,
    layers: &[Vec<B>],
    taps: bool,
    stages: &mut Vec<FeatureMap>,
    forward: impl Fn(&B, &Tensor) -> Tensor,
) -> Tensor {
    for blocks in layers {
        for block in blocks {
            x_bchw = forward(block, &x_bchw);
        }
        if taps {
            stages.push(FeatureMap::Map(x_bchw.shallow_clone()));
        }
    }
    x_bchw
}
