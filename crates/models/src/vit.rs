//! Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929) and DeiT, with and without its distillation token
//! (Touvron et al. 2021, arXiv 2012.12877); timm's `vision_transformer.py` and `deit.py`.
//!
//! ```text
//! x = [cls_token, (dist_token,) patch_embed(image)] + pos_embed
//! x = blocks(x)                                    the four taps
//! x = norm(x),  logits = head(x[class token])      `pool = "avg"`: head(fc_norm(mean over patches of x)), or with `fc_norm = false`
//!                                                  head(mean over patches of norm(x))
//!               distilled: the mean of that and head_dist(x[distillation token]), also in training, as timm does by default
//!                                                  (`dist_head = false`: head(x[class token]) alone)
//! ```
use heterodyne_nn::{
    Error, FeatureMap, Init, Module, Output, Pass, Result, Scope, TapSpec,
    layers::{Block, BlockStyle, LayerNorm, Linear},
};
use heterodyne_settings::{KeyError, parse};
use serde::Deserialize;
use serde_json::json;
use tch::Tensor;

use crate::{
    Input, ModelDef, Opt, Request, Timm, refused,
    tokens::{self, PatchEmbed},
};

/// Sizes of a transformer: pixels of a patch, width, number of blocks and of attention heads; whether it has a
/// distillation token.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    patch: i64,
    dim: i64,
    depth: i64,
    heads: i64,
    distilled: bool,
    pool: Pool,
    /// Whether the last norm stands behind the pooling.
    fc_norm: bool,
    /// Added to the variance in all norms.
    norm_eps: f64,
    /// Whether the distillation token, if there is one, has a classifier.
    dist_head: bool,
}

/// timm's.
const EPS: f64 = 1e-6;

