//! Depthwise convolution against ATen's own operator in float64.
use heterodyne_shim::{
    Autocast, NoGrad, is_channels_last,
    norm::{depthwise_conv, depthwise_suits},
};
use tch::{Device, Kind, Tensor};

use crate::support::{BF16, Draw, assert_near, double_leaf, leaf};

/// Inputs of a depthwise convolution.
struct Depthwise {
    x: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
}

impl Depthwise {
    fn new(draw: &Draw, shape: [i64; 4], kernel: i64, stride: i64, bias: bool, kind: Kind) -> Self {
        let channels = shape[1];
        Self {
            x: draw.image(shape, 0.2, 1.0, kind),
            weight: draw.normal(&[channels, 1, kernel, kernel], 0.0, 0.5),
            bias: bias.then(|| draw.normal(&[channels], 0.0, 1.0)),
            stride,
        }
    }

    /// The output and the gradients in x, weight and bias; both draw the same `dy`.
    fn outcome(y: Tensor, leaves: impl Iterator<Item = Tensor>) -> (Tensor, Vec<Tensor>) {
        let dy = Draw::new(77).normal(&y.size(), 0.0, 1.0).to_kind(Kind::BFloat16).to_kind(y.kind());
        (&y * dy).sum(None::<Kind>).backward();
        (y.detach(), leaves.map(|t| t.grad()).collect())
    }

    fn run(&self) -> (Tensor, Vec<Tensor>) {
        let (x, weight, bias) = (leaf(&self.x), leaf(&self.weight), self.bias.as_ref().map(leaf));
        let y = depthwise_conv(&x, &weight, bias.as_ref(), self.stride).unwrap();
        Self::outcome(y, [x, weight].into_iter().chain(bias))
    }

    fn reference(&self) -> (Tensor, Vec<Tensor>) {
        let (x, weight, bias) = (double_leaf(&self.x), double_leaf(&self.weight), self.bias.as_ref().map(double_leaf));
        let pad = weight.size()[2] / 2;
        let y = x.conv2d(&weight, bias.as_ref(), self.stride, pad, 1, x.size()[1]);
        Self::outcome(y, [x, weight].into_iter().chain(bias))
    }

    fn check(&self, share: f64) {
        let ((y, ours), (expected, theirs)) = (self.run(), self.reference());
        let what = format!("{:?} with {:?}, stride {}:", self.x.size(), self.weight.size(), self.stride);
        assert!(y.kind() == self.x.kind() && is_channels_last(&y));
        assert_near(&format!("{what} output"), &y, &expected, share, 1e-6);
        assert_near(&format!("{what} dx"), &ours[0], &theirs[0], share, 1e-6);
        for (a, b) in ours.iter().zip(&theirs).skip(1) {
            assert_eq!(a.kind(), Kind::Float);
            assert_near(&format!("{what} a parameter's gradient"), a, b, 0.0, 3e-6);
        }
    }
}

const MAPS: [[i64; 4]; 9] = [
    [1, 1, 1, 1],
    [2, 3, 2, 3],
    [1, 24, 7, 7],
    [2, 100, 5, 9],
    [1, 16, 1, 6],
    [3, 32, 14, 13],
    [2, 40, 16, 15],
    [1, 1, 31, 29],
    [8, 96, 28, 28],
];

#[test]
fn depthwise_is_atens_in_float64() {
    let draw = Draw::new(20);
    for shape in MAPS {
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (7, 2)] {
            let case = Depthwise::new(&draw, shape, kernel, stride, kernel == 5, Kind::Float);
            case.check(0.0);
        }
    }
}

#[test]
fn depthwise_in_bfloat16_rounds_only_what_it_stores() {
    let draw = Draw::new(21);
    for shape in MAPS {
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (7, 2)] {
            Depthwise::new(&draw, shape, kernel, stride, kernel == 3, Kind::BFloat16).check(BF16);
        }
    }
}

