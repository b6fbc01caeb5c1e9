//! Networks of depthwise convolutions, as in timm's `efficientnet.py`: MobileNetV1 (Howard et al. 2017, arXiv
//! 1704.04861, table 1), MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2) and EfficientNet (Tan and Le
//! 2019, arXiv 1905.11946, table 1).
//!
//! ```text
//! stem    conv_stem 3x3/2 to 32, bn1, activation       (cifar: 3x3)
//! blocks  the rows of a table: [expansion 1x1], depthwise, [squeeze and excitation], projection 1x1;
//!         a shortcut if the shape is unchanged (not in V1)
//! head    [conv_head 1x1 to 1280, bn2, activation], global mean, classifier
//! taps    the ends of three rows of the table, and the last map before the mean
//! ```
use heterodyne_nn::{
    FeatureMap, Init, Module, Output, Pass, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{Conv, Conv2d, Linear, Post},
};
use heterodyne_settings::{Settings, settings};
use serde_json::json;
use tch::Tensor;

use crate::{
    Input, ModelDef, Request, Timm,
    conv_bn::{self, ConvBn, global_mean, strided},
    refused,
    stem::Stem,
};

pub(crate) static MODELS: &[ModelDef] = &[
    row("mobilenetv1_100", "MobileNetV1, width 1.0", HALF, |scope, request| build(scope, request, &V1)),
    row("mobilenetv2_100", "MobileNetV2, width 1.0", IMAGENET, |scope, request| build(scope, request, &V2)),
    row("efficientnet_b0", "EfficientNet-B0", IMAGENET, |scope, request| build(scope, request, &B0)),
];

const IMAGENET: Input = Input::imagenet(224, 0.875);
const HALF: Input = Input { mean: [0.5; 3], std: [0.5; 3], ..IMAGENET };

const fn row(
    name: &'static str,
    summary: &'static str,
    input: Input,
    build: fn(&Scope, &Request) -> Result<Box<dyn Module>>,
) -> ModelDef {
    ModelDef {
        name,
        family: "efficientnet",
        input,
        summary,
        keys: Options::KEYS,
        defaults: Options::defaults,
        head: "classifier",
        build,
        check_options: |table| Options::read(table).map(drop),
        timm,
    }
}

settings! {
    struct Options {
        /// `imagenet` halves the image's side before the first block; `cifar` keeps it, for images of about 32 px.
        stem: Stem = Stem::Imagenet, Plain;
        /// Added to the variance in every batch norm; 1e-3 in weights that come from TensorFlow.
        bn_eps: f64 = conv_bn::EPS, Plain, inside_01;
    }
}

/// timm has only the published stem.
fn timm(request: &Request) -> Option<Timm> {
    let Options { stem, bn_eps } = Options::read(request.options).ok()?;
    let timm = if bn_eps == conv_bn::EPS {
        Timm::plain(request.def.name)
    } else {
        Timm::sized(request.def.name, json!({ "bn_eps": bn_eps }))
    };
    (stem == Stem::Imagenet).then_some(timm)
}

/// A network of this family.
struct Table {
    rows: &'static [Row],
    activation: Activation,
    /// Whether blocks have squeeze and excitation.
    excitation: bool,
    /// Whether the projection has an activation and blocks have no shortcut.
    plain: bool,
    /// Channels of the last 1x1 convolution, if there is one.
    head: Option<i64>,
}

