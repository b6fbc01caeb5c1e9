//! Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929) and DeiT, with and without its distillation token
//! (Touvron et al. 2021, arXiv 2012.12877); timm's `vision_transformer.py` and `deit.py`.
//!
//! ```text
//! x = [cls_token, (dist_token,) patch_embed(image)] + pos_embed
//! x = blocks(x)                                    the four taps
//! x = norm(x),  logits = head(x[class token])
//!               `pool = "avg"`: head(fc_norm(mean over patches of x)), or with `fc_norm = false`
//!                               head(mean over patches of norm(x))
//!               distilled: the mean of that and head_dist(x[distillation token]), also in training, as timm does by
//!                          default (`dist_head = false`: head(x[class token]) alone)
//! ```
use heterodyne_nn::{
    Error, FeatureMap, Init, Module, Output, Pass, Result, Scope, TapSpec,
    layers::{Block, BlockStyle, LayerNorm, Linear},
};
use heterodyne_settings::{Checked, KeyError, settings};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Tensor;

use crate::{
    Family, Input, ModelDef, Request, Timm, model,
    tokens::{self, MAX_BLOCKS, MAX_SIZE, PatchEmbed, divides},
};

/// What the classifier reads.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Pool {
    /// The class token.
    Token,
    /// The mean of the patches.
    Avg,
}

/// timm's.
const EPS: f64 = 1e-6;

settings! {
    /// Options of a ViT or a DeiT.
    struct VitOptions {
        /// Side of a patch in pixels; it must divide the image's.
        patch: i64 = 16, Plain, count_to(MAX_SIZE);
        /// Width of a token.
        dim: i64 = 192, Plain, count_to(MAX_SIZE);
        /// Number of blocks, at least 4.
        depth: i64 = 12, Plain, whole(4, MAX_BLOCKS);
        /// Number of attention heads; it must divide `dim`.
        heads: i64 = 3, Plain, count_to(MAX_SIZE);
        /// What the classifier reads: the class `token`, or `avg`, the mean of the patches (not with a distillation
        /// token).
        pool: Pool = Pool::Token, Plain;
        /// Whether the last norm comes after the pooling, under the name `fc_norm`; if not given, true with
        /// `pool = "avg"`.
        #[serde(skip_serializing_if = "Option::is_none")]
        fc_norm: Option<bool> = None, Plain;
        /// Added to the variance in all layer norms (transformers' `layer_norm_eps`, there 1e-12); timm has 1e-6 only.
        norm_eps: f64 = EPS, Plain, positive;
        /// Whether a distillation token has a classifier of its own. Without it the class token answers alone, as in
        /// transformers' DeiTForImageClassification and not in timm.
        dist_head: bool = true, Plain;
    }
}

const fn sized(patch: i64, dim: i64, depth: i64, heads: i64) -> VitOptions {
    VitOptions { patch, dim, depth, heads, pool: Pool::Token, fc_norm: None, norm_eps: EPS, dist_head: true }
}

const TINY: VitOptions = sized(16, 192, 12, 3);
const SMALL: VitOptions = sized(16, 384, 12, 6);
const BASE: VitOptions = sized(16, 768, 12, 12);
const CENTRED: Input = Input::centred(224, 0.9);
const IMAGENET: Input = Input::imagenet(224, 0.9);

macro_rules! vit {
    ($name:literal, $summary:literal, $input:expr, $options:expr) => {
        model!(VitOptions, $name, $summary, $input, $options)
    };
}

