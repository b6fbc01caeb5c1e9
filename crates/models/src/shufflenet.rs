//! ShuffleNet V1 (Zhang et al. 2018, arXiv 1707.01083) and V2 (Ma et al. 2018, arXiv 1807.11164) for 32 px, with the
//! parameter names of the CRD benchmark (Tian et al. 2020, arXiv 1910.10699; RepDistiller): the stem is a 1x1
//! convolution, without pooling.
//!
//! ```text
//! stem      conv1 1x1 to 24, bn1, ReLU                       the first tap
//! layer1-3  blocks, the first of which halves the grid       the other three
//! head      (V2: conv2 1x1, bn2, ReLU,) global mean, linear
//! ```
use heterodyne_nn::{
    FeatureMap, Module, Output, Pass, Result, Scope, StageKind, StageSpec, TapSpec,
    layers::{Conv, Linear, Post},
};
use tch::Tensor;

use crate::{
    ModelDef, Request,
    conv_bn::{ConvBn, global_mean, run_layers, strided},
    resnet_cifar,
};

const STEM: i64 = 24;
/// V1: groups of the 1x1 convolutions.
const GROUPS: i64 = 3;

pub(crate) static MODELS: &[ModelDef] = &[
    row("shufflenetv1", "ShuffleNet V1 for 32 px, three groups, widths 240-480-960", |scope, request| {
        build(scope, request, [(240, 4), (480, 8), (960, 4)], None, Bottleneck::boxed)
    }),
    row("shufflenetv2", "ShuffleNet V2 for 32 px, widths 116-232-464", |scope, request| {
        build(scope, request, [(116, 4), (232, 8), (464, 4)], Some(1024), Split::boxed)
    }),
];

const fn row(
    name: &'static str,
    summary: &'static str,
    build: fn(&Scope, &Request) -> Result<Box<dyn Module>>,
) -> ModelDef {
    ModelDef::plain([name, "shufflenet", "linear", summary], resnet_cifar::INPUT, build)
}

fn conv_bn(scope: &Scope, number: usize, inputs: i64, outputs: i64, shape: Conv) -> Result<ConvBn> {
    ConvBn::new(scope, (&format!("conv{number}"), &format!("bn{number}")), inputs, outputs, shape, 1.0)
}

/// Moves channel i of group g to position i * groups + g: a view and one copy of (B,C,H,W) with channels innermost in
/// memory.
fn shuffled(x_bchw: &Tensor, groups: i64) -> Tensor {
    x_bchw.permute([0, 2, 3, 1]).unflatten(3, [groups, -1]).transpose(3, 4).flatten(3, 4).permute([0, 3, 1, 2])
}

trait Block {
    /// (B,C,H,W) to (B,C',H',W').
    fn forward(&self, x_bchw: &Tensor, train: bool) -> Tensor;
}

/// V1: grouped 1x1 convolution, shuffle, depthwise 3x3, grouped 1x1 convolution. The shortcut is added; if the grid is
/// halved, it is average-pooled and concatenated.
struct Bottleneck {
    convs: [ConvBn; 3],
    shuffled: i64,
    halves: bool,
}

impl Bottleneck {
    fn boxed(scope: &Scope, inputs: i64, outputs: i64, stride: i64) -> Result<Box<dyn Block>> {
        let halves = stride == 2;
        let outputs = if halves { outputs - inputs } else { outputs };
        let width = outputs / 4;
        let first = if inputs == STEM { 1 } else { GROUPS };
        let convs = [
            conv_bn(scope, 1, inputs, width, Conv::same(1).groups(first))?,
            conv_bn(scope, 2, width, width, Conv::same(3).stride(stride).groups(width))?,
            conv_bn(scope, 3, width, outputs, Conv::same(1).groups(GROUPS))?,
        ];
        Ok(Box::new(Self { convs, shuffled: first, halves }))
    }
}

impl Block for Bottleneck {
    fn forward(&self, x_bchw: &Tensor, train: bool) -> Tensor {
        let [narrow, depthwise, wide] = &self.convs;
        let y = shuffled(&narrow.forward(x_bchw, train, Post::Relu), self.shuffled);
        let y = depthwise.forward(&y, train, Post::Relu);
        if !self.halves {
            return wide.forward(&y, train, Post::AddRelu(x_bchw));
        }
        let shortcut = x_bchw.avg_pool2d([3, 3], [2, 2], [1, 1], false, true, None::<i64>);
        Tensor::cat(&[wide.forward(&y, train, Post::None), shortcut], 1).relu()
    }
}