/// One row of a paper's table.
struct Row {
    /// Expansion of the width inside a block; `None` means 1.
    t: Option<i64>,
    /// Side of the depthwise kernel.
    k: i64,
    /// Channels after the block.
    c: i64,
    /// Number of blocks.
    n: usize,
    /// Stride of the first.
    s: i64,
    tapped: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Activation {
    Relu6,
    Silu,
}

const STEM: i64 = 32;
/// EfficientNet's squeeze and excitation reduces to a quarter of the block's input channels.
const SQUEEZE: i64 = 4;

const V1: Table = Table {
    rows: &[
        Row { t: None, k: 3, c: 64, n: 1, s: 1, tapped: false },
        Row { t: None, k: 3, c: 128, n: 2, s: 2, tapped: true },
        Row { t: None, k: 3, c: 256, n: 2, s: 2, tapped: true },
        Row { t: None, k: 3, c: 512, n: 6, s: 2, tapped: true },
        Row { t: None, k: 3, c: 1024, n: 2, s: 2, tapped: false },
    ],
    activation: Activation::Relu6,
    excitation: false,
    plain: true,
    head: None,
};
const V2: Table = Table {
    rows: &[
        Row { t: None, k: 3, c: 16, n: 1, s: 1, tapped: false },
        Row { t: Some(6), k: 3, c: 24, n: 2, s: 2, tapped: true },
        Row { t: Some(6), k: 3, c: 32, n: 3, s: 2, tapped: true },
        Row { t: Some(6), k: 3, c: 64, n: 4, s: 2, tapped: false },
        Row { t: Some(6), k: 3, c: 96, n: 3, s: 1, tapped: true },
        Row { t: Some(6), k: 3, c: 160, n: 3, s: 2, tapped: false },
        Row { t: Some(6), k: 3, c: 320, n: 1, s: 1, tapped: false },
    ],
    activation: Activation::Relu6,
    excitation: false,
    plain: false,
    head: Some(1280),
};
const B0: Table = Table {
    rows: &[
        Row { t: None, k: 3, c: 16, n: 1, s: 1, tapped: false },
        Row { t: Some(6), k: 3, c: 24, n: 2, s: 2, tapped: true },
        Row { t: Some(6), k: 5, c: 40, n: 2, s: 2, tapped: true },
        Row { t: Some(6), k: 3, c: 80, n: 3, s: 2, tapped: false },
        Row { t: Some(6), k: 5, c: 112, n: 3, s: 1, tapped: true },
        Row { t: Some(6), k: 5, c: 192, n: 4, s: 2, tapped: false },
        Row { t: Some(6), k: 3, c: 320, n: 1, s: 1, tapped: false },
    ],
    activation: Activation::Silu,
    excitation: true,
    plain: false,
    head: Some(1280),
};

impl Activation {
    /// activation(bn(conv(x)))
    fn after(self, conv: &ConvBn, x_bchw: &Tensor, train: bool) -> Tensor {
        match self {
            Self::Relu6 => conv.forward(x_bchw, train, Post::Relu6),
            Self::Silu => conv.forward(x_bchw, train, Post::None).silu(),
        }
    }
}

/// Scales each channel by a factor in 0..1 computed from all channel means (Hu et al. 2018, arXiv 1709.01507).
struct SqueezeExcite {
    conv_reduce: Conv2d,
    conv_expand: Conv2d,
}

impl SqueezeExcite {
    fn new(scope: &Scope, channels: i64, reduced: i64) -> Result<Self> {
        let conv = |name, inputs, outputs| {
            let shape = Conv::same(1).init(he(1, outputs, 1)).bias_init(Init::Const(0.0));
            Conv2d::new(&scope.sub(name), inputs, outputs, shape)
        };
        Ok(Self {
            conv_reduce: conv("conv_reduce", channels, reduced)?,
            conv_expand: conv("conv_expand", reduced, channels)?,
        })
    }

    fn forward(&self, x_bchw: &Tensor) -> Tensor {
        let mean = global_mean(x_bchw).unsqueeze(-1).unsqueeze(-1);
        x_bchw * self.conv_expand.forward(&self.conv_reduce.forward(&mean).silu()).sigmoid()
    }
}

/// Optional expansion, depthwise convolution, optional squeeze and excitation, projection.
struct Block {
    expansion: Option<ConvBn>,
    depthwise: ConvBn,
    se: Option<SqueezeExcite>,
    projection: ConvBn,
    activation: Activation,
    plain: bool,
    shortcut: bool,
    tapped: bool,
}

impl Block {
    fn new(scope: &Scope, inputs: i64, stride: i64, table: &Table, row: &Row, eps: f64, tapped: bool) -> Result<Self> {
        let width = inputs * row.t.unwrap_or(1);
        let (bn_of_depthwise, projection) =
            if row.t.is_some() { ("bn2", ("conv_pwl", "bn3")) } else { ("bn1", ("conv_pw", "bn2")) };
        let shape = Conv::same(row.k).stride(stride).groups(width);
        Ok(Self {
            expansion: row
                .t
                .map(|_| conv_bn(scope, ("conv_pw", "bn1"), inputs, width, Conv::same(1), eps))
                .transpose()?,
            depthwise: conv_bn(scope, ("conv_dw", bn_of_depthwise), width, width, shape, eps)?,
            se: table.excitation.then(|| SqueezeExcite::new(&scope.sub("se"), width, inputs / SQUEEZE)).transpose()?,
            projection: conv_bn(scope, projection, width, row.c, Conv::same(1), eps)?,
            activation: table.activation,
            plain: table.plain,
            shortcut: !table.plain && stride == 1 && inputs == row.c,
            tapped,
        })
    }

