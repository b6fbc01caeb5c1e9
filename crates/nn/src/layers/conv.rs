use heterodyne_shim::{
    self as shim, norm,
    packed::{PackedConv, Post},
    winograd,
};
use tch::{Kind, Tensor};

use super::frozen::{Frozen, sure};
use crate::{Init, Result, Scope};

/// The shape of a convolution, except for its channels.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    /// Side of the square kernel.
    pub kernel: i64,
    /// Step between windows.
    pub stride: i64,
    /// Zeros added on each side.
    pub padding: i64,
    /// Channel groups; equal to the input channels for a depthwise convolution.
    pub groups: i64,
    /// Whether a bias is added.
    pub bias: bool,
    /// Initialiser of the bias; PyTorch's if `None`.
    pub bias_init: Option<Init>,
    /// Initialiser of the weight.
    pub init: Init,
}

impl Conv {
    /// A `kernel` x `kernel` convolution that keeps the grid: stride 1, "same" padding, no bias, PyTorch's initialiser.
    #[must_use]
    pub const fn same(kernel: i64) -> Self {
        Self {
            kernel,
            stride: 1,
            padding: kernel / 2,
            groups: 1,
            bias: false,
            bias_init: None,
            init: Init::TorchDefault,
        }
    }

    /// With another stride.
    #[must_use]
    pub const fn stride(self, stride: i64) -> Self {
        Self { stride, ..self }
    }

    /// With another padding.
    #[must_use]
    pub const fn padding(self, padding: i64) -> Self {
        Self { padding, ..self }
    }

    /// In `groups` channel groups.
    #[must_use]
    pub const fn groups(self, groups: i64) -> Self {
        Self { groups, ..self }
    }

    /// With a bias and PyTorch's initialiser.
    #[must_use]
    pub const fn bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// With a bias and another initialiser.
    #[must_use]
    pub const fn bias_init(self, init: Init) -> Self {
        Self { bias: true, bias_init: Some(init), ..self }
    }

    /// With another initialiser of the weight.
    #[must_use]
    pub const fn init(self, init: Init) -> Self {
        Self { init, ..self }
    }
}

/// `torch.nn.Conv2d`: (B,in,H,W) to (B,out,H',W').
#[derive(Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    shape: Conv,
    frozen: Frozen<PackedConv>,
}

impl Conv2d {
    /// Creates `weight` (out, in/groups, k, k) and, if requested, `bias` (out).
    pub fn new(scope: &Scope, channels_in: i64, channels_out: i64, shape: Conv) -> Result<Self> {
        let fan_in = channels_in / shape.groups * shape.kernel * shape.kernel;
        let weight = scope.param(
            "weight",
            &[channels_out, channels_in / shape.groups, shape.kernel, shape.kernel],
            shape.init,
        )?;
        let bias_init = shape.bias_init.unwrap_or(Init::Uniform { bound: 1.0 / (fan_in as f64).sqrt() });
        let bias = shape.bias.then(|| scope.param("bias", &[channels_out], bias_init)).transpose()?;
        Ok(Self { weight, bias, shape, frozen: Frozen::default() })
    }

    /// Applies the convolution.
    pub fn forward(&self, x_bchw: &Tensor) -> Tensor {
        match self.frozen.get(&self.parameters(), |kind| self.pack(&self.weight, self.bias.as_ref(), kind)) {
            Some(packed) => sure(packed.forward(x_bchw, Post::None)),
            None => self.trained(x_bchw),
        }
    }

    /// Applies the fastest operator that records a graph.
    fn trained(&self, x_bchw: &Tensor) -> Tensor {
        let Self { weight, bias, shape, .. } = self;
        let Conv { kernel, stride, padding, groups, .. } = *shape;
        if !shim::flops::plain() && padding == kernel / 2 {
            if (kernel, stride, groups) == (3, 1, 1) && bias.is_none() && winograd::suits(x_bchw, weight) {
                return sure(winograd::conv3x3(x_bchw, weight));
            }
            if groups > 1 && groups == weight.size()[0] && norm::depthwise_suits(x_bchw, weight) {
                return sure(norm::depthwise_conv(x_bchw, weight, bias.as_ref(), stride));
            }
        }
        x_bchw.conv2d(weight, bias.as_ref(), [stride, stride], [padding, padding], [1, 1], groups)
    }

    /// The weight, and the bias if there is one.
    pub fn parameters(&self) -> Vec<&Tensor> {
        [&self.weight].into_iter().chain(&self.bias).collect()
    }

    /// The convolution followed by `y * scale + shift`, both (out), as one convolution that computes in `kind`.
    pub fn pack_scaled(&self, scale: &Tensor, shift: &Tensor, kind: Kind) -> shim::Result<PackedConv> {
        let weight = &self.weight * scale.reshape([-1, 1, 1, 1]);
        let bias = self.bias.as_ref().map_or_else(|| shift.shallow_clone(), |b| b * scale + shift);
        self.pack(&weight, Some(&bias), kind)
    }

    fn pack(&self, weight: &Tensor, bias: Option<&Tensor>, kind: Kind) -> shim::Result<PackedConv> {
        let Conv { stride, padding, groups, .. } = self.shape;
        PackedConv::new(weight, bias, stride, padding, groups, kind)
    }
}
