//! Swin transformers (Liu et al. 2021, arXiv 2103.14030); timm's `swin_transformer.py`.
//!
//! ```text
//! x = norm(patch_embed(image))                    (B,H,W,C)
//! stage:  x = merge(x)                            except in the first: merges 2x2 positions, doubles the width
//!         x = x + attention(norm1(x))             within a window: softmax(q k^T / sqrt(d) + bias + mask) v
//!         x = x + mlp(norm2(x))                   per block, every second one on a rolled grid; the four taps
//! embedding = mean over places of norm(x),  logits = head.fc(embedding)
//! ```
//!
//! The bias is learned and depends on the distance between two positions. The mask separates positions that are in one
//! window only because of the roll. A grid that is not a multiple of the window is padded; a grid smaller than a window
//! is one window.
use heterodyne_nn::{
    FeatureMap, Init, Module, Output, Pass, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{LayerNorm, Linear, Mlp, Post, self_attention},
};
use heterodyne_settings::{Checked, settings};
use serde_json::json;
use tch::{Kind, Tensor};

use crate::{
    Family, Input, ModelDef, Request, Timm, model,
    tokens::{self, MAX_BLOCKS, MAX_SIZE, PatchEmbed, divides},
};

const EPS: f64 = 1e-5;
const WEIGHT: Init = Init::TruncNormal { std: 0.02 };
const ZERO: Init = Init::Const(0.0);

/// Mask value for two positions that must not attend to each other, as in timm.
const APART: f32 = -100.0;

settings! {
    /// Options of a Swin.
    struct SwinOptions {
        /// Side of a patch in pixels; it must divide the image's.
        patch: i64 = 4, Plain, count_to(MAX_SIZE);
        /// Side of an attention window in patches; a smaller grid is one window.
        window: i64 = 7, Plain, count_to(MAX_SIZE);
        /// Width of the first stage; it doubles from stage to stage.
        dim: i64 = 96, Plain, count_to(MAX_SIZE);
        /// Number of blocks of each of the four stages.
        depths: [i64; 4] = [2, 2, 6, 2], Plain, each_whole(1, MAX_BLOCKS);
        /// Attention heads of the first stage, doubling like the width; it must divide `dim`.
        heads: i64 = 3, Plain, count_to(MAX_SIZE);
    }
}

const fn sized(dim: i64, depths: [i64; 4], heads: i64) -> SwinOptions {
    SwinOptions { patch: 4, window: 7, dim, depths, heads }
}

macro_rules! swin {
    ($name:literal, $summary:literal, $options:expr) => {
        model!(SwinOptions, $name, $summary, Input::imagenet(224, 0.9), $options)
    };
}

pub(crate) static MODELS: &[ModelDef] = &[
    swin!("swin_pico_patch4_window7_224", "Swin-P of OFA-KD (Hao et al. 2023)", sized(48, [2, 2, 2, 2], 2)),
    swin!("swin_nano_patch4_window7_224", "Swin-N of OFA-KD (Hao et al. 2023)", sized(64, [2, 2, 2, 2], 2)),
    swin!("swin_tiny_patch4_window7_224", "Swin-T", sized(96, [2, 2, 6, 2], 3)),
    swin!("swin_small_patch4_window7_224", "Swin-S", sized(96, [2, 2, 18, 2], 3)),
    swin!("swin_base_patch4_window7_224", "Swin-B", sized(128, [2, 2, 18, 2], 4)),
];

impl Family for SwinOptions {
    const FAMILY: &str = "swin";
    const HEAD: &str = "head.fc";

    fn demands(&self, _: &str) -> Checked {
        divides(self.heads, self.dim)
    }

    fn build(&self, scope: &Scope, request: &Request) -> Result<Box<dyn Module>> {
        build(scope, request, self)
    }