    fn forward(&self, x_bchw: &Tensor, train: bool) -> Tensor {
        let mut x = x_bchw.shallow_clone();
        for conv in self.expansion.iter().chain([&self.depthwise]) {
            x = self.activation.after(conv, &x, train);
        }
        if let Some(se) = &self.se {
            x = se.forward(&x);
        }
        match () {
            () if self.plain => self.activation.after(&self.projection, &x, train),
            () if self.shortcut => self.projection.forward(&x, train, Post::Add(x_bchw)),
            () => self.projection.forward(&x, train, Post::None),
        }
    }
}

/// timm's initialiser: N(0, 2/fan_out), with the fan of one group.
fn he(kernel: i64, outputs: i64, groups: i64) -> Init {
    Init::Normal { std: (2.0 / (kernel * kernel * outputs / groups) as f64).sqrt() }
}

fn conv_bn(scope: &Scope, names: (&str, &str), inputs: i64, outputs: i64, shape: Conv, eps: f64) -> Result<ConvBn> {
    ConvBn::with_eps(scope, names, inputs, outputs, shape.init(he(shape.kernel, outputs, shape.groups)), 1.0, eps)
}

struct EfficientNet {
    conv_stem: ConvBn,
    blocks: Vec<Block>,
    conv_head: Option<ConvBn>,
    classifier: Linear,
    activation: Activation,
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, table: &Table) -> Result<Box<dyn Module>> {
    let Options { stem, bn_eps } = Options::read(request.options).map_err(refused)?;
    let stride = if stem == Stem::Imagenet { 2 } else { 1 };
    let (mut channels, mut grid) = (STEM, strided(request.img, stride));
    let stage = |channels, grid| StageSpec { kind: StageKind::Map, channels, grid: (grid, grid) };
    let conv_stem = conv_bn(scope, ("conv_stem", "bn1"), 3, STEM, Conv::same(3).stride(stride), bn_eps)?;
    let (mut blocks, mut stages) = (Vec::new(), Vec::new());
    for (s, row) in table.rows.iter().enumerate() {
        for b in 0..row.n {
            let stride = if b == 0 { row.s } else { 1 };
            let scope = scope.sub("blocks").sub(s).sub(b);
            blocks.push(Block::new(&scope, channels, stride, table, row, bn_eps, row.tapped && b + 1 == row.n)?);
            (channels, grid) = (row.c, strided(grid, stride));
        }
        if row.tapped {
            stages.push(stage(channels, grid));
        }
    }
    let conv_head = table
        .head
        .map(|head| conv_bn(scope, ("conv_head", "bn2"), channels, head, Conv::same(1), bn_eps))
        .transpose()?;
    let embedding = table.head.unwrap_or(channels);
    stages.push(stage(embedding, grid));
    // timm takes a linear layer's fan_in as 0.
    let bound = 1.0 / (request.classes as f64).sqrt();
    let classifier = Linear::with(
        &scope.sub("classifier"),
        embedding,
        request.classes,
        Init::Uniform { bound },
        Some(Init::Const(0.0)),
    )?;
    let taps = TapSpec { stages, stem: false, embedding: Some(embedding), classes: request.classes };
    Ok(Box::new(EfficientNet { conv_stem, blocks, conv_head, classifier, activation: table.activation, taps }))
}

impl Module for EfficientNet {
    fn forward(&self, x_bchw: &Tensor, Pass { train, taps }: Pass) -> Output {
        let mut x = self.activation.after(&self.conv_stem, x_bchw, train);
        let mut stages = Vec::new();
        for block in &self.blocks {
            x = block.forward(&x, train);
            if taps && block.tapped {
                stages.push(FeatureMap::Map(x.shallow_clone()));
            }
        }
        if let Some(conv_head) = &self.conv_head {
            x = self.activation.after(conv_head, &x, train);
        }
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