#[test]
fn other_depthwise_convolutions_go_to_aten() {
    let draw = Draw::new(22);
    for (kernel, stride) in [(1, 1), (3, 3), (9, 2)] {
        let case = Depthwise::new(&draw, [2, 8, 11, 10], kernel, stride, true, Kind::Float);
        let ((y, ours), (expected, theirs)) = (case.run(), case.reference());
        assert_near("the output", &y, &expected, 0.0, 1e-6);
        assert_near("dx", &ours[0], &theirs[0], 0.0, 1e-6);
    }
    let case = Depthwise::new(&draw, [2, 8, 11, 10], 3, 2, false, Kind::Float);
    for x in [case.x.contiguous(), case.x.to_kind(Kind::Double)] {
        let y = depthwise_conv(&x, &case.weight, None, 2).unwrap();
        assert_eq!(y.kind(), x.kind());
        assert_near("the output", &y, &case.reference().0, 0.0, 1e-6);
    }
}

#[test]
fn depthwise_suits_what_it_covers() {
    let draw = Draw::new(23);
    let x = draw.image([2, 8, 6, 6], 0.0, 1.0, Kind::Float);
    let weight = draw.normal(&[8, 1, 3, 3], 0.0, 1.0);
    let covered = depthwise_suits(&x, &weight);
    assert_eq!(depthwise_suits(&x.to_kind(Kind::BFloat16), &weight), covered);
    assert!(!depthwise_suits(&x.contiguous(), &weight));
    assert!(!depthwise_suits(&x.to_kind(Kind::Double), &weight));
    for shape in [[8, 1, 1, 1], [8, 1, 3, 5], [8, 8, 3, 3], [4, 1, 3, 3]] {
        assert!(!depthwise_suits(&x, &draw.normal(&shape, 0.0, 1.0)));
    }
}

#[test]
fn depthwise_under_autocast_stores_bfloat16() {
    let draw = Draw::new(24);
    let case = Depthwise::new(&draw, [2, 24, 9, 9], 3, 1, true, Kind::Float);
    let _on = Autocast::new(Device::Cpu, true).unwrap();
    let (x, weight) = (leaf(&case.x), leaf(&case.weight));
    let y = depthwise_conv(&x, &weight, None, 1).unwrap();
    assert_eq!(y.kind(), Kind::BFloat16);
    y.sum(Kind::Float).backward();
    assert_eq!((x.grad().kind(), weight.grad().kind()), (Kind::Float, Kind::Float));
}

#[test]
fn depthwise_makes_only_needed_gradients_and_repeats_itself() {
    let draw = Draw::new(25);
    let case = Depthwise::new(&draw, [8, 24, 28, 28], 3, 2, true, Kind::Float);
    let (first, second) = (case.run(), case.run());
    assert_eq!(first, second);
    let weight = leaf(&case.weight);
    let y = depthwise_conv(&case.x, &weight, case.bias.as_ref(), 2).unwrap();
    let _ = Depthwise::outcome(y, std::iter::empty());
    assert_eq!(weight.grad(), first.1[1]);
    assert!(!case.x.grad().defined());
    let _guard = NoGrad::new();
    let y = depthwise_conv(&case.x, &weight, case.bias.as_ref(), 2).unwrap();
    assert!(!y.requires_grad());
    assert_eq!(y, first.0);
}

#[test]
fn bad_inputs_of_a_depthwise_convolution_are_errors() {
    let draw = Draw::new(26);
    let x = draw.image([2, 8, 6, 6], 0.0, 1.0, Kind::Float);
    let weight = draw.normal(&[8, 1, 3, 3], 0.0, 1.0);
    assert!(depthwise_conv(&x.get(0), &weight, None, 1).is_err());
    assert!(depthwise_conv(&x, &weight, None, 0).is_err());
    assert!(depthwise_conv(&x, &weight, Some(&draw.normal(&[7], 0.0, 1.0)), 1).is_err());
    for shape in [[4, 1, 3, 3], [8, 2, 3, 3], [8, 1, 3, 5], [8, 1, 4, 4]] {
        let e = depthwise_conv(&x, &draw.normal(&shape, 0.0, 1.0), None, 1).unwrap_err().to_string();
        assert!(e.contains("needs a weight (8,1,k,k) with k odd"), "{e}");
    }
}
