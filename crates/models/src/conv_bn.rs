//! The unit that conv nets are made of.
use heterodyne_nn::{
    Result, Scope,
    layers::{BatchNorm2d, Conv, Conv2d},
};
use tch::Tensor;

/// A convolution without bias and a batch norm.
#[derive(Debug)]
pub struct ConvBn {
    conv: Conv2d,
    bn: BatchNorm2d,
}

impl ConvBn {
    /// Under the two names `conv` and `bn` of `scope`; `gamma` is the batch norm's first weight.
    pub fn new(scope: &Scope, (conv, bn): (&str, &str), channels_in: i64, channels_out: i64, shape: Conv, gamma: f64) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::new(&scope.sub(conv), channels_in, channels_out, shape)?,
            bn: BatchNorm2d::with(&scope.sub(bn), channels_out, gamma, 1e-5)?,
        })
    }

    /// (B,in,H,W) to (B,out,H',W'). The result is a fresh tensor that may be changed in place.
    pub fn forward(&self, x_bchw: &Tensor, train: bool) -> Tensor {
        self.bn.forward(&self.conv.forward(x_bchw), train)
    }
}

/// Side of the grid after a window of odd size with "same" padding moves in steps of `stride`.
pub const fn strided(side: i64, stride: i64) -> i64 {
    (side - 1) / stride + 1
}

/// (B,C,H,W) to (B,C).
pub fn global_mean(x_bchw: &Tensor) -> Tensor {
    x_bchw.mean_dim([2i64, 3].as_slice(), false, None::<tch::Kind>)
}
