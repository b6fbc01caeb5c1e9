//! VGG (Simonyan and Zisserman 2015, arXiv 1409.1556) for 32 px, with batch norms and one linear layer after the mean,
//! as in the CRD benchmark (Tian et al. 2020, arXiv 1910.10699; RepDistiller). timm's `vgg13` is a different network:
//! no norms, three linear layers.
//!
//! ```text
//! block0-4  3x3 convolutions with bias, batch norm, ReLU; 2x2 max pools between them   taps: block1 to block4
//! head      global mean, classifier
//! ```
//!
//! The benchmark omits the last pool for images of 32 px and has it for 64 px; here it is used from 64 px on.
use heterodyne_nn::{
    Error, FeatureMap, Init, Module, Output, Pass, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{Conv, Linear, Post},
};
use tch::Tensor;

use crate::{
    ModelDef, Request,
    conv_bn::{ConvBn, global_mean},
    resnet_cifar,
};

const WIDTHS: [i64; 5] = [64, 128, 256, 512, 512];
/// Smallest image side at which the last pool is used.
const LARGE: i64 = 64;

pub(crate) static MODELS: &[ModelDef] = &[
    row("vgg8", "VGG-8 for 32 px: one convolution per block, batch norms", |scope, request| build(scope, request, 1)),
    row("vgg13", "VGG-13 for 32 px: two convolutions per block, batch norms", |scope, request| {
        build(scope, request, 2)
    }),
];

const fn row(
    name: &'static str,
    summary: &'static str,
    build: fn(&Scope, &Request) -> Result<Box<dyn Module>>,
) -> ModelDef {
    ModelDef::plain([name, "vgg", "classifier", summary], resnet_cifar::INPUT, build)
}

struct Block {
    /// Whether a 2x2 max pool comes before the convolutions.
    pooled: bool,
    convs: Vec<ConvBn>,
}

struct Vgg {
    blocks: Vec<Block>,
    classifier: Linear,
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request, depth: i64) -> Result<Box<dyn Module>> {
    let (mut channels, mut grid) = (3, request.img);
    let (mut blocks, mut stages) = (Vec::new(), Vec::new());
    for (i, width) in WIDTHS.into_iter().enumerate() {
        let scope = scope.sub(format!("block{i}"));
        let pooled = i > 0 && (i < WIDTHS.len() - 1 || request.img >= LARGE);
        if pooled {
            grid /= 2;
        }
        if grid < 1 {
            return Err(Error::invalid(format!(
                "images of {} px are too small for the pools: use at least 8 px",
                request.img
            )));
        }
        let mut convs = Vec::new();
        for j in 0..depth {
            // The numbering counts the norm and the ReLU between two convolutions.
            let names = (3 * j, 3 * j + 1);
            let shape = Conv::same(3).init(Init::KaimingNormalFanOut).bias_init(Init::Const(0.0));
            convs.push(ConvBn::new(&scope, (&names.0.to_string(), &names.1.to_string()), channels, width, shape, 1.0)?);
            channels = width;
        }
        blocks.push(Block { pooled, convs });
        if i > 0 {
            stages.push(StageSpec { kind: StageKind::Map, channels, grid: (grid, grid) });
        }
    }
    let classifier = Linear::with(
        &scope.sub("classifier"),
        channels,
        request.classes,
        Init::Normal { std: 0.01 },
        Some(Init::Const(0.0)),
    )?;
    Ok(Box::new(Vgg {
        blocks,
        classifier,
        taps: TapSpec { stages, stem: false, embedding: Some(channels), classes: request.classes },
    }))
}

impl Module for Vgg {
    fn forward(&self, x_bchw: &Tensor, Pass { train, taps }: Pass) -> Output {
        let mut x = x_bchw.shallow_clone();
        let mut stages = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            if block.pooled {
                x = x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
            }
            for conv in &block.convs {
                x = conv.forward(&x, train, Post::Relu);
            }
            if taps && i > 0 {
                stages.push(FeatureMap::Map(x.shallow_clone()));
            }
        }
        let embedding = global_mean(&x);
        Output { logits: self.classifier.forward(&embedding), embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