/// V2: half of the channels are convolved, then both halves are shuffled. If the grid is halved, both branches read all
/// channels.
struct Split {
    /// 1x1, depthwise 3x3, 1x1.
    right: [ConvBn; 3],
    /// Depthwise 3x3, 1x1; only if the grid is halved.
    left: Option<[ConvBn; 2]>,
}

impl Split {
    fn boxed(scope: &Scope, inputs: i64, outputs: i64, stride: i64) -> Result<Box<dyn Block>> {
        let width = outputs / 2;
        let depthwise = |number, channels| {
            conv_bn(scope, number, channels, channels, Conv::same(3).stride(stride).groups(channels))
        };
        let pointwise = |number, inputs| conv_bn(scope, number, inputs, width, Conv::same(1));
        Ok(Box::new(if stride == 2 {
            let left = Some([depthwise(1, inputs)?, pointwise(2, inputs)?]);
            Self { left, right: [pointwise(3, inputs)?, depthwise(4, width)?, pointwise(5, width)?] }
        } else {
            Self { left: None, right: [pointwise(1, width)?, depthwise(2, width)?, pointwise(3, width)?] }
        }))
    }
}

impl Block for Split {
    fn forward(&self, x_bchw: &Tensor, train: bool) -> Tensor {
        let (left, right) = match &self.left {
            Some([depthwise, pointwise]) => (
                pointwise.forward(&depthwise.forward(x_bchw, train, Post::None), train, Post::Relu),
                x_bchw.shallow_clone(),
            ),
            None => {
                let half = x_bchw.size()[1] / 2;
                (x_bchw.narrow(1, 0, half), x_bchw.narrow(1, half, half))
            }
        };
        let [first, depthwise, last] = &self.right;
        let y = first.forward(&right, train, Post::Relu);
        let y = last.forward(&depthwise.forward(&y, train, Post::None), train, Post::Relu);
        shuffled(&Tensor::cat(&[left, y], 1), 2)
    }
}

struct ShuffleNet {
    conv1: ConvBn,
    layers: Vec<Vec<Box<dyn Block>>>,
    conv2: Option<ConvBn>,
    linear: Linear,
    taps: TapSpec,
}

/// Creates a block for (inputs, outputs, stride).
type MakeBlock = fn(&Scope, i64, i64, i64) -> Result<Box<dyn Block>>;

/// `layers` are (channels, blocks).
fn build(
    scope: &Scope,
    request: &Request,
    layers: [(i64, usize); 3],
    head: Option<i64>,
    block: MakeBlock,
) -> Result<Box<dyn Module>> {
    let (mut channels, mut grid) = (STEM, request.img);
    let stage = |channels, grid| StageSpec { kind: StageKind::Map, channels, grid: (grid, grid) };
    let conv1 = conv_bn(scope, 1, 3, STEM, Conv::same(1))?;
    let (mut made, mut stages) = (Vec::new(), vec![stage(channels, grid)]);
    for (i, (outputs, depth)) in (1..).zip(layers) {
        let scope = scope.sub(format!("layer{i}"));
        let mut blocks = Vec::with_capacity(depth);
        for j in 0..depth {
            let stride = if j == 0 { 2 } else { 1 };
            blocks.push(block(&scope.sub(j), channels, outputs, stride)?);
            (channels, grid) = (outputs, strided(grid, stride));
        }
        made.push(blocks);
        stages.push(stage(channels, grid));
    }
    let conv2 = head.map(|head| conv_bn(scope, 2, channels, head, Conv::same(1))).transpose()?;
    let embedding = head.unwrap_or(channels);
    let linear = Linear::new(&scope.sub("linear"), embedding, request.classes)?;
    let taps = TapSpec { stages, stem: true, embedding: Some(embedding), classes: request.classes };
    Ok(Box::new(ShuffleNet { conv1, layers: made, conv2, linear, taps }))
}

impl Module for ShuffleNet {
    fn forward(&self, x_bchw: &Tensor, Pass { train, taps }: Pass) -> Output {
        let mut x = self.conv1.forward(x_bchw, train, Post::Relu);
        let mut stages = Vec::new();
        if taps {
            stages.push(FeatureMap::Map(x.shallow_clone()));
        }
        x = run_layers(x, &self.layers, taps, &mut stages, |block, x| block.forward(x, train));
        if let Some(conv2) = &self.conv2 {
            x = conv2.forward(&x, train, Post::Relu);
        }
        let embedding = global_mean(&x);
        Output { logits: self.linear.forward(&embedding), embedding: taps.then_some(embedding), stages }
    }

    fn taps(&self) -> &TapSpec {
        &self.taps
    }
}
