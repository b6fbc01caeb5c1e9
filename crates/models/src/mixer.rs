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
use heterodyne_settings::settings;
use serde_json::json;
use tch::Tensor;

use crate::{
    Family, Input, ModelDef, Request, Timm, model,
    tokens::{self, MAX_BLOCKS, MAX_SIZE, PatchEmbed},
};

const EPS: f64 = 1e-6;
const ZERO: Init = Init::Const(0.0);

settings! {
    /// Options of a mixer.
    struct MixerOptions {
        /// Side of a patch in pixels; it must divide the image's.
        patch: i64 = 16, Plain, count_to(MAX_SIZE);
        /// Width of a token.
        dim: i64 = 512, Plain, whole(2, MAX_SIZE);
        /// Number of blocks, at least 4.
        depth: i64 = 8, Plain, whole(4, MAX_BLOCKS);
    }
}

pub(crate) static MODELS: &[ModelDef] = &[
    model!(
        MixerOptions,
        "mixer_s16_224",
        "Mixer-S/16",
        Input::centred(224, 0.875),
        MixerOptions { patch: 16, dim: 512, depth: 8 }
    ),
    model!(
        MixerOptions,
        "mixer_b16_224",
        "Mixer-B/16",
        Input::centred(224, 0.875),
        MixerOptions { patch: 16, dim: 768, depth: 12 }
    ),
    model!(
        MixerOptions,
        "mixer_nano",
        "Mixer for images of a few pixels; ours",
        Input::centred(8, 1.0),
        MixerOptions { patch: 2, dim: 64, depth: 4 }
    ),
];

impl Family for MixerOptions {
    const FAMILY: &str = "mixer";

    fn build(&self, scope: &Scope, request: &Request) -> Result<Box<dyn Module>> {
        build(scope, request, self)
    }

    /// timm takes other sizes of the image only.
    fn timm(&self, own: &Self, request: &Request) -> Option<Timm> {
        let as_in_timm = request.def.name != "mixer_nano" && self == own;
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

fn build(scope: &Scope, request: &Request, options: &MixerOptions) -> Result<Box<dyn Module>> {
    let MixerOptions { patch, dim, depth } = *options;
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