    fn timm(&self, _: &Self, request: &Request) -> Option<Timm> {
        let Self { patch, window, dim, depths, heads } = *self;
        let own = request.def.name.starts_with("swin_pico") || request.def.name.starts_with("swin_nano");
        let name = if own { "swin_tiny_patch4_window7_224" } else { request.def.name };
        let args = json!({
            "img_size": request.img,
            "patch_size": patch,
            "window_size": window,
            "embed_dim": dim,
            "depths": depths,
            "num_heads": [heads, 2 * heads, 4 * heads, 8 * heads],
        });
        Some(Timm::sized(name, args))
    }
}

/// The division of a square grid into square windows.
#[derive(Clone, Copy, Debug)]
struct Windows {
    /// Side of the grid in positions.
    side: i64,
    /// Side of a window in positions.
    window: i64,
    /// Positions by which the grid is rolled before it is divided.
    shift: i64,
}

impl Windows {
    /// Windows with a side of `window` positions, or a single, unshifted window on a smaller grid.
    fn new(side: i64, window: i64, shifted: bool) -> Self {
        let shift = if shifted && side > window { window / 2 } else { 0 };
        Self { side, window: window.min(side), shift }
    }

    /// Windows along one side.
    fn count(self) -> i64 {
        (self.side - 1) / self.window + 1
    }

    /// Side of the grid, padded to whole windows.
    fn padded(self) -> i64 {
        self.count() * self.window
    }

    /// Rolls (B,H,W,C) by `shift` positions towards the end, or back if it is negative.
    fn roll(x_bhwc: &Tensor, shift: i64) -> Tensor {
        if shift == 0 { x_bhwc.shallow_clone() } else { x_bhwc.roll([shift, shift], [1, 2]) }
    }

    /// (B,H,W,C) to (B * windows, places, C).
    fn partition(self, x_bhwc: &Tensor) -> Tensor {
        let (k, w) = (self.count(), self.window);
        let [b, .., c] = x_bhwc.size()[..] else { panic!("windows need (B,H,W,C), got {:?}", x_bhwc.size()) };
        let x = pad(x_bhwc, self.padded() - self.side);
        x.reshape([b, k, w, k, w, c]).permute([0, 1, 3, 2, 4, 5]).reshape([b * k * k, w * w, c])
    }

    /// x (B,H,W,C) + y (B * windows, places, C) with the windows put back in place; y is read without a copy.
    fn add(self, x_bhwc: &Tensor, y: &Tensor) -> Tensor {
        let (k, w, padded) = (self.count(), self.window, self.padded());
        let [b, side, _, c] = x_bhwc.size()[..] else { panic!("windows need (B,H,W,C), got {:?}", x_bhwc.size()) };
        let y = y.reshape([b, k, k, w, w, c]).permute([0, 1, 3, 2, 4, 5]);
        if padded == side {
            return (x_bhwc.reshape([b, k, w, k, w, c]) + y).reshape([b, side, side, c]);
        }
        x_bhwc + y.reshape([b, padded, padded, c]).narrow(1, 0, side).narrow(2, 0, side)
    }

    /// The row of the bias table for each pair of positions in a window: the vertical distance times the number of
    /// horizontal distances, plus the horizontal distance, both counted from the most negative one.
    fn pairs(self) -> Vec<i64> {
        let w = self.window;
        let at = |place: i64| (place / w, place % w);
        let row = |(i, j): (i64, i64)| {
            let ((y, x), (to_y, to_x)) = (at(i), at(j));
            (y - to_y + w - 1) * (2 * w - 1) + x - to_x + w - 1
        };
        (0..w * w).flat_map(|i| (0..w * w).map(move |j| (i, j))).map(row).collect()
    }

