//! Heads that bring any stage of a student to one vector per image.
//!
//! Conv stages go through separable convolutions that halve the grid (OFA-KD, arXiv 2310.19444), token stages through patch
//! merging (Swin, arXiv 2103.14030) and transformer blocks.
use heterodyne_nn::{
    FeatureMap, Init, Result, Scope, StageKind, StageSpec,
    layers::{BatchNorm2d, Block, Conv, Conv2d, LayerNorm, Linear, Post},
};
use tch::{Kind, Tensor};

use super::{
    keys::NUM_LEVELS,
    mode::{part_input, training},
};

/// Token grids larger than this are merged.
const TOKEN_GRID: i64 = 7;

/// Depthwise 3x3 of stride 2, 1x1, BN, ReLU, depthwise 3x3, 1x1, BN, ReLU; no biases.
#[derive(Debug)]
pub struct SepConv {
    halves: [Separable; 2],
}

#[derive(Debug)]
struct Separable {
    depthwise: Conv2d,
    pointwise: Conv2d,
    norm: BatchNorm2d,
}

impl SepConv {
    /// (B,in,H,W) to (B,out,ceil(H/2),ceil(W/2)); the first half keeps the channels.
    pub fn new(scope: &Scope, channels_in: i64, channels_out: i64) -> Result<Self> {
        let half = |name: &str, stride, out| {
            let scope = scope.sub(name);
            Ok::<_, heterodyne_nn::Error>(Separable {
                depthwise: Conv2d::new(
                    &scope.sub("depthwise"),
                    channels_in,
                    channels_in,
                    Conv::same(3).stride(stride).groups(channels_in),
                )?,
                pointwise: Conv2d::new(&scope.sub("pointwise"), channels_in, out, Conv::same(1))?,
                norm: BatchNorm2d::new(&scope.sub("norm"), out)?,
            })
        };
        Ok(Self { halves: [half("down", 2, channels_in)?, half("keep", 1, channels_out)?] })
    }

    /// Applies both halves.
    pub fn forward(&self, x_bchw: &Tensor) -> Tensor {
        self.halves.iter().fold(x_bchw.shallow_clone(), |x, half| {
            half.norm.forward_post(&half.pointwise.forward(&half.depthwise.forward(&x)), training(), Post::Relu)
        })
    }
}

/// Every 2x2 patch becomes one token: layer norm of the four side by side, then a linear map and GELU. Odd grids are filled up
/// with zeros at the bottom and on the right.
#[derive(Debug)]
struct PatchMerging {
    norm: LayerNorm,
    reduction: Linear,
}

impl PatchMerging {
    fn new(scope: &Scope, width_in: i64, width_out: i64) -> Result<Self> {
        Ok(Self {
            norm: LayerNorm::new(&scope.sub("norm"), 4 * width_in, 1e-5)?,
            reduction: Linear::with(&scope.sub("reduction"), 4 * width_in, width_out, Init::TruncNormal { std: 0.02 }, None)?,
        })
    }

    /// (B,H,W,C) to (B,ceil(H/2),ceil(W/2),C').
    fn forward(&self, x_bhwc: &Tensor) -> Tensor {
        let [b, h, w, c] = x_bhwc.size()[..] else { panic!("patch merging wants (B,H,W,C), got {:?}", x_bhwc.size()) };
        let x = if h % 2 + w % 2 > 0 { x_bhwc.constant_pad_nd([0, 0, 0, w % 2, 0, h % 2]) } else { x_bhwc.shallow_clone() };
        let (h, w) = ((h + 1) / 2, (w + 1) / 2);
        let patches = x.reshape([b, h, 2, w, 2, c]).permute([0, 1, 3, 2, 4, 5]).reshape([b, h, w, 4 * c]);
        self.reduction.forward(&self.norm.forward(&patches)).gelu("none")
    }
}

/// The head of one stage: (B,width) from a feature map.
#[derive(Debug)]
pub struct Head {
    body: Body,
    width: i64,
    kind: Kind,
}

