//! Heads that map any stage of a student to one vector per image.
//!
//! As in OFA-KD (Hao et al. 2023, arXiv 2310.19444): CNN stages use separable convolutions that halve the grid; token
//! stages use patch merging (Swin, arXiv 2103.14030) and transformer blocks.
use heterodyne_nn::{
    FeatureMap, Init, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{BatchNorm2d, Block, BlockStyle, Conv, Conv2d, LayerNorm, Linear, Post},
};
use tch::{Kind, Tensor};

use super::{
    levels::NUM_LEVELS,
    mode::{part_input, training},
    ops::TensorExt,
    pair::{check_norm, stage_spec},
};

/// Token grids are merged as long as the longer side keeps at least this many positions.
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

/// Merges every 2x2 patch into one token: layer norm of the four concatenated tokens, a linear map and, optionally,
/// GELU. Odd grids are padded with zeros at the bottom and on the right.
#[derive(Debug)]
struct PatchMerging {
    norm: LayerNorm,
    reduction: Linear,
    post: Post<'static>,
}

impl PatchMerging {
    fn new(scope: &Scope, width_in: i64, width_out: i64, post: Post<'static>) -> Result<Self> {
        Ok(Self {
            norm: LayerNorm::new(&scope.sub("norm"), 4 * width_in, 1e-5)?,
            reduction: Linear::with(
                &scope.sub("reduction"),
                4 * width_in,
                width_out,
                Init::TruncNormal { std: 0.02 },
                None,
            )?,
            post,
        })
    }

    /// (B,H,W,C) to (B,ceil(H/2),ceil(W/2),C').
    fn forward(&self, x_bhwc: &Tensor) -> Tensor {
        let [b, h, w, c] = x_bhwc.size()[..] else { panic!("patch merging needs (B,H,W,C), got {:?}", x_bhwc.size()) };
        let x =
            if h % 2 + w % 2 > 0 { x_bhwc.constant_pad_nd([0, 0, 0, w % 2, 0, h % 2]) } else { x_bhwc.shallow_clone() };
        let (h, w) = ((h + 1) / 2, (w + 1) / 2);
        let patches = x.reshape([b, h, 2, w, 2, c]).permute([0, 1, 3, 2, 4, 5]).reshape([b, h, w, 4 * c]);
        self.reduction.forward_post(&self.norm.forward(&patches), self.post)
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
    /// Separable convolutions, then the mean over positions.
    Conv(Vec<SepConv>),
    /// The mean over positions, then the 1x1 convolution. This order gives the same result but computes one position
    /// instead of all.
    Last(Linear),
    /// Merging of the patch tokens, a linear map to the right width if nothing was merged, then blocks over class token
    /// and patch tokens.
    Token { merge: Vec<PatchMerging>, widen: Option<Linear>, blocks: Vec<Block> },
}

impl Head {
    /// Refuses a stage whose head would normalise over a single value per channel.
    pub fn check(method: &str, level: usize, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        let spec = stage_spec(method, "student", level, student, teacher)?;
        if spec.kind != StageKind::Map || level == NUM_LEVELS {
            return Ok(());
        }
        let halved = |n: i64| (level..NUM_LEVELS).fold(n, |n, _| (n + 1) / 2);
        let grid = (halved(spec.grid.0), halved(spec.grid.1));
        check_norm(method, &format!("the head of stage {level}"), batch, grid)
    }

    /// Creates the head of stage `level` (1 to 4). For a CNN stage: `4 - level` halvings that double the channels up to
    /// the last one, with output width `conv_width`. For a token stage: `max(4 - level, 1)` blocks with output width
    /// `token_width`; the result is the first token if the network has a class token, else the mean of all tokens.
    pub fn new(scope: &Scope, stage: &StageSpec, level: usize, conv_width: i64, token_width: i64) -> Result<Self> {
        let steps = NUM_LEVELS.saturating_sub(level);
        let (body, width) = match stage.kind {
            StageKind::Map if steps == 0 => (
                Body::Last(Linear::with(
                    &scope.sub("pointwise"),
                    stage.channels,
                    conv_width,
                    Init::TorchDefault,
                    None,
                )?),
                conv_width,
            ),
            StageKind::Map => {
                let width = |i: usize| if i == steps { conv_width } else { stage.channels << i };
                let convs =
                    (0..steps).map(|i| SepConv::new(&scope.sub(i), width(i), width(i + 1))).collect::<Result<_>>()?;
                (Body::Conv(convs), conv_width)
            }
            StageKind::Tokens { prefix } => {
                (Self::token(scope, stage, prefix, steps.max(1), token_width)?, token_width)
            }
        };
        Ok(Self { body, width, kind: scope.kind() })
    }

    fn token(scope: &Scope, stage: &StageSpec, prefix: i64, num_blocks: usize, d: i64) -> Result<Body> {
        let mut sides = vec![stage.grid.0.max(stage.grid.1)];
        while let Some(&side) = sides.last().filter(|&&side| side >= 2 * TOKEN_GRID) {
            sides.push((side + 1) / 2);
        }
        let num_merges = sides.len() - 1;
        let merging = |i: usize| {
            let width_in = if i == 0 { stage.channels } else { d };
            let is_last = i > 0 && i + 1 == num_merges;
            PatchMerging::new(&scope.sub("merge").sub(i), width_in, d, if is_last { Post::None } else { Post::Gelu })
        };
        let merge: Vec<_> = (0..num_merges).map(merging).collect::<Result<_>>()?;
        let widens = stage.channels != d && (merge.is_empty() || prefix > 0);
        let widen = widens.then(|| Linear::new(&scope.sub("widen"), stage.channels, d)).transpose()?;
        let num_heads = (1..=4).rev().find(|n| d % n == 0).unwrap_or(1);
        let block = |i| Block::new(&scope.sub("blocks").sub(i), d, num_heads, BlockStyle::PLAIN);
        Ok(Body::Token { merge, widen, blocks: (0..num_blocks).map(block).collect::<Result<_>>()? })
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
                x_bchw.mean_over(&[2, 3])
            }
            Body::Token { merge, widen, blocks } => {
                let widened = |x: Tensor| widen.as_ref().map_or_else(|| x.shallow_clone(), |widen| widen.forward(&x));
                let x_bhwc = part_input(&feature.to_map(), self.kind)?.permute([0, 2, 3, 1]);
                let places = merge.iter().fold(x_bhwc, |x, merge| merge.forward(&x)).flatten(1, 2);
                let places = if merge.is_empty() { widened(places) } else { places };
                let class = match feature {
                    FeatureMap::Tokens { tokens, prefix, .. } if *prefix > 0 => {
                        Some(widened(part_input(&tokens.narrow(1, 0, *prefix), self.kind)?).to_kind(places.kind()))
                    }
                    _ => None,
                };
                let Some(class) = class else {
                    return Ok(blocks.iter().fold(places, |x, block| block.forward(&x)).mean_dim(
                        [1i64].as_slice(),
                        false,
                        None::<Kind>,
                    ));
                };
                let (last, before) = blocks.split_last().expect("a token head has at least one block");
                let x_bnd = before.iter().fold(Tensor::cat(&[class, places], 1), |x, block| block.forward(&x));
                last.forward_first(&x_bnd, 1).squeeze_dim(1)
            }
        })
    }
}
