use heterodyne_shim::{
    self as shim, Autocast, NoGrad, grad_enabled,
    norm::{Activation, batch_norm_act},
    packed::Post,
    ranks::{Group, synced},
};
use tch::{Kind, Tensor};

use super::frozen::sure;
use crate::{Init, Result, Scope};

/// Weight of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

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

    /// As [`BatchNorm2d::new`], with the given initial weight (0 in the last norm of a residual branch) and eps.
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
        if let Some(group) = synced().filter(|_| train) {
            return self.forward_synced(x, &group);
        }
        x.batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            Some(&self.running_mean),
            Some(&self.running_var),
            train,
            MOMENTUM,
            self.eps,
            true,
        )
    }

    /// Training with the statistics of all processes' batches, which are of equal size (`torch.nn.SyncBatchNorm`).
    fn forward_synced(&self, x: &Tensor, group: &Group) -> Tensor {
        let Self { weight, bias, running_mean, running_var, eps } = self;
        let kind = if x.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let float = x.to_kind(kind);
        let over: Vec<i64> = (0..x.dim() as i64).filter(|&dim| dim != 1).collect();
        let own_c = float.mean_dim(over.as_slice(), false, kind);
        let own_var_c = float.var_dim(over.as_slice(), false, false);
        // (2,C) of each process, (size,2,C) of all: no difference of large sums is taken.
        let all = sure(group.gather(&Tensor::stack(&[own_c, own_var_c], 0).unsqueeze(0)));
        let (mean_pc, var_pc) = (all.select(1, 0), all.select(1, 1));
        let over_ranks = [0i64].as_slice();
        let mean_c = mean_pc.mean_dim(over_ranks, false, kind);
        let var_c = (var_pc + (mean_pc - &mean_c).square()).mean_dim(over_ranks, false, kind);
        {
            let _constant = NoGrad::new();
            let n = (x.numel() as i64 / x.size()[1] * i64::from(group.size())) as f64;
            let keep = |running: &Tensor, now: Tensor| {
                let _ = running.shallow_clone().lerp_(&now.to_kind(running.kind()), MOMENTUM);
            };
            keep(running_mean, mean_c.detach());
            keep(running_var, var_c.detach() * (n / (n - 1.0).max(1.0)));
        }
        let mut shape = vec![1; x.dim()];
        shape[1] = -1;
        let per_channel = |t: &Tensor| t.to_kind(kind).view(shape.as_slice());
        let scale_c = weight.to_kind(kind) / (var_c + *eps).sqrt();
        ((float - per_channel(&mean_c)) * per_channel(&scale_c) + per_channel(bias)).to_kind(x.kind())
    }

    /// As [`BatchNorm2d::forward`], with `post` applied. In training this is one operator that saves and reads less
    /// than several.
    pub fn forward_post(&self, x: &Tensor, train: bool, post: Post) -> Tensor {
        let (residual, act) = match post {
            _ if !train || shim::flops::plain() || synced().is_some() => return post.apply(self.forward(x, train)),
            Post::Gelu => return post.apply(self.forward(x, train)),
            Post::None => (None, Activation::None),
            Post::Relu => (None, Activation::Relu),
            Post::Relu6 => (None, Activation::Relu6),
            Post::Add(residual) => (Some(residual), Activation::None),
            Post::AddRelu(residual) => (Some(residual), Activation::Relu),
        };
        let Self { weight, bias, running_mean, running_var, eps } = self;
        sure(batch_norm_act(x, weight, bias, running_mean, running_var, MOMENTUM, *eps, residual, act))
    }

    /// Parameters and running statistics, each (C).
    pub fn parameters(&self) -> [&Tensor; 4] {
        [&self.weight, &self.bias, &self.running_mean, &self.running_var]
    }

    /// The layer in evaluation as `x * scale + shift`: scale = weight / sqrt(var + eps), shift = bias - mean * scale,
    /// both (C).
    pub fn scale_and_shift(&self) -> (Tensor, Tensor) {
        let scale = &self.weight / (&self.running_var + self.eps).sqrt();
        let shift = &self.bias - &self.running_mean * &scale;
        (scale, shift)
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
        Ok(Self {
            weight: scope.param("weight", &[width], Init::Const(1.0))?,
            bias: scope.param("bias", &[width], Init::Const(0.0))?,
            eps,
        })
    }

    /// Normalises the last dimension.
    ///
    /// If no graph is recorded, bfloat16 and float16 are kept: sums are formed in float32 anyway, and autocast would
    /// write both input and result in float32, which the next product would round again.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let keeps = matches!(x.kind(), Kind::BFloat16 | Kind::Half) && !grad_enabled() && !shim::flops::plain();
        let _as_it_is = keeps.then(|| sure(Autocast::new(x.device(), false)));
        // A GPU's kernel takes one kind only.
        let of_kind = |t: &Tensor| if keeps && x.device().is_cuda() { t.to_kind(x.kind()) } else { t.shallow_clone() };
        x.layer_norm(self.weight.size(), Some(of_kind(&self.weight)), Some(of_kind(&self.bias)), self.eps, true)
    }
}
