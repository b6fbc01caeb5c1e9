//! Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929) and DeiT without its distillation token (Touvron et al.
//! 2021, arXiv 2012.12877); timm's `vision_transformer.py` and `deit.py`.
//!
//! ```text
//! x = [cls_token, patch_embed(image)] + pos_embed
//! x = blocks(x)                                    the four taps
//! x = norm(x),  logits = head(x[class token])
//! ```
use heterodyne_nn::{
    FeatureMap, Init, Network, Output, Pass, Result, Scope, TapSpec,
    config::{self, KeyError},
    layers::{Block, LayerNorm, Linear},
};
use serde::Deserialize;
use tch::Tensor;

use crate::{
    Input, ModelDef, Opt, Request, refused,
    tokens::{self, PatchEmbed},
};

/// The class token.
const PREFIX: i64 = 1;

/// Sizes of a transformer: pixels of a patch, width, number of blocks and of attention heads.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    patch: i64,
    dim: i64,
    depth: i64,
    heads: i64,
}

macro_rules! vit {
    ($name:literal, $summary:literal, $input:expr, patch $patch:literal, dim $dim:literal, depth $depth:literal, heads $heads:literal) => {{
        const SIZES: Sizes = Sizes { patch: $patch, dim: $dim, depth: $depth, heads: $heads };
        ModelDef {
            name: $name,
            family: "vit",
            input: $input,
            summary: $summary,
            options: &[
                tokens::patch(stringify!($patch)),
                tokens::dim(stringify!($dim)),
                tokens::depth(stringify!($depth)),
                Opt { name: "heads", default: stringify!($heads), doc: "Number of attention heads; it must divide `dim`." },
            ],
            head: "head",
            build: |scope, request| build(scope, request, SIZES),
            check_options: |table| SIZES.with(table).map(drop),
        }
    }};
}

const CENTRED: Input = Input::centred(224, 0.9);
const IMAGENET: Input = Input::imagenet(224, 0.9);

pub(crate) static MODELS: &[ModelDef] = &[
    vit!("vit_tiny_patch16_224", "ViT-Ti/16", CENTRED, patch 16, dim 192, depth 12, heads 3),
    vit!("vit_small_patch16_224", "ViT-S/16", CENTRED, patch 16, dim 384, depth 12, heads 6),
    vit!("vit_base_patch16_224", "ViT-B/16", CENTRED, patch 16, dim 768, depth 12, heads 12),
    vit!("deit_tiny_patch16_224", "DeiT-Ti/16, not distilled", IMAGENET, patch 16, dim 192, depth 12, heads 3),
    vit!("deit_small_patch16_224", "DeiT-S/16, not distilled", IMAGENET, patch 16, dim 384, depth 12, heads 6),
    vit!("deit_base_patch16_224", "DeiT-B/16, not distilled", IMAGENET, patch 16, dim 768, depth 12, heads 12),
    vit!("vit_nano", "ViT for images of a few pixels; ours", Input::centred(8, 1.0), patch 2, dim 64, depth 4, heads 4),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    patch: Option<i64>,
    dim: Option<i64>,
    depth: Option<i64>,
    heads: Option<i64>,
}

impl Sizes {
    fn with(self, table: &toml::Table) -> Result<Self, KeyError> {
        let o: Options = config::parse(table)?;
        let own = Self {
            patch: o.patch.unwrap_or(self.patch),
            dim: o.dim.unwrap_or(self.dim),
            depth: o.depth.unwrap_or(self.depth),
            heads: o.heads.unwrap_or(self.heads),
        };
        tokens::check(&[("patch", own.patch), ("dim", own.dim), ("depth", own.depth), ("heads", own.heads)])?;
        if own.dim % own.heads != 0 {
            return Err(KeyError::new(
                "heads",
                format!("a width of {} cannot be split into {} heads; `heads` must divide `dim`", own.dim, own.heads),
            ));
        }
        Ok(own)
    }
}

struct Vit {
    cls_token: Tensor,
    pos_embed: Tensor,
    patch_embed: PatchEmbed,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    tapped: [i64; 4],
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, sizes: Sizes) -> Result<Box<dyn Network>> {
    let Sizes { patch, dim, depth, heads } = sizes.with(request.options).map_err(refused)?;
    let grid = tokens::grid(request.img, patch)?;
    let weight = Init::TruncNormal { std: 0.02 };
    let patch_bias = Init::Uniform { bound: 1.0 / ((3 * patch * patch) as f64).sqrt() };
    Ok(Box::new(Vit {
        cls_token: scope.param_no_decay("cls_token", &[1, 1, dim], Init::Normal { std: 1e-6 })?,
        pos_embed: scope.param_no_decay("pos_embed", &[1, PREFIX + grid * grid, dim], weight)?,
        patch_embed: PatchEmbed::new(&scope.sub("patch_embed"), patch, dim, Init::TorchDefault, patch_bias)?,
        blocks: (0..depth).map(|i| Block::new(&scope.sub("blocks").sub(i), dim, heads)).collect::<Result<_>>()?,
        norm: LayerNorm::new(&scope.sub("norm"), dim, 1e-6)?,
        head: Linear::with(&scope.sub("head"), dim, request.classes, weight, Some(Init::Const(0.0)))?,
        tapped: tokens::tap_depths(depth),
        taps: tokens::taps(PREFIX, dim, grid, request),
    }))
}

impl Network for Vit {
    fn forward(&self, x_bchw: &Tensor, Pass { taps, .. }: Pass) -> Output {
        let patches = self.patch_embed.forward(x_bchw);
        let cls_token = self.cls_token.expand([patches.size()[0], -1, -1], false);
        let mut x_bnd = Tensor::cat(&[cls_token, patches], 1) + &self.pos_embed;
        let mut stages = Vec::new();
        for (depth, block) in (1..).zip(&self.blocks) {
            // Only the class token is read from the last block where nothing is tapped.
            let tokens = if taps || depth < self.blocks.len() as i64 { x_bnd.size()[1] } else { PREFIX };
            x_bnd = block.forward_first(&x_bnd, tokens);
            if taps && self.tapped.contains(&depth) {
                stages.push(FeatureMap::Tokens { tokens: x_bnd.shallow_clone(), prefix: PREFIX, grid: self.taps.stages[0].grid });
            }
        }
        // Only the class token is read from here on, so only it is normalised.
        let embedding = self.norm.forward(&x_bnd.select(1, 0));
        Output { logits: self.head.forward(&embedding), embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
