//! MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601); timm's `mlp_mixer.py`.
//!
//! ```text
//! x = stem(image)                                        (B,N,D)
//! x = x + mlp_tokens(norm1(x)^T)^T                       hidden width D/2
//! x = x + mlp_channels(norm2(x))                         hidden width 4D      per block; four are tapped
//! embedding = mean over tokens of norm(x),  logits = head(embedding)
//! ```
use heterodyne_nn::{
    FeatureMap, Init, Module, Output, Pass, Result, Scope, TapSpec,
    layers::{LayerNorm, Linear, Mlp, Post},
};
use heterodyne_settings::{KeyError, parse};
use serde::Deserialize;
use serde_json::json;
use tch::Tensor;

use crate::{
    Input, ModelDef, Request, Timm, refused,
    tokens::{self, PatchEmbed},
};

const EPS: f64 = 1e-6;
const ZERO: Init = Init::Const(0.0);

/// Sizes of a mixer: pixels of a patch, width and number of blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sizes {
    patch: i64,
    dim: i64,
    depth: i64,
}

macro_rules! mixer {
    ($name:literal, $summary:literal, $input:expr, patch $patch:literal, dim $dim:literal, depth $depth:literal) => {{
        const SIZES: Sizes = Sizes { patch: $patch, dim: $dim, depth: $depth };
        ModelDef {
            name: $name,
            family: "mixer",
            input: $input,
            summary: $summary,
            options: &[
                tokens::patch(stringify!($patch)),
                tokens::dim(stringify!($dim)),
                tokens::depth(stringify!($depth)),
            ],
            head: "head",
            build: |scope, request| build(scope, request, SIZES),
            check_options: |table| SIZES.with(table).map(drop),
            timm: |request| SIZES.timm(request),
        }
    }};
}

pub(crate) static MODELS: &[ModelDef] = &[
    mixer!("mixer_s16_224", "Mixer-S/16", Input::centred(224, 0.875), patch 16, dim 512, depth 8),
    mixer!("mixer_b16_224", "Mixer-B/16", Input::centred(224, 0.875), patch 16, dim 768, depth 12),
    mixer!("mixer_nano", "Mixer for images of a few pixels; ours", Input::centred(8, 1.0), patch 2, dim 64, depth 4),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    patch: Option<i64>,
    dim: Option<i64>,
    depth: Option<i64>,
}

impl Sizes {
    fn with(self, table: &toml::Table) -> Result<Self, KeyError> {
        let o: Options = parse(table)?;
        let own = Self {
            patch: o.patch.unwrap_or(self.patch),
            dim: o.dim.unwrap_or(self.dim),
            depth: o.depth.unwrap_or(self.depth),
        };
        tokens::check(&[("patch", own.patch), ("dim", own.dim), ("depth", own.depth)])?;
        if own.dim < 2 {
            return Err(KeyError::new(
                "dim",
                "a mixer of width 1 has no hidden units between tokens; it must be at least 2",
            ));
        }
        Ok(own)
    }

    /// timm takes other sizes of the image only.
    fn timm(self, request: &Request) -> Option<Timm> {
        let as_in_timm = request.def.name != "mixer_nano" && self.with(request.options).ok()? == self;
        as_in_timm.then(|| Timm::sized(request.def.name, json!({ "img_size": request.img })))
    }
}

struct Block {
    norm1: LayerNorm,
    mlp_tokens: Mlp,
    norm2: LayerNorm,
    mlp_channels: Mlp,
}

impl Block {
    fn new(scope: &Scope, n: i64, d: i64) -> Result<Self> {
        let mlp = |name, width, hidden| {
            Mlp::new(&scope.sub(name), width, hidden, Init::XavierUniform, Init::Normal { std: 1e-6 })
        };
        Ok(Self {
            norm1: LayerNorm::new(&scope.sub("norm1"), d, EPS)?,
            mlp_tokens: mlp("mlp_tokens", n, d / 2)?,
            norm2: LayerNorm::new(&scope.sub("norm2"), d, EPS)?,
            mlp_channels: mlp("mlp_channels", d, 4 * d)?,
        })
    }

    fn forward(&self, x_bnd: &Tensor) -> Tensor {
        let x_bnd = self.mlp_tokens.mix_add(&self.norm1.forward(x_bnd), x_bnd);
        self.mlp_channels.forward_post(&self.norm2.forward(&x_bnd), Post::Add(&x_bnd))
    }
}

struct Mixer {
    stem: PatchEmbed,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    tapped: [i64; 4],
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, sizes: Sizes) -> Result<Box<dyn Module>> {
    let Sizes { patch, dim, depth } = sizes.with(request.options).map_err(refused)?;
    let grid = tokens::grid(request.img, patch)?;
    Ok(Box::new(Mixer {
        stem: PatchEmbed::new(&scope.sub("stem"), patch, dim, Init::LecunNormal, ZERO)?,
        blocks: (0..depth).map(|i| Block::new(&scope.sub("blocks").sub(i), grid * grid, dim)).collect::<Result<_>>()?,
        norm: LayerNorm::new(&scope.sub("norm"), dim, EPS)?,
        head: Linear::with(&scope.sub("head"), dim, request.classes, ZERO, Some(ZERO))?,
        tapped: tokens::tap_depths(depth),
        taps: tokens::taps(0, dim, grid, request),
    }))
}

impl Module for Mixer {
    fn forward(&self, x_bchw: &Tensor, Pass { taps, .. }: Pass) -> Output {
        let mut x_bnd = self.stem.forward(x_bchw);
        let mut stages = Vec::new();
        for (depth, block) in (1..).zip(&self.blocks) {
            x_bnd = block.forward(&x_bnd);
            if taps && self.tapped.contains(&depth) {
                stages.push(FeatureMap::Tokens {
                    tokens: x_bnd.shallow_clone(),
                    prefix: 0,
                    grid: self.taps.stages[0].grid,
                });
            }
        }
        let embedding = self.norm.forward(&x_bnd).mean_dim([1i64].as_slice(), false, None::<tch::Kind>);
        Output { logits: self.head.forward(&embedding), embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
