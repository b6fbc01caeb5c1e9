//! The 1x1 convolution, in a form that can be swapped with other linear maps.
use heterodyne_nn::{Init, Result, Scope};
use tch::Tensor;

/// A linear map over channels, the same at every position: `y = W x + b`, with PyTorch's initialiser of a 1x1
/// `nn.Conv2d`.
///
/// It commutes with every linear map over positions that is the same for all channels. If that map's weights sum to 1
/// (pooling, resampling), the bias is unchanged; a Fourier transform moves the bias to the zero frequency. So the 1x1
/// convolution can be applied on whichever side has fewer positions, with the same result.
#[derive(Debug)]
pub struct Pointwise {
    weight: Tensor,
    bias: Tensor,
}

impl Pointwise {
    /// `weight` (out, in) and `bias` (out).
    pub fn new(scope: &Scope, channels_in: i64, channels_out: i64) -> Result<Self> {
        let bound = 1.0 / (channels_in as f64).sqrt();
        Ok(Self {
            weight: scope.param("weight", &[channels_out, channels_in], Init::TorchDefault)?,
            bias: scope.param("bias", &[channels_out], Init::Uniform { bound })?,
        })
    }

    /// Applies it to a map (B,in,H,W), giving (B,out,H,W).
    pub fn on_map(&self, x_bchw: &Tensor) -> Tensor {
        x_bchw.conv2d(&self.weight.unsqueeze(-1).unsqueeze(-1), Some(&self.bias), [1, 1], [0, 0], [1, 1], 1)
    }

    /// Applies it to (..,in) with channels last, giving (..,out).
    pub fn on_last(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }

    /// Applies it to a spectrum (B,2,K,K',in), giving (B,2,K,K',out). `zero` (2,K,K',1) is 1 at the real part of the
    /// zero frequency and 0 elsewhere: the transform of a constant.
    pub fn on_spectrum(&self, s_bpuvc: &Tensor, zero: &Tensor) -> Tensor {
        s_bpuvc.linear::<&Tensor>(&self.weight, None) + &self.bias * zero
    }
}
