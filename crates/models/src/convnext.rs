//! ConvNeXt (Liu et al. 2022, arXiv 2201.03545); timm's `convnext.py`.
//!
//! ```text
//! x = norm(stem(image))                           patches of 4x4 pixels; (B,H,W,C), norms are over C
//! stage:  x = downsample(norm(x))                 not in the first: a 2x2/2 convolution to twice the width
//!         x = x + gamma * mlp(norm(conv_dw(x)))   per block, conv_dw 7x7 and depthwise; the four taps
//! embedding = norm(mean over places of x),  logits = head.fc(embedding)
//! ```
//!
//! Pixels that fill no patch are left out, as in timm. With `patch = 2` timm's first stage has a downsampling too; here
//! it has none.
use heterodyne_nn::{
    Error, FeatureMap, Init, Module, Output, Pass, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{Conv, Conv2d, LayerNorm, Linear, Mlp},
};
use heterodyne_settings::{KeyError, parse};
use serde::Deserialize;
use serde_json::json;
use tch::{Kind, Tensor};

use crate::{Input, ModelDef, Opt, Request, Timm, refused, tokens};

const EPS: f64 = 1e-6;
const WEIGHT: Init = Init::TruncNormal { std: 0.02 };
const ZERO: Init = Init::Const(0.0);

/// Sizes of a ConvNeXt: pixels of a patch, width of the first stage, which doubles from stage to stage, and blocks per
/// stage.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    patch: i64,
    dim: i64,
    depths: [i64; 4],
    /// Added to the variance in every norm.
    eps: f64,
}

macro_rules! convnext {
    ($name:literal, $summary:literal, crop $crop:literal, dim $dim:literal, depths $depths:tt) => {{
        const SIZES: Sizes = Sizes { patch: 4, dim: $dim, depths: $depths, eps: EPS };
        ModelDef {
            name: $name,
            family: "convnext",
            input: Input::imagenet(224, $crop),
            summary: $summary,
            options: &[
                Opt {
                    name: "patch",
                    default: "4",
                    doc: "Side of the stem's patches in pixels; an image needs eight along its side.",
                },
                Opt {
                    name: "dim",
                    default: stringify!($dim),
                    doc: "Width of the first stage; it doubles from stage to stage.",
                },
                Opt {
                    name: "depths",
                    default: stringify!($depths),
                    doc: "Number of blocks of each of the four stages.",
                },
                Opt { name: "norm_eps", default: "1e-6", doc: "Added to the variance in every layer norm." },
            ],
            head: "head.fc",
            build: |scope, request| build(scope, request, SIZES),
            check_options: |table| SIZES.with(table).map(drop),
            timm: |request| SIZES.timm(request),
        }
    }};
}

pub(crate) static MODELS: &[ModelDef] = &[
    convnext!("convnext_tiny", "ConvNeXt-T", crop 0.95, dim 96, depths [3, 3, 9, 3]),
    convnext!("convnext_small", "ConvNeXt-S", crop 0.95, dim 96, depths [3, 3, 27, 3]),
    convnext!("convnext_base", "ConvNeXt-B", crop 0.875, dim 128, depths [3, 3, 27, 3]),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    patch: Option<i64>,
    dim: Option<i64>,
    depths: Option<[i64; 4]>,
    norm_eps: Option<f64>,
}

impl Sizes {
    fn with(self, table: &toml::Table) -> Result<Self, KeyError> {
        let o: Options = parse(table)?;
        let own = Self {
            patch: o.patch.unwrap_or(self.patch),
            dim: o.dim.unwrap_or(self.dim),
            depths: o.depths.unwrap_or(self.depths),
            eps: o.norm_eps.unwrap_or(self.eps),
        };
        tokens::check_eps("norm_eps", own.eps)?;
        tokens::check(&[("patch", own.patch), ("dim", own.dim)])?;
        tokens::check(&own.depths.map(|depth| ("depths", depth)))?;
        Ok(own)
    }

    fn timm(self, request: &Request) -> Option<Timm> {
        let Self { patch, dim, depths, eps } = self.with(request.options).ok()?;
        let mut args = json!({ "patch_size": patch, "dims": [dim, 2 * dim, 4 * dim, 8 * dim], "depths": depths });
        if eps != EPS {
            args["norm_eps"] = json!(eps);
        }
        (patch != 2).then(|| Timm::sized(request.def.name, args))
    }
}

/// A convolution with a bias, which timm starts at zero.
fn conv(scope: &Scope, channels_in: i64, channels_out: i64, shape: Conv) -> Result<Conv2d> {
    Conv2d::new(scope, channels_in, channels_out, shape.init(WEIGHT).bias_init(Init::Const(0.0)))
}

/// Windows of `side` that touch.
const fn patches(side: i64) -> Conv {
    Conv::same(side).stride(side).padding(0)
}

/// A convolution of (B,H,W,C), which to it is a (B,C,H,W) with channels innermost in memory.
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

/// Halves the grid, rounded down, and doubles the width.
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

fn build(scope: &Scope, request: &Request, sizes: Sizes) -> Result<Box<dyn Module>> {
    let Sizes { patch, mut dim, depths, eps } = sizes.with(request.options).map_err(refused)?;
    let mut side = request.img / patch;
    if side < 8 {
        let (img, smallest) = (request.img, 8 * patch);
        return Err(Error::invalid(format!(
            "an image of {img} px leaves the last stage without a grid; the smallest size is {smallest}, or set a \
             smaller `patch`"
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