    /// (windows, 1, places, places): 0 between true neighbours, [`APART`] between positions that only the roll brought
    /// together.
    fn mask(self) -> Tensor {
        let (k, w, padded) = (self.count(), self.window, self.padded());
        // Which of the three segments of the rolled side a row or column belongs to.
        let stretch = |at: i64| i64::from(at >= padded - w) + i64::from(at >= padded - self.shift);
        let region =
            |window: i64, place: i64| 3 * stretch(window / k * w + place / w) + stretch(window % k * w + place % w);
        let regions: Vec<i64> =
            (0..k * k).flat_map(|window| (0..w * w).map(move |place| region(window, place))).collect();
        let regions = Tensor::from_slice(&regions).reshape([k * k, 1, w * w]);
        let same = regions.unsqueeze(-1).eq_tensor(&regions.unsqueeze(-2));
        same.logical_not().to_kind(Kind::Float) * f64::from(APART)
    }
}

/// (B,H,W,C) with `places` zeros after the last row and column.
fn pad(x_bhwc: &Tensor, places: i64) -> Tensor {
    if places == 0 { x_bhwc.shallow_clone() } else { x_bhwc.constant_pad_nd([0, 0, 0, places, 0, places]) }
}

/// Self-attention within windows.
struct Attention {
    bias_table: Tensor,
    pairs: Tensor,
    mask: Option<Tensor>,
    qkv: Linear,
    proj: Linear,
    heads: i64,
}

impl Attention {
    fn new(scope: &Scope, d: i64, heads: i64, windows: Windows) -> Result<Self> {
        let distances = 2 * windows.window - 1;
        let on_device = |t: Tensor| t.f_to(scope.device());
        Ok(Self {
            bias_table: scope.param_no_decay(
                "relative_position_bias_table",
                &[distances * distances, heads],
                WEIGHT,
            )?,
            pairs: on_device(Tensor::from_slice(&windows.pairs()))?,
            mask: (windows.shift > 0).then(|| on_device(windows.mask().f_to_kind(scope.kind())?)).transpose()?,
            qkv: Linear::with(&scope.sub("qkv"), d, 3 * d, WEIGHT, Some(ZERO))?,
            proj: Linear::with(&scope.sub("proj"), d, d, WEIGHT, Some(ZERO))?,
            heads,
        })
    }

    /// (B * windows, N, D) to the same.
    fn forward(&self, x_bnd: &Tensor) -> Tensor {
        let bias = self.bias(x_bnd.size()[1]);
        self.proj.forward(&self_attention(&self.qkv.forward(x_bnd), self.heads, Some(&bias)))
    }

    /// Bias and mask among `n` positions: (1,H,N,N), or (windows,H,N,N) with a mask. Gathered in each pass: this costs
    /// a fraction of the pass and always reflects the current table.
    fn bias(&self, n: i64) -> Tensor {
        let bias = self.bias_table.index_select(0, &self.pairs).reshape([1, n, n, self.heads]).permute([0, 3, 1, 2]);
        match &self.mask {
            Some(mask) => bias + mask,
            None => bias,
        }
    }
}

/// Windowed attention and MLP, each with a layer norm before it and a shortcut around it.
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    windows: Windows,
}

impl Block {
    fn new(scope: &Scope, d: i64, heads: i64, windows: Windows) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(&scope.sub("norm1"), d, EPS)?,
            attn: Attention::new(&scope.sub("attn"), d, heads, windows)?,
            norm2: LayerNorm::new(&scope.sub("norm2"), d, EPS)?,
            mlp: Mlp::new(&scope.sub("mlp"), d, 4 * d, WEIGHT, ZERO)?,
            windows,
        })
    }

    /// (B,H,W,C) to the same. Everything except the attention works per position, so the whole block can run on the
    /// rolled grid.
    fn forward(&self, x_bhwc: &Tensor) -> Tensor {
        let x = Windows::roll(x_bhwc, -self.windows.shift);
        let x = self.windows.add(&x, &self.attn.forward(&self.windows.partition(&self.norm1.forward(&x))));
        let x = self.mlp.forward_post(&self.norm2.forward(&x), Post::Add(&x));
        Windows::roll(&x, self.windows.shift)
    }
}

/// Merges 2x2 neighbours into one position: (B,H,W,C) to (B,H/2,W/2,2C), rounded up.
struct Merge {
    norm: LayerNorm,
    reduction: Linear,
}