macro_rules! vit {
    ($name:literal, $summary:literal, $input:expr, patch $patch:literal, dim $dim:literal, depth $depth:literal, heads $heads:literal) => {
        vit!($name, $summary, $input, patch $patch, dim $dim, depth $depth, heads $heads, distilled false)
    };
    ($name:literal, $summary:literal, $input:expr, patch $patch:literal, dim $dim:literal, depth $depth:literal, heads $heads:literal,
     distilled $distilled:literal) => {{
        const SIZES: Sizes = Sizes {
            patch: $patch,
            dim: $dim,
            depth: $depth,
            heads: $heads,
            distilled: $distilled,
            pool: Pool::Token,
            fc_norm: false,
            norm_eps: EPS,
            dist_head: true,
        };
        ModelDef {
            name: $name,
            family: "vit",
            input: $input,
            summary: $summary,
            options: &[
                tokens::patch(stringify!($patch)),
                tokens::dim(stringify!($dim)),
                tokens::depth(stringify!($depth)),
                Opt { name: "heads", default: stringify!($heads), doc: "Number of attention heads; it must divide \
                    `dim`." },
                Opt {
                    name: "pool",
                    default: "\"token\"",
                    doc: "What the classifier reads: the class `token`, or `avg`, the mean of the patches (not with a \
                        distillation token).",
                },
                Opt {
                    name: "fc_norm",
                    default: "false",
                    doc: "Whether the last norm stands behind the pooling, under the name `fc_norm`; where it is not \
                        given, true with `pool = \"avg\"`.",
                },
                Opt {
                    name: "norm_eps",
                    default: "1e-6",
                    doc: "Added to the variance in all layer norms (transformers' `layer_norm_eps`, there 1e-12); \
                        timm has 1e-6 only.",
                },
                Opt {
                    name: "dist_head",
                    default: "true",
                    doc: "Whether a distillation token has a classifier of its own; without it the class token's \
                        answers alone, as transformers' \
                          DeiTForImageClassification does and timm does not.",
                },
            ],
            head: "head",
            build: |scope, request| build(scope, request, SIZES),
            check_options: |table| SIZES.with(table).map(drop),
            timm: |request| SIZES.timm(request),
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
    vit!("deit_tiny_distilled_patch16_224", "DeiT-Ti/16 with a distillation \
        token", IMAGENET, patch 16, dim 192, depth 12, heads 3, distilled true),
    vit!("deit_small_distilled_patch16_224", "DeiT-S/16 with a distillation \
        token", IMAGENET, patch 16, dim 384, depth 12, heads 6, distilled true),
    vit!("deit_base_distilled_patch16_224", "DeiT-B/16 with a distillation \
        token", IMAGENET, patch 16, dim 768, depth 12, heads 12, distilled true),
    vit!("vit_nano", "ViT for images of a few pixels; ours", Input::centred(8, 1.0), patch 2, dim 64, depth 4, heads 4),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    patch: Option<i64>,
    dim: Option<i64>,
    depth: Option<i64>,
    heads: Option<i64>,
    pool: Option<Pool>,
    fc_norm: Option<bool>,
    norm_eps: Option<f64>,
    dist_head: Option<bool>,
}

/// What the classifier reads.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Pool {
    /// The class token.
    Token,
    /// The mean of the patches.
    Avg,
}

impl Sizes {
    fn with(self, table: &toml::Table) -> Result<Self, KeyError> {
        let o: Options = parse(table)?;
        let pool = o.pool.unwrap_or(self.pool);
        let own = Self {
            pool,
            fc_norm: o.fc_norm.unwrap_or(pool == Pool::Avg),
            norm_eps: o.norm_eps.unwrap_or(self.norm_eps),
            dist_head: o.dist_head.unwrap_or(self.dist_head),
            patch: o.patch.unwrap_or(self.patch),
            dim: o.dim.unwrap_or(self.dim),
            depth: o.depth.unwrap_or(self.depth),
            heads: o.heads.unwrap_or(self.heads),
            ..self
        };
        tokens::check(&[("patch", own.patch), ("dim", own.dim), ("depth", own.depth), ("heads", own.heads)])?;
        if own.dim % own.heads != 0 {
            return Err(KeyError::new(
                "heads",
                format!("a width of {} cannot be split into {} heads; `heads` must divide `dim`", own.dim, own.heads),
            ));
        }
        if !(own.norm_eps.is_finite() && own.norm_eps > 0.0) {
            return Err(KeyError::new(
                "norm_eps",
                format!("{} cannot be added to a variance: it must be above 0", own.norm_eps),
            ));
        }
        if !own.distilled && !own.dist_head {
            return Err(KeyError::new(
                "dist_head",
                "there is no distillation token: it must be true, or the model a distilled one",
            ));
        }
        if own.distilled && own.pool == Pool::Avg {
            return Err(KeyError::new(
                "pool",
                "the two classifiers of a distilled network read its tokens: it must be \"token\"",
            ));
        }
        if own.distilled && own.fc_norm {
            return Err(KeyError::new(
                "fc_norm",
                "a distilled network normalises its tokens before they are read: it must be false",
            ));
        }
        Ok(own)
    }

    fn timm(self, request: &Request) -> Option<Timm> {
        let Self { patch, dim, depth, heads, pool, fc_norm, norm_eps, dist_head, .. } =
            self.with(request.options).ok()?;
        // Neither can be said to timm in JSON.
        if norm_eps != EPS || !dist_head {
            return None;
        }
        let name = if request.def.name == "vit_nano" { "vit_tiny_patch16_224" } else { request.def.name };
        let mut args = json!({ "img_size": request.img, "patch_size": patch, "embed_dim": dim, "depth": depth, "num_heads": heads });
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
    /// The distillation token and its classifier, where it has one.
    distillation: Option<(Tensor, Option<Linear>)>,
    patch_embed: PatchEmbed,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    /// Tokens before those of the patches.
    prefix: i64,
    pool: Pool,
    fc_norm: bool,
    tapped: [i64; 4],
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, sizes: Sizes) -> Result<Box<dyn Module>> {
    let Sizes { patch, dim, depth, heads, distilled, pool, fc_norm, norm_eps, dist_head } =
        sizes.with(request.options).map_err(refused)?;
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
    /// The normalised mean of the patches' tokens, or the mean of the normalised ones: (B,N,D) to (B,D).
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
            // Only the first tokens are read from the last block where nothing is tapped or averaged.
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
        // Only those are read from here on, so only they are normalised.
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
