//! MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2) with the names of timm's `efficientnet.py`.
//!
//! ```text
//! stem    conv_stem 3x3/2 to 32, bn1, ReLU6
//! blocks  the table below; a linear 1x1 convolution ends each, a shortcut goes around where the shape stays
//! head    conv_head 1x1 to 1280, bn2, ReLU6, global mean, classifier
//! taps    the ends of rows 2, 3 and 5 of the table, and the head's map
//! ```
use heterodyne_nn::{
    FeatureMap, Init, Network, Output, Pass, Result, Scope, StageKind, StageSpec, TapSpec, config,
    layers::{Conv, Linear, Post},
};
use serde::Deserialize;
use tch::Tensor;

use crate::{
    Input, ModelDef, Request,
    conv_bn::{ConvBn, global_mean, strided},
};

pub(crate) static MODELS: &[ModelDef] = &[ModelDef {
    name: "mobilenetv2_100",
    family: "mobilenetv2",
    input: Input::imagenet(224, 0.875),
    summary: "MobileNetV2, width 1.0",
    options: &[],
    head: "classifier",
    build,
    check_options: |table| config::parse::<Options>(table).map(drop),
}];

/// This family has no options.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {}

/// One row of the paper's table.
struct Row {
    /// Expansion of the width inside a block; none where it is 1.
    t: Option<i64>,
    /// Channels after the block.
    c: i64,
    /// Number of blocks.
    n: usize,
    /// Stride of the first.
    s: i64,
    tapped: bool,
}

const STEM: i64 = 32;
const HEAD: i64 = 1280;
const ROWS: [Row; 7] = [
    Row { t: None, c: 16, n: 1, s: 1, tapped: false },
    Row { t: Some(6), c: 24, n: 2, s: 2, tapped: true },
    Row { t: Some(6), c: 32, n: 3, s: 2, tapped: true },
    Row { t: Some(6), c: 64, n: 4, s: 2, tapped: false },
    Row { t: Some(6), c: 96, n: 3, s: 1, tapped: true },
    Row { t: Some(6), c: 160, n: 3, s: 2, tapped: false },
    Row { t: Some(6), c: 320, n: 1, s: 1, tapped: false },
];

/// Expansion (where there is one), depthwise 3x3, linear projection.
struct Block {
    convs: Vec<ConvBn>,
    shortcut: bool,
    tapped: bool,
}

impl Block {
    fn new(scope: &Scope, inputs: i64, stride: i64, row: &Row, tapped: bool) -> Result<Self> {
        let width = inputs * row.t.unwrap_or(1);
        let depthwise = |names| conv_bn(scope, names, width, width, Conv::same(3).stride(stride).groups(width));
        let convs = match row.t {
            None => vec![depthwise(("conv_dw", "bn1"))?, conv_bn(scope, ("conv_pw", "bn2"), width, row.c, Conv::same(1))?],
            Some(_) => vec![
                conv_bn(scope, ("conv_pw", "bn1"), inputs, width, Conv::same(1))?,
                depthwise(("conv_dw", "bn2"))?,
                conv_bn(scope, ("conv_pwl", "bn3"), width, row.c, Conv::same(1))?,
            ],
        };
        Ok(Self { convs, shortcut: stride == 1 && inputs == row.c, tapped })
    }

    fn forward(&self, x_bchw: &Tensor, train: bool) -> Tensor {
        let mut x = x_bchw.shallow_clone();
        for (i, conv) in (1..).zip(&self.convs) {
            let post = match () {
                () if i < self.convs.len() => Post::Relu6,
                () if self.shortcut => Post::Add(x_bchw),
                () => Post::None,
            };
            x = conv.forward(&x, train, post);
        }
        x
    }
}

/// With timm's initialiser: N(0, 2/fan_out), the fan counted within a group.
fn conv_bn(scope: &Scope, names: (&str, &str), inputs: i64, outputs: i64, shape: Conv) -> Result<ConvBn> {
    let fan_out = shape.kernel * shape.kernel * outputs / shape.groups;
    ConvBn::new(scope, names, inputs, outputs, shape.init(Init::Normal { std: (2.0 / fan_out as f64).sqrt() }), 1.0)
}

struct MobileNetV2 {
    conv_stem: ConvBn,
    blocks: Vec<Block>,
    conv_head: ConvBn,
    classifier: Linear,
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request) -> Result<Box<dyn Network>> {
    let (mut channels, mut grid) = (STEM, strided(request.img, 2));
    let stage = |channels, grid| StageSpec { kind: StageKind::Map, channels, grid: (grid, grid) };
    let conv_stem = conv_bn(scope, ("conv_stem", "bn1"), 3, STEM, Conv::same(3).stride(2))?;
    let (mut blocks, mut stages) = (Vec::new(), Vec::new());
    for (s, row) in ROWS.iter().enumerate() {
        for b in 0..row.n {
            let stride = if b == 0 { row.s } else { 1 };
            let scope = scope.sub("blocks").sub(s).sub(b);
            blocks.push(Block::new(&scope, channels, stride, row, row.tapped && b + 1 == row.n)?);
            (channels, grid) = (row.c, strided(grid, stride));
        }
        if row.tapped {
            stages.push(stage(channels, grid));
        }
    }
    stages.push(stage(HEAD, grid));
    let conv_head = conv_bn(scope, ("conv_head", "bn2"), channels, HEAD, Conv::same(1))?;
    // timm counts a linear layer's fan_in as 0.
    let bound = 1.0 / (request.classes as f64).sqrt();
    let classifier = Linear::with(&scope.sub("classifier"), HEAD, request.classes, Init::Uniform { bound }, Some(Init::Const(0.0)))?;
    let taps = TapSpec { stages, embedding: Some(HEAD), classes: request.classes };
    Ok(Box::new(MobileNetV2 { conv_stem, blocks, conv_head, classifier, taps }))
}

impl Network for MobileNetV2 {
    fn forward(&self, x_bchw: &Tensor, Pass { train, taps }: Pass) -> Output {
        let mut x = self.conv_stem.forward(x_bchw, train, Post::Relu6);
        let mut stages = Vec::new();
        for block in &self.blocks {
            x = block.forward(&x, train);
            if taps && block.tapped {
                stages.push(FeatureMap::Map(x.shallow_clone()));
            }
        }
        x = self.conv_head.forward(&x, train, Post::Relu6);
        if taps {
            stages.push(FeatureMap::Map(x.shallow_clone()));
        }
        let embedding = global_mean(&x);
        Output { logits: self.classifier.forward(&embedding), embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
