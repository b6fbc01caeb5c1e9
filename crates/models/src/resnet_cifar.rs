//! Residual networks for 32 px (He et al. 2016, section 4.2), depth 6n+2, with the parameter names and widths of the
//! CRD benchmark (Tian et al. 2020, arXiv 1910.10699; RepDistiller): 1x1 convolutions on shortcuts that change shape;
//! "x4" networks are four times as wide.
//!
//! ```text
//! stem      conv1 3x3, bn1, ReLU                           the first tap
//! layer1-3  n basic blocks each, halving the grid from layer2 on   the other three
//! head      global mean, fc
//! ```
use heterodyne_nn::{
    FeatureMap, Init, Module, Output, Pass, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{Conv, Linear, Post},
};
use tch::Tensor;

use crate::{
    Input, ModelDef, Request,
    conv_bn::{ConvBn, global_mean, run_layers, strided},
    resnet::Block,
};

/// Channels of the stem and of the three layers.
const NARROW: [i64; 4] = [16, 16, 32, 64];
const WIDE: [i64; 4] = [32, 64, 128, 256];

pub(crate) static MODELS: &[ModelDef] = &[
    row("resnet8", "ResNet-8 for 32 px, widths 16-32-64", |scope, request| build(scope, request, 8, NARROW)),
    row("resnet14", "ResNet-14 for 32 px, widths 16-32-64", |scope, request| build(scope, request, 14, NARROW)),
    row("resnet20", "ResNet-20 for 32 px, widths 16-32-64", |scope, request| build(scope, request, 20, NARROW)),
    row("resnet32", "ResNet-32 for 32 px, widths 16-32-64", |scope, request| build(scope, request, 32, NARROW)),
    row("resnet56", "ResNet-56 for 32 px, widths 16-32-64", |scope, request| build(scope, request, 56, NARROW)),
    row("resnet110", "ResNet-110 for 32 px, widths 16-32-64", |scope, request| build(scope, request, 110, NARROW)),
    row("resnet8x4", "ResNet-8 for 32 px, widths 64-128-256", |scope, request| build(scope, request, 8, WIDE)),
    row("resnet32x4", "ResNet-32 for 32 px, widths 64-128-256", |scope, request| build(scope, request, 32, WIDE)),
];

/// CIFAR-100 statistics, with which the benchmark's teachers were trained.
pub(crate) const INPUT: Input = Input::whole(32, [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]);

const fn row(
    name: &'static str,
    summary: &'static str,
    build: fn(&Scope, &Request) -> Result<Box<dyn Module>>,
) -> ModelDef {
    ModelDef::plain([name, "resnet_cifar", "fc", summary], INPUT, build)
}

struct ResNetCifar {
    conv1: ConvBn,
    layers: Vec<Vec<Block>>,
    fc: Linear,
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, depth: usize, widths: [i64; 4]) -> Result<Box<dyn Module>> {
    let [mut channels, widths @ ..] = widths;
    let mut grid = request.img;
    let stage = |channels, grid| StageSpec { kind: StageKind::Map, channels, grid: (grid, grid) };
    let conv1 = ConvBn::new(scope, ("conv1", "bn1"), 3, channels, Conv::same(3).init(Init::KaimingNormalFanOut), 1.0)?;
    let (mut layers, mut stages) = (Vec::new(), vec![stage(channels, grid)]);
    for (layer, width) in (1..).zip(widths) {
        let scope = scope.sub(format!("layer{layer}"));
        let mut blocks = Vec::new();
        for i in 0..(depth - 2) / 6 {
            let stride = if layer > 1 && i == 0 { 2 } else { 1 };
            blocks.push(Block::new(&scope.sub(i), channels, [(3, width, stride), (3, width, 1)], 1.0)?);
            (channels, grid) = (width, strided(grid, stride));
        }
        layers.push(blocks);
        stages.push(stage(channels, grid));
    }
    let fc = Linear::new(&scope.sub("fc"), channels, request.classes)?;
    Ok(Box::new(ResNetCifar {
        conv1,
        layers,
        fc,
        taps: TapSpec { stages, stem: true, embedding: Some(channels), classes: request.classes },
    }))
}

impl Module for ResNetCifar {
    fn forward(&self, x_bchw: &Tensor, Pass { train, taps }: Pass) -> Output {
        let x = self.conv1.forward(x_bchw, train, Post::Relu);
        let mut stages = Vec::new();
        if taps {
            stages.push(FeatureMap::Map(x.shallow_clone()));
        }
        let x = run_layers(x, &self.layers, taps, &mut stages, |block, x| block.forward(x, train));
        let embedding = global_mean(&x);
        Output { logits: self.fc.forward(&embedding), embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
