//! Wide residual networks for 32 px (Zagoruyko and Komodakis 2016, arXiv 1605.07146) with the parameter names of the
//! CRD benchmark (Tian et al. 2020, arXiv 1910.10699; RepDistiller): depth 6n+4, norms before convolutions.
//!
//! ```text
//! stem      conv1 3x3                                          the first tap
//! block1-3  n blocks each of width 16k, 32k, 64k, halving the grid from block2 on   the other three
//! head      bn1, ReLU, global mean, fc
//! ```
use heterodyne_nn::{
    FeatureMap, Init, Module, Output, Pass, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{BatchNorm2d, Conv, Conv2d, Linear, Post},
};
use tch::Tensor;

use crate::{
    ModelDef, Request,
    conv_bn::{ConvBn, global_mean, run_layers, strided},
    resnet_cifar,
};

const STEM: i64 = 16;
/// Base widths of the blocks, before the width factor.
const WIDTHS: [i64; 3] = [16, 32, 64];

pub(crate) static MODELS: &[ModelDef] = &[
    row("wrn_16_1", "WRN-16-1 for 32 px, widths 16-32-64", |scope, request| build(scope, request, 16, 1)),
    row("wrn_16_2", "WRN-16-2 for 32 px, widths 32-64-128", |scope, request| build(scope, request, 16, 2)),
    row("wrn_40_1", "WRN-40-1 for 32 px, widths 16-32-64", |scope, request| build(scope, request, 40, 1)),
    row("wrn_40_2", "WRN-40-2 for 32 px, widths 32-64-128", |scope, request| build(scope, request, 40, 2)),
];

const fn row(
    name: &'static str,
    summary: &'static str,
    build: fn(&Scope, &Request) -> Result<Box<dyn Module>>,
) -> ModelDef {
    ModelDef::plain([name, "wide_resnet", "fc", summary], resnet_cifar::INPUT, build)
}

fn conv(kernel: i64) -> Conv {
    Conv::same(kernel).init(Init::KaimingNormalFanOut)
}

/// Norm and ReLU before each of two 3x3 convolutions. If the width changes, the shortcut also starts after the first
/// norm and ReLU.
struct Block {
    bn1: BatchNorm2d,
    /// With the norm that follows it.
    conv1: ConvBn,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Block {
    fn new(scope: &Scope, inputs: i64, outputs: i64, stride: i64) -> Result<Self> {
        let changes = inputs != outputs;
        Ok(Self {
            bn1: BatchNorm2d::new(&scope.sub("bn1"), inputs)?,
            conv1: ConvBn::new(scope, ("conv1", "bn2"), inputs, outputs, conv(3).stride(stride), 1.0)?,
            conv2: Conv2d::new(&scope.sub("conv2"), outputs, outputs, conv(3))?,
            shortcut: changes
                .then(|| Conv2d::new(&scope.sub("convShortcut"), inputs, outputs, conv(1).stride(stride)))
                .transpose()?,
        })
    }

    fn forward(&self, x_bchw: &Tensor, train: bool) -> Tensor {
        let before = self.bn1.forward_post(x_bchw, train, Post::Relu);
        let y = self.conv2.forward(&self.conv1.forward(&before, train, Post::Relu));
        y + self.shortcut.as_ref().map_or_else(|| x_bchw.shallow_clone(), |shortcut| shortcut.forward(&before))
    }
}

struct WideResNet {
    conv1: Conv2d,
    blocks: Vec<Vec<Block>>,
    bn1: BatchNorm2d,
    fc: Linear,
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, depth: usize, widen: i64) -> Result<Box<dyn Module>> {
    let (mut channels, mut grid) = (STEM, request.img);
    let stage = |channels, grid| StageSpec { kind: StageKind::Map, channels, grid: (grid, grid) };
    let conv1 = Conv2d::new(&scope.sub("conv1"), 3, STEM, conv(3))?;
    let (mut blocks, mut stages) = (Vec::new(), vec![stage(channels, grid)]);
    for (i, width) in (1..).zip(WIDTHS.map(|width| width * widen)) {
        let scope = scope.sub(format!("block{i}")).sub("layer");
        let mut layer = Vec::new();
        for j in 0..(depth - 4) / 6 {
            let stride = if i > 1 && j == 0 { 2 } else { 1 };
            layer.push(Block::new(&scope.sub(j), channels, width, stride)?);
            (channels, grid) = (width, strided(grid, stride));
        }
        blocks.push(layer);
        stages.push(stage(channels, grid));
    }
    let bn1 = BatchNorm2d::new(&scope.sub("bn1"), channels)?;
    let fc = Linear::with(&scope.sub("fc"), channels, request.classes, Init::TorchDefault, Some(Init::Const(0.0)))?;
    Ok(Box::new(WideResNet {
        conv1,
        blocks,
        bn1,
        fc,
        taps: TapSpec { stages, stem: true, embedding: Some(channels), classes: request.classes },
    }))
}

impl Module for WideResNet {
    fn forward(&self, x_bchw: &Tensor, Pass { train, taps }: Pass) -> Output {
        let x = self.conv1.forward(x_bchw);
        let mut stages = Vec::new();
        if taps {
            stages.push(FeatureMap::Map(x.shallow_clone()));
        }
        let x = run_layers(x, &self.blocks, taps, &mut stages, |block, x| block.forward(x, train));
        let embedding = global_mean(&self.bn1.forward_post(&x, train, Post::Relu));
        Output { logits: self.fc.forward(&embedding), embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