#[derive(Debug)]
enum Body {
    /// Separable convolutions, then the mean over places.
    Conv(Vec<SepConv>),
    /// The mean over places, then the 1x1 convolution: in this order one place is computed instead of all, with the same result.
    Last(Linear),
    /// Merging until the grid is at most 7x7, a linear map where nothing was merged and widths differ, blocks, mean over places.
    Token { merge: Vec<PatchMerging>, widen: Option<Linear>, blocks: Vec<Block> },
}

impl Head {
    /// The head of stage `level` (1 to 4). A conv stage ends `conv_width` wide after `4 - level` halvings whose channels
    /// double up to the last; a token stage `token_width` wide after `max(4 - level, 1)` blocks.
    pub fn new(scope: &Scope, stage: &StageSpec, level: usize, conv_width: i64, token_width: i64) -> Result<Self> {
        let steps = NUM_LEVELS.saturating_sub(level);
        let (body, width) = match stage.kind {
            StageKind::Map if steps == 0 => {
                (Body::Last(Linear::with(&scope.sub("pointwise"), stage.channels, conv_width, Init::TorchDefault, None)?), conv_width)
            }
            StageKind::Map => {
                let width = |i: usize| if i == steps { conv_width } else { stage.channels << i };
                let convs = (0..steps).map(|i| SepConv::new(&scope.sub(i), width(i), width(i + 1))).collect::<Result<_>>()?;
                (Body::Conv(convs), conv_width)
            }
            StageKind::Tokens { .. } => (Self::token(scope, stage, steps.max(1), token_width)?, token_width),
        };
        Ok(Self { body, width, kind: scope.kind() })
    }

    fn token(scope: &Scope, stage: &StageSpec, num_blocks: usize, d: i64) -> Result<Body> {
        let mut merge = Vec::new();
        let mut side = stage.grid.0.max(stage.grid.1);
        while side > TOKEN_GRID {
            let width_in = if merge.is_empty() { stage.channels } else { d };
            merge.push(PatchMerging::new(&scope.sub("merge").sub(merge.len()), width_in, d)?);
            side = (side + 1) / 2;
        }
        let widen = (merge.is_empty() && stage.channels != d).then(|| Linear::new(&scope.sub("widen"), stage.channels, d)).transpose()?;
        let num_heads = (1..=4).rev().find(|n| d % n == 0).unwrap_or(1);
        let blocks = (0..num_blocks).map(|i| Block::new(&scope.sub("blocks").sub(i), d, num_heads)).collect::<Result<_>>()?;
        Ok(Body::Token { merge, widen, blocks })
    }

    /// Width of the vector.
    #[must_use]
    pub fn width(&self) -> i64 {
        self.width
    }

    /// One vector per image, (B,width).
    pub fn forward(&self, feature: &FeatureMap) -> Result<Tensor> {
        Ok(match &self.body {
            Body::Last(pointwise) => pointwise.forward(&part_input(&feature.pooled(), self.kind)?),
            Body::Conv(convs) => {
                let x_bchw = convs.iter().fold(part_input(&feature.to_map(), self.kind)?, |x, conv| conv.forward(&x));
                x_bchw.mean_dim([2i64, 3].as_slice(), false, None::<Kind>)
            }
            Body::Token { merge, widen, blocks } => {
                let x_bhwc = part_input(&feature.to_map(), self.kind)?.permute([0, 2, 3, 1]);
                let x_bnd = merge.iter().fold(x_bhwc, |x, merge| merge.forward(&x)).flatten(1, 2);
                let x_bnd = widen.as_ref().map_or_else(|| x_bnd.shallow_clone(), |widen| widen.forward(&x_bnd));
                blocks.iter().fold(x_bnd, |x, block| block.forward(&x)).mean_dim([1i64].as_slice(), false, None::<Kind>)
            }
        })
    }
}