pub(crate) static MODELS: &[ModelDef] = &[
    vit!("vit_tiny_patch16_224", "ViT-Ti/16", CENTRED, TINY),
    vit!("vit_small_patch16_224", "ViT-S/16", CENTRED, SMALL),
    vit!("vit_base_patch16_224", "ViT-B/16", CENTRED, BASE),
    vit!("deit_tiny_patch16_224", "DeiT-Ti/16, not distilled", IMAGENET, TINY),
    vit!("deit_small_patch16_224", "DeiT-S/16, not distilled", IMAGENET, SMALL),
    vit!("deit_base_patch16_224", "DeiT-B/16, not distilled", IMAGENET, BASE),
    vit!("deit_tiny_distilled_patch16_224", "DeiT-Ti/16 with a distillation token", IMAGENET, TINY),
    vit!("deit_small_distilled_patch16_224", "DeiT-S/16 with a distillation token", IMAGENET, SMALL),
    vit!("deit_base_distilled_patch16_224", "DeiT-B/16 with a distillation token", IMAGENET, BASE),
    vit!("vit_nano", "ViT for images of a few pixels; ours", Input::centred(8, 1.0), sized(2, 64, 4, 4)),
];

/// Whether the model of this name has a distillation token.
fn distilled(model: &str) -> bool {
    model.contains("_distilled_")
}

impl VitOptions {
    /// Whether the last norm comes after the pooling.
    fn fc_norm(&self) -> bool {
        self.fc_norm.unwrap_or(self.pool == Pool::Avg)
    }
}

impl Family for VitOptions {
    const FAMILY: &str = "vit";

    fn demands(&self, model: &str) -> Checked {
        divides(self.heads, self.dim)?;
        let (key, message) = match distilled(model) {
            false if !self.dist_head => {
                ("dist_head", "there is no distillation token: it must be true, or the model a distilled one")
            }
            true if self.pool == Pool::Avg => {
                ("pool", "the two classifiers of a distilled network read its tokens: it must be \"token\"")
            }
            true if self.fc_norm() => {
                ("fc_norm", "a distilled network normalises its tokens before they are read: it must be false")
            }
            _ => return Ok(()),
        };
        Err(KeyError::new(key, message))
    }

    fn build(&self, scope: &Scope, request: &Request) -> Result<Box<dyn Module>> {
        build(scope, request, self)
    }

    fn timm(&self, _: &Self, request: &Request) -> Option<Timm> {
        let Self { patch, dim, depth, heads, pool, norm_eps, dist_head, .. } = *self;
        let fc_norm = self.fc_norm();
        // Neither can be said to timm in JSON.
        if norm_eps != EPS || !dist_head {
            return None;
        }
        let name = if request.def.name == "vit_nano" { "vit_tiny_patch16_224" } else { request.def.name };
        let img = request.img;
        let mut args = json!({
            "img_size": img,
            "patch_size": patch,
            "embed_dim": dim,
            "depth": depth,
            "num_heads": heads,
        });
        if pool == Pool::Avg {
            args["global_pool"] = json!("avg");
        }
        if fc_norm != (pool == Pool::Avg) {
            args["fc_norm"] = json!(fc_norm);
        }
        Some(Timm::sized(name, args))
    }
}

