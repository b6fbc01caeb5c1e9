//! ConvNeXt (Liu et al. 2022, arXiv 2201.03545); timm's `convnext.py`.
//!
//! ```text
//! x = norm(stem(image))                           patches of 4x4 pixels; (B,H,W,C), norms are over C
//! stage:  x = downsample(norm(x))                 except in the first: a 2x2/2 convolution to twice the width
//!         x = x + gamma * mlp(norm(conv_dw(x)))   per block, conv_dw 7x7 and depthwise; the four taps
//! embedding = norm(mean over places of x),  logits = head.fc(embedding)
//! ```
//!
//! Pixels that do not fill a patch are dropped, as in timm. With `patch = 2`, timm's first stage also downsamples; here
//! it does not.
use heterodyne_nn::{
    Error, FeatureMap, Init, Module, Output, Pass, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{Conv, Conv2d, LayerNorm, Linear, Mlp},
};
use heterodyne_settings::settings;
use serde_json::json;
use tch::{Kind, Tensor};

use crate::{
    Family, Input, ModelDef, Request, Timm, model,
    tokens::{MAX_BLOCKS, MAX_SIZE},
};

const EPS: f64 = 1e-6;
const WEIGHT: Init = Init::TruncNormal { std: 0.02 };
const ZERO: Init = Init::Const(0.0);

settings! {
    /// Options of a ConvNeXt.
    struct ConvNextOptions {
        /// Side of the stem's patches in pixels; an image needs eight along its side.
        patch: i64 = 4, Plain, count_to(MAX_SIZE);
        /// Width of the first stage; it doubles from stage to stage.
        dim: i64 = 96, Plain, count_to(MAX_SIZE);
        /// Number of blocks of each of the four stages.
        depths: [i64; 4] = [3, 3, 9, 3], Plain, each_whole(1, MAX_BLOCKS);
        /// Added to the variance in every layer norm.
        norm_eps: f64 = EPS, Plain, inside_01;
    }
}

const fn sized(dim: i64, depths: [i64; 4]) -> ConvNextOptions {
    ConvNextOptions { patch: 4, dim, depths, norm_eps: EPS }
}

const INPUT: Input = Input::imagenet(224, 0.95);

pub(crate) static MODELS: &[ModelDef] = &[
    model!(ConvNextOptions, "convnext_tiny", "ConvNeXt-T", INPUT, sized(96, [3, 3, 9, 3])),
    model!(ConvNextOptions, "convnext_small", "ConvNeXt-S", INPUT, sized(96, [3, 3, 27, 3])),
    model!(ConvNextOptions, "convnext_base", "ConvNeXt-B", Input::imagenet(224, 0.875), sized(128, [3, 3, 27, 3])),
];

impl Family for ConvNextOptions {
    const FAMILY: &str = "convnext";
    const HEAD: &str = "head.fc";

    fn build(&self, scope: &Scope, request: &Request) -> Result<Box<dyn Module>> {
        build(scope, request, self)
    }

    fn timm(&self, _: &Self, request: &Request) -> Option<Timm> {
        let Self { patch, dim, depths, norm_eps } = *self;
        let mut args = json!({ "patch_size": patch, "dims": [dim, 2 * dim, 4 * dim, 8 * dim], "depths": depths });
        if norm_eps != EPS {
            args["norm_eps"] = json!(norm_eps);
        }
        (patch != 2).then(|| Timm::sized(request.def.name, args))
    }
}

/// A convolution whose bias starts at zero, as in timm.
fn conv(scope: &Scope, channels_in: i64, channels_out: i64, shape: Conv) -> Result<Conv2d> {
    Conv2d::new(scope, channels_in, channels_out, shape.init(WEIGHT).bias_init(Init::Const(0.0)))
}

/// Non-overlapping windows of `side`.
const fn patches(side: i64) -> Conv {
    Conv::same(side).stride(side).padding(0)
}

/// A convolution on (B,H,W,C): a view as (B,C,H,W) with channels innermost in memory.
fn convolve(conv: &Conv2d, x_bhwc: &Tensor) -> Tensor {
    conv.forward(&x_bhwc.permute([0, 3, 1, 2])).permute([0, 2, 3, 1])
}

