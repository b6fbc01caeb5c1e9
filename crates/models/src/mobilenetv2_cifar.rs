//! MobileNetV2 at half the width for 32 px, as in the CRD benchmark (Tian et al. 2020, arXiv 1910.10699; RepDistiller's
//! `mobile_half`, with its parameter names): ReLU instead of ReLU6, an expansion in every block, and a stride of 1 in
//! place of the ImageNet network's second stride of 2.
//!
//! ```text
//! stem    conv1 3x3/2 to 16
//! blocks  the table below; each ends with a linear 1x1 convolution; a shortcut if the shape is unchanged
//! head    conv2 1x1 to 1280, global mean, classifier
//! taps    the ends of rows 2, 3, 5 and 7 of the table
//! ```
use heterodyne_nn::{
    FeatureMap, Init, Module, Output, Pass, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{Conv, Linear, Post},
};
use tch::Tensor;

use crate::{
    ModelDef, Request,
    conv_bn::{ConvBn, global_mean, strided},
    resnet_cifar,
};

const STEM: i64 = 16;
const HEAD: i64 = 1280;
/// Expansion, channels, number of blocks, stride of the first, and whether the end is tapped.
const ROWS: [(i64, i64, usize, i64, bool); 7] = [
    (1, 8, 1, 1, false),
    (6, 12, 2, 1, true),
    (6, 16, 3, 2, true),
    (6, 32, 4, 2, false),
    (6, 48, 3, 1, true),
    (6, 80, 3, 2, false),
    (6, 160, 1, 1, true),
];

pub(crate) static MODELS: &[ModelDef] = &[ModelDef::plain(
    ["mobilenetv2_half", "mobilenetv2_cifar", "classifier.0", "MobileNetV2 for 32 px, half the width"],
    resnet_cifar::INPUT,
    build,
)];

fn conv_bn(scope: &Scope, names: (&str, &str), inputs: i64, outputs: i64, shape: Conv) -> Result<ConvBn> {
    ConvBn::new(scope, names, inputs, outputs, shape.init(Init::KaimingNormalFanOut), 1.0)
}

/// Expansion, depthwise 3x3, linear projection.
struct Block {
    convs: [ConvBn; 3],
    shortcut: bool,
    tapped: bool,
}

impl Block {
    fn new(scope: &Scope, inputs: i64, outputs: i64, stride: i64, expansion: i64, tapped: bool) -> Result<Self> {
        let (scope, width) = (scope.sub("conv"), inputs * expansion);
        // The numbering leaves room for RepDistiller's ReLU after each of the first two norms.
        let convs = [
            conv_bn(&scope, ("0", "1"), inputs, width, Conv::same(1))?,
            conv_bn(&scope, ("3", "4"), width, width, Conv::same(3).stride(stride).groups(width))?,
            conv_bn(&scope, ("6", "7"), width, outputs, Conv::same(1))?,
        ];
        Ok(Self { convs, shortcut: stride == 1 && inputs == outputs, tapped })
    }

    fn forward(&self, x_bchw: &Tensor, train: bool) -> Tensor {
        let [expansion, depthwise, projection] = &self.convs;
        let x = depthwise.forward(&expansion.forward(x_bchw, train, Post::Relu), train, Post::Relu);
        projection.forward(&x, train, if self.shortcut { Post::Add(x_bchw) } else { Post::None })
    }
}

struct MobileNetV2 {
    conv1: ConvBn,
    blocks: Vec<Block>,
    conv2: ConvBn,
    classifier: Linear,
    taps: TapSpec,
}

fn build(scope: &Scope, request: &Request) -> Result<Box<dyn Module>> {
    let (mut channels, mut grid) = (STEM, strided(request.img, 2));
    let conv1 = conv_bn(&scope.sub("conv1"), ("0", "1"), 3, STEM, Conv::same(3).stride(2))?;
    let (mut blocks, mut stages) = (Vec::new(), Vec::new());
    for (s, (expansion, outputs, count, first_stride, tapped)) in ROWS.into_iter().enumerate() {
        for b in 0..count {
            let (scope, stride) = (scope.sub("blocks").sub(s).sub(b), if b == 0 { first_stride } else { 1 });
            blocks.push(Block::new(&scope, channels, outputs, stride, expansion, tapped && b + 1 == count)?);
            (channels, grid) = (outputs, strided(grid, stride));
        }
        if tapped {
            stages.push(StageSpec { kind: StageKind::Map, channels, grid: (grid, grid) });
        }
    }
    let conv2 = conv_bn(&scope.sub("conv2"), ("0", "1"), channels, HEAD, Conv::same(1))?;
    let classifier = Linear::with(
        &scope.sub("classifier").sub(0),
        HEAD,
        request.classes,
        Init::Normal { std: 0.01 },
        Some(Init::Const(0.0)),
    )?;
    let taps = TapSpec { stages, stem: false, embedding: Some(HEAD), classes: request.classes };
    Ok(Box::new(MobileNetV2 { conv1, blocks, conv2, classifier, taps }))
}

impl Module for MobileNetV2 {
    fn forward(&self, x_bchw: &Tensor, Pass { train, taps }: Pass) -> Output {
        let mut x = self.conv1.forward(x_bchw, train, Post::Relu);
        let mut stages = Vec::new();
        for block in &self.blocks {
            x = block.forward(&x, train);
            if taps && block.tapped {
                stages.push(FeatureMap::Map(x.shallow_clone()));
            }
        }
        let embedding = global_mean(&self.conv2.forward(&x, train, Post::Relu));
        Output { logits: self.classifier.forward(&embedding), embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