struct Vit {
    cls_token: Tensor,
    pos_embed: Tensor,
    /// The distillation token and its optional classifier.
    distillation: Option<(Tensor, Option<Linear>)>,
    patch_embed: PatchEmbed,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    /// Number of tokens before the patch tokens.
    prefix: i64,
    pool: Pool,
    fc_norm: bool,
    tapped: [i64; 4],
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, options: &VitOptions) -> Result<Box<dyn Module>> {
    let VitOptions { patch, dim, depth, heads, pool, norm_eps, dist_head, .. } = *options;
    let (distilled, fc_norm) = (distilled(request.def.name), options.fc_norm());
    let grid = tokens::grid(request.img, patch)?;
    let prefix = 1 + i64::from(distilled);
    let weight = Init::TruncNormal { std: 0.02 };
    let patch_bias = Init::Uniform { bound: 1.0 / ((3 * patch * patch) as f64).sqrt() };
    let classifier = |name| Linear::with(&scope.sub(name), dim, request.classes, weight, Some(Init::Const(0.0)));
    let cls_token = scope.param_no_decay("cls_token", &[1, 1, dim], Init::Normal { std: 1e-6 })?;
    let pos_embed = scope.param_no_decay("pos_embed", &[1, prefix + grid * grid, dim], weight)?;
    let dist_token = distilled.then(|| scope.param_no_decay("dist_token", &[1, 1, dim], weight)).transpose()?;
    let patch_embed = PatchEmbed::new(&scope.sub("patch_embed"), patch, dim, Init::TorchDefault, patch_bias)?;
    let style = BlockStyle { eps: norm_eps, ..BlockStyle::VIT };
    let blocks =
        (0..depth).map(|i| Block::new(&scope.sub("blocks").sub(i), dim, heads, style)).collect::<Result<_>>()?;
    let norm = LayerNorm::new(&scope.sub(if fc_norm { "fc_norm" } else { "norm" }), dim, norm_eps)?;
    let head = classifier("head")?;
    let head_dist = || dist_head.then(|| classifier("head_dist")).transpose();
    let distillation = dist_token.map(|token| Ok::<_, Error>((token, head_dist()?))).transpose()?;
    let (tapped, taps) = (tokens::tap_depths(depth), tokens::taps(prefix, dim, grid, request));
    Ok(Box::new(Vit {
        cls_token,
        pos_embed,
        distillation,
        patch_embed,
        blocks,
        norm,
        head,
        prefix,
        pool,
        fc_norm,
        tapped,
        taps,
    }))
}

impl Vit {
    /// The normalised mean of the patch tokens, or the mean of the normalised patch tokens: (B,N,D) to (B,D).
    fn mean_of_patches(&self, x_bnd: &Tensor) -> Tensor {
        let patches = x_bnd.narrow(1, self.prefix, x_bnd.size()[1] - self.prefix);
        let mean = |t: &Tensor| t.mean_dim([1i64].as_slice(), false, None::<tch::Kind>);
        if self.fc_norm { self.norm.forward(&mean(&patches)) } else { mean(&self.norm.forward(&patches)) }
    }
}

impl Module for Vit {
    fn forward(&self, x_bchw: &Tensor, Pass { taps, .. }: Pass) -> Output {
        let patches = self.patch_embed.forward(x_bchw);
        let own_tokens = std::iter::once(&self.cls_token).chain(self.distillation.as_ref().map(|(token, _)| token));
        let mut parts: Vec<_> = own_tokens.map(|token| token.expand([patches.size()[0], -1, -1], false)).collect();
        parts.push(patches);
        let mut x_bnd = Tensor::cat(&parts, 1) + &self.pos_embed;
        let mut stages = Vec::new();
        for (depth, block) in (1..).zip(&self.blocks) {
            // Without taps and averaging, only the first tokens of the last block are read.
            let tokens = if taps || self.pool == Pool::Avg || depth < self.blocks.len() as i64 {
                x_bnd.size()[1]
            } else {
                self.prefix
            };
            x_bnd = block.forward_first(&x_bnd, tokens);
            if taps && self.tapped.contains(&depth) {
                stages.push(FeatureMap::Tokens {
                    tokens: x_bnd.shallow_clone(),
                    prefix: self.prefix,
                    grid: self.taps.stages[0].grid,
                });
            }
        }
        // Only the tokens that are read need normalising.
        let read = |token| self.norm.forward(&x_bnd.select(1, token));
        let class = match self.pool {
            Pool::Token => read(0),
            Pool::Avg => self.mean_of_patches(&x_bnd),
        };
        let (logits, embedding) = match &self.distillation {
            None | Some((_, None)) => (self.head.forward(&class), class),
            Some((_, Some(head_dist))) => {
                let dist = read(1);
                ((self.head.forward(&class) + head_dist.forward(&dist)) / 2.0, (class + dist) / 2.0)
            }
        };
        Output { logits, embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
