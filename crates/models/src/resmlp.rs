//! ResMLP (Touvron et al. 2021, arXiv 2105.03404); timm's `mlp_mixer.py`.
//!
//! ```text
//! x = stem(image)                                        (B,N,D)
//! x = x + ls1 * linear_tokens(norm1(x)^T)^T
//! x = x + ls2 * mlp_channels(norm2(x))                   hidden width 4D      per block; four are tapped
//! embedding = mean over tokens of norm(x),  logits = head(embedding)
//! every norm is x * alpha + beta
//! ```
use heterodyne_nn::{
    FeatureMap, Init, Module, Output, Pass, Result, Scope, TapSpec,
    layers::{Linear, Mlp},
};
use heterodyne_settings::settings;
use serde_json::json;
use tch::Tensor;

use crate::{
    Family, Input, ModelDef, Request, Timm, model,
    tokens::{self, MAX_BLOCKS, MAX_SIZE, PatchEmbed},
};

const ZERO: Init = Init::Const(0.0);

settings! {
    /// Options of a ResMLP.
    struct ResMlpOptions {
        /// Side of a patch in pixels; it must divide the image's.
        patch: i64 = 16, Plain, count_to(MAX_SIZE);
        /// Width of a token.
        dim: i64 = 384, Plain, count_to(MAX_SIZE);
        /// Number of blocks, at least 4.
        depth: i64 = 12, Plain, whole(4, MAX_BLOCKS);
    }
}

const fn sized(depth: i64) -> ResMlpOptions {
    ResMlpOptions { patch: 16, dim: 384, depth }
}

const INPUT: Input = Input::imagenet(224, 0.875);

pub(crate) static MODELS: &[ModelDef] = &[
    model!(ResMlpOptions, "resmlp_12_224", "ResMLP-S12", INPUT, sized(12)),
    model!(ResMlpOptions, "resmlp_24_224", "ResMLP-S24", INPUT, sized(24)),
];

impl Family for ResMlpOptions {
    const FAMILY: &str = "resmlp";

    fn build(&self, scope: &Scope, request: &Request) -> Result<Box<dyn Module>> {
        build(scope, request, self)
    }

    /// timm takes other sizes of the image only.
    fn timm(&self, own: &Self, request: &Request) -> Option<Timm> {
        (self == own).then(|| Timm::sized(request.def.name, json!({ "img_size": request.img })))
    }
}

/// Replaces the norms of other networks: a scale and a shift per channel.
struct Affine {
    alpha: Tensor,
    beta: Tensor,
}

impl Affine {
    fn new(scope: &Scope, d: i64) -> Result<Self> {
        let shape = [1, 1, d];
        Ok(Self {
            alpha: scope.param_no_decay("alpha", &shape, Init::Const(1.0))?,
            beta: scope.param_no_decay("beta", &shape, ZERO)?,
        })
    }

    fn forward(&self, x_bnd: &Tensor) -> Tensor {
        self.beta.addcmul(&self.alpha, x_bnd)
    }
}

struct Block {
    ls1: Tensor,
    ls2: Tensor,
    norm1: Affine,
    linear_tokens: Linear,
    norm2: Affine,
    mlp_channels: Mlp,
}

impl Block {
    fn new(scope: &Scope, n: i64, d: i64, layer_scale: Init) -> Result<Self> {
        Ok(Self {
            ls1: scope.param("ls1", &[d], layer_scale)?,
            ls2: scope.param("ls2", &[d], layer_scale)?,
            norm1: Affine::new(&scope.sub("norm1"), d)?,
            linear_tokens: Linear::with(&scope.sub("linear_tokens"), n, n, Init::XavierUniform, Some(ZERO))?,
            norm2: Affine::new(&scope.sub("norm2"), d)?,
            mlp_channels: Mlp::new(
                &scope.sub("mlp_channels"),
                d,
                4 * d,
                Init::XavierUniform,
                Init::Normal { std: 1e-6 },
            )?,
        })
    }

    fn forward(&self, x_bnd: &Tensor) -> Tensor {
        let x_bnd = x_bnd.addcmul(&self.ls1, &self.linear_tokens.mix(&self.norm1.forward(x_bnd)));
        x_bnd.addcmul(&self.ls2, &self.mlp_channels.forward(&self.norm2.forward(&x_bnd)))
    }
}

struct ResMlp {
    stem: PatchEmbed,
    blocks: Vec<Block>,
    norm: Affine,
    head: Linear,
    tapped: [i64; 4],
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, options: &ResMlpOptions) -> Result<Box<dyn Module>> {
    let ResMlpOptions { patch, dim, depth } = *options;
    // As the authors start their deeper networks.
    let layer_scale = Init::Const(if request.def.name == "resmlp_24_224" { 1e-5 } else { 1e-4 });
    let grid = tokens::grid(request.img, patch)?;
    Ok(Box::new(ResMlp {
        stem: PatchEmbed::new(&scope.sub("stem"), patch, dim, Init::LecunNormal, ZERO)?,
        blocks: (0..depth)
            .map(|i| Block::new(&scope.sub("blocks").sub(i), grid * grid, dim, layer_scale))
            .collect::<Result<_>>()?,
        norm: Affine::new(&scope.sub("norm"), dim)?,
        head: Linear::with(&scope.sub("head"), dim, request.classes, ZERO, Some(ZERO))?,
        tapped: tokens::tap_depths(depth),
        taps: tokens::taps(0, dim, grid, request),
    }))
}

impl Module for ResMlp {
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