/// A residual branch, scaled per channel.
struct Block {
    gamma: Tensor,
    conv_dw: Conv2d,
    norm: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn new(scope: &Scope, d: i64, eps: f64) -> Result<Self> {
        Ok(Self {
            gamma: scope.param("gamma", &[d], Init::Const(1e-6))?,
            conv_dw: conv(&scope.sub("conv_dw"), d, d, Conv::same(7).groups(d))?,
            norm: LayerNorm::new(&scope.sub("norm"), d, eps)?,
            mlp: Mlp::new(&scope.sub("mlp"), d, 4 * d, WEIGHT, ZERO)?,
        })
    }

    /// (B,H,W,C) to the same.
    fn forward(&self, x_bhwc: &Tensor) -> Tensor {
        x_bhwc.addcmul(&self.mlp.forward(&self.norm.forward(&convolve(&self.conv_dw, x_bhwc))), &self.gamma)
    }
}

/// Halves the grid (rounded down) and doubles the width.
struct Downsample {
    norm: LayerNorm,
    conv: Conv2d,
}

impl Downsample {
    fn new(scope: &Scope, d: i64, eps: f64) -> Result<Self> {
        Ok(Self { norm: LayerNorm::new(&scope.sub(0), d, eps)?, conv: conv(&scope.sub(1), d, 2 * d, patches(2))? })
    }

    fn forward(&self, x_bhwc: &Tensor) -> Tensor {
        convolve(&self.conv, &self.norm.forward(x_bhwc))
    }
}

struct Stage {
    downsample: Option<Downsample>,
    blocks: Vec<Block>,
}

struct ConvNext {
    stem: Conv2d,
    stem_norm: LayerNorm,
    stages: Vec<Stage>,
    norm: LayerNorm,
    head: Linear,
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, options: &ConvNextOptions) -> Result<Box<dyn Module>> {
    let ConvNextOptions { patch, mut dim, depths, norm_eps: eps } = *options;
    let mut side = request.img / patch;
    if side < 8 {
        let (img, smallest) = (request.img, 8 * patch);
        return Err(Error::invalid(format!(
            "an image of {img} px is too small: the grid of the last stage would be empty; the smallest size is \
             {smallest}, or set a smaller `patch`"
        )));
    }
    let stem = conv(&scope.sub("stem").sub(0), 3, dim, patches(patch))?;
    let stem_norm = LayerNorm::new(&scope.sub("stem").sub(1), dim, eps)?;

    let (mut stages, mut specs) = (Vec::new(), Vec::new());
    for (i, depth) in depths.into_iter().enumerate() {
        let scope = scope.sub("stages").sub(i);
        let mut downsample = None;
        if i > 0 {
            downsample = Some(Downsample::new(&scope.sub("downsample"), dim, eps)?);
            (dim, side) = (2 * dim, side / 2);
        }
        let blocks = (0..depth).map(|j| Block::new(&scope.sub("blocks").sub(j), dim, eps)).collect::<Result<_>>()?;
        stages.push(Stage { downsample, blocks });
        specs.push(StageSpec { kind: StageKind::Map, channels: dim, grid: (side, side) });
    }
    let head = scope.sub("head");
    Ok(Box::new(ConvNext {
        stem,
        stem_norm,
        stages,
        norm: LayerNorm::new(&head.sub("norm"), dim, eps)?,
        head: Linear::with(&head.sub("fc"), dim, request.classes, WEIGHT, Some(ZERO))?,
        taps: TapSpec { stages: specs, stem: false, embedding: Some(dim), classes: request.classes },
    }))
}

impl Module for ConvNext {
    fn forward(&self, x_bchw: &Tensor, Pass { taps, .. }: Pass) -> Output {
        let mut x_bhwc = self.stem_norm.forward(&self.stem.forward(x_bchw).permute([0, 2, 3, 1]));
        let mut stages = Vec::new();
        for Stage { downsample, blocks } in &self.stages {
            if let Some(downsample) = downsample {
                x_bhwc = downsample.forward(&x_bhwc);
            }
            for block in blocks {
                x_bhwc = block.forward(&x_bhwc);
            }
            if taps {
                stages.push(FeatureMap::Map(x_bhwc.permute([0, 3, 1, 2])));
            }
        }
        let embedding = self.norm.forward(&x_bhwc.mean_dim([1i64, 2].as_slice(), false, None::<Kind>));
        Output { logits: self.head.forward(&embedding), embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
