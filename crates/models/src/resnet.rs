//! Residual networks (He et al. 2016, arXiv 1512.03385), with the stride in the bottleneck's 3x3 convolution; timm's
//! `resnet.py`.
//!
//! ```text
//! stem      conv1 7x7/2, bn1, ReLU, max pool 3x3/2        (cifar: conv1 3x3, bn1, ReLU)
//! layer1-4  blocks of 64, 128, 256, 512 channels (x4 after a bottleneck), grid halved from layer2 on: the four taps
//! head      global mean, fc
//! ```
use heterodyne_nn::{
    Init, Module, Output, Pass, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{Conv, Linear, Post},
};
use heterodyne_settings::Settings;
use tch::Tensor;

use crate::{
    Input, ModelDef, Request,
    conv_bn::{ConvBn, global_mean, run_layers, strided},
    stem::{self, Stem},
};

pub(crate) static MODELS: &[ModelDef] = &[
    row("resnet18", "ResNet-18: basic blocks 2-2-2-2", |scope, request| {
        build(scope, request, Kind::Basic, depths("resnet18"))
    }),
    row("resnet34", "ResNet-34: basic blocks 3-4-6-3", |scope, request| {
        build(scope, request, Kind::Basic, depths("resnet34"))
    }),
    row("resnet50", "ResNet-50: bottleneck blocks 3-4-6-3", |scope, request| {
        build(scope, request, Kind::Bottleneck, depths("resnet50"))
    }),
    row("resnet101", "ResNet-101: bottleneck blocks 3-4-23-3", |scope, request| {
        build(scope, request, Kind::Bottleneck, depths("resnet101"))
    }),
];

/// Number of blocks in each stage.
pub(crate) fn depths(name: &str) -> [usize; 4] {
    match name {
        "resnet18" => [2, 2, 2, 2],
        "resnet101" => [3, 4, 23, 3],
        _ => [3, 4, 6, 3],
    }
}

const fn row(
    name: &'static str,
    summary: &'static str,
    build: fn(&Scope, &Request) -> Result<Box<dyn Module>>,
) -> ModelDef {
    ModelDef {
        name,
        family: "resnet",
        input: Input::imagenet(224, 0.95),
        summary,
        keys: stem::Options::KEYS,
        defaults: stem::Options::defaults,
        head: "fc",
        build,
        check_options: |table| stem::Options::read(table).map(drop),
        timm: stem::timm,
    }
}

/// Kind of residual block.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, and 1x1 to four times the width.
    Bottleneck,
}

impl Kind {
    /// Channels after a block, as a multiple of its width.
    const fn expansion(self) -> i64 {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// Convolutions with a shortcut around them. The shortcut has a 1x1 convolution if the shape changes.
#[derive(Debug)]
pub(crate) struct Block {
    convs: Vec<ConvBn>,
    downsample: Option<ConvBn>,
}

impl Block {
    /// `convs` are (kernel, channels, stride); `gamma` is the initial weight of the last batch norm.
    pub(crate) fn new<const N: usize>(
        scope: &Scope,
        channels: i64,
        convs: [(i64, i64, i64); N],
        gamma: f64,
    ) -> Result<Self> {
        let shape = |kernel, stride| Conv::same(kernel).stride(stride).init(Init::KaimingNormalFanOut);
        let mut layers = Vec::with_capacity(N);
        let (mut inner, mut stride) = (channels, 1);
        for (i, (kernel, out, step)) in (1..).zip(convs) {
            let gamma = if i == N { gamma } else { 1.0 };
            layers.push(ConvBn::new(
                scope,
                (&format!("conv{i}"), &format!("bn{i}")),
                inner,
                out,
                shape(kernel, step),
                gamma,
            )?);
            (inner, stride) = (out, stride * step);
        }
        let changes = inner != channels || stride != 1;
        let downsample = changes
            .then(|| ConvBn::new(&scope.sub("downsample"), ("0", "1"), channels, inner, shape(1, stride), 1.0))
            .transpose()?;
        Ok(Self { convs: layers, downsample })
    }

    pub(crate) fn forward(&self, x_bchw: &Tensor, train: bool) -> Tensor {
        let shortcut = match &self.downsample {
            None => x_bchw.shallow_clone(),
            Some(conv) => conv.forward(x_bchw, train, Post::None),
        };
        let mut x = x_bchw.shallow_clone();
        for (i, conv) in (1..).zip(&self.convs) {
            let last = i == self.convs.len();
            x = conv.forward(&x, train, if last { Post::AddRelu(&shortcut) } else { Post::Relu });
        }
        x
    }
}

struct ResNet {
    stem: Stem,
    conv1: ConvBn,
    layers: Vec<Vec<Block>>,
    fc: Linear,
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, kind: Kind, depths: [usize; 4]) -> Result<Box<dyn Module>> {
    let stem = stem::of(request)?;
    let (kernel, step, mut grid) = match stem {
        Stem::Imagenet => (7, 2, strided(strided(request.img, 2), 2)),
        Stem::Cifar => (3, 1, request.img),
    };
    let mut channels = 64;
    let conv1 = ConvBn::new(
        scope,
        ("conv1", "bn1"),
        3,
        channels,
        Conv::same(kernel).stride(step).init(Init::KaimingNormalFanOut),
        1.0,
    )?;
    let (mut layers, mut stages) = (Vec::new(), Vec::new());
    for (layer, (width, depth)) in [64, 128, 256, 512].into_iter().zip(depths).enumerate() {
        let scope = scope.sub(format!("layer{}", layer + 1));
        let mut blocks = Vec::with_capacity(depth);
        for i in 0..depth {
            let stride = if layer > 0 && i == 0 { 2 } else { 1 };
            let scope = scope.sub(i);
            blocks.push(match kind {
                Kind::Basic => Block::new(&scope, channels, [(3, width, stride), (3, width, 1)], 0.0)?,
                Kind::Bottleneck => {
                    Block::new(&scope, channels, [(1, width, 1), (3, width, stride), (1, 4 * width, 1)], 0.0)?
                }
            });
            channels = kind.expansion() * width;
            grid = strided(grid, stride);
        }
        layers.push(blocks);
        stages.push(StageSpec { kind: StageKind::Map, channels, grid: (grid, grid) });
    }
    let fc = Linear::new(&scope.sub("fc"), channels, request.classes)?;
    Ok(Box::new(ResNet {
        stem,
        conv1,
        layers,
        fc,
        taps: TapSpec { stages, stem: false, embedding: Some(channels), classes: request.classes },
    }))
}

impl Module for ResNet {
    fn forward(&self, x_bchw: &Tensor, Pass { train, taps }: Pass) -> Output {
        let mut x = self.conv1.forward(x_bchw, train, Post::Relu);
        if self.stem == Stem::Imagenet {
            x = x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        }
        let mut stages = Vec::new();
        let x = run_layers(x, &self.layers, taps, &mut stages, |block, x| block.forward(x, train));
        let embedding = global_mean(&x);
        Output { logits: self.fc.forward(&embedding), embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