impl Merge {
    fn new(scope: &Scope, d: i64) -> Result<Self> {
        Ok(Self {
            norm: LayerNorm::new(&scope.sub("norm"), 4 * d, EPS)?,
            reduction: Linear::with(&scope.sub("reduction"), 4 * d, 2 * d, WEIGHT, None)?,
        })
    }

    fn forward(&self, x_bhwc: &Tensor) -> Tensor {
        let [b, side, _, c] = x_bhwc.size()[..] else { panic!("merging needs (B,H,W,C), got {:?}", x_bhwc.size()) };
        let half = (side + 1) / 2;
        // Among the four neighbours, the column index varies slower than the row index.
        let x = pad(x_bhwc, side % 2).reshape([b, half, 2, half, 2, c]).permute([0, 1, 3, 4, 2, 5]).reshape([
            b,
            half,
            half,
            4 * c,
        ]);
        self.reduction.forward(&self.norm.forward(&x))
    }
}

struct Stage {
    merge: Option<Merge>,
    blocks: Vec<Block>,
}

struct Swin {
    patch_embed: PatchEmbed,
    patch_norm: LayerNorm,
    stages: Vec<Stage>,
    norm: LayerNorm,
    head: Linear,
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, options: &SwinOptions) -> Result<Box<dyn Module>> {
    let SwinOptions { patch, window, mut dim, depths, mut heads } = *options;
    let mut side = tokens::grid(request.img, patch)?;
    let embed = scope.sub("patch_embed");
    let patch_bias = Init::Uniform { bound: 1.0 / ((3 * patch * patch) as f64).sqrt() };
    let patch_embed = PatchEmbed::new(&embed, patch, dim, Init::TorchDefault, patch_bias)?;
    let patch_norm = LayerNorm::new(&embed.sub("norm"), dim, EPS)?;

    let (mut stages, mut specs) = (Vec::new(), Vec::new());
    for (i, depth) in depths.into_iter().enumerate() {
        let scope = scope.sub("layers").sub(i);
        let mut merge = None;
        if i > 0 {
            merge = Some(Merge::new(&scope.sub("downsample"), dim)?);
            (dim, heads, side) = (2 * dim, 2 * heads, (side + 1) / 2);
        }
        let block = |j| Block::new(&scope.sub("blocks").sub(j), dim, heads, Windows::new(side, window, j % 2 == 1));
        stages.push(Stage { merge, blocks: (0..depth).map(block).collect::<Result<_>>()? });
        specs.push(StageSpec { kind: StageKind::Map, channels: dim, grid: (side, side) });
    }
    Ok(Box::new(Swin {
        patch_embed,
        patch_norm,
        stages,
        norm: LayerNorm::new(&scope.sub("norm"), dim, EPS)?,
        head: Linear::with(&scope.sub("head").sub("fc"), dim, request.classes, WEIGHT, Some(ZERO))?,
        taps: TapSpec { stages: specs, stem: false, embedding: Some(dim), classes: request.classes },
    }))
}

impl Module for Swin {
    fn forward(&self, x_bchw: &Tensor, Pass { taps, .. }: Pass) -> Output {
        let StageSpec { channels, grid: (h, w), .. } = self.taps.stages[0];
        let mut x_bhwc =
            self.patch_norm.forward(&self.patch_embed.forward(x_bchw)).reshape([x_bchw.size()[0], h, w, channels]);
        let mut stages = Vec::new();
        for Stage { merge, blocks } in &self.stages {
            if let Some(merge) = merge {
                x_bhwc = merge.forward(&x_bhwc);
            }
            for block in blocks {
                x_bhwc = block.forward(&x_bhwc);
            }
            if taps {
                stages.push(FeatureMap::Map(x_bhwc.permute([0, 3, 1, 2])));
            }
        }
        let embedding = self.norm.forward(&x_bhwc).mean_dim([1i64, 2].as_slice(), false, None::<Kind>);
        Output { logits: self.head.forward(&embedding), embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
