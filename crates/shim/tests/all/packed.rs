//! Packed layers against ATen's operators in float64.
use heterodyne_shim::{
    Autocast, NoGrad, channels_last, is_channels_last, lerp,
    packed::{PackedConv, PackedLinear, Post, attention, mix_mlp, mlp, version},
};
use tch::{Device, Kind, Tensor};

use crate::support::Draw;

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Largest difference relative to the largest value, or to 1, the size of the inputs: float32 rounding of sums of up to
/// 3072 terms, twice 6e-8 sqrt(3072), and bfloat16 rounding of inputs, weights and results.
const FLOAT: f64 = 6.6e-6;
const BF16: f64 = 1.5e-2;

thread_local! {
    /// Every test has its own thread, and thus the same numbers in every run.
    static DRAW: Draw = Draw::new(0);
}

fn randn(shape: &[i64]) -> Tensor {
    DRAW.with(|draw| draw.normal(shape, 0.0, 1.0))
}

fn double(t: &Tensor) -> Tensor {
    t.to_kind(Kind::Double)
}

#[track_caller]
fn assert_near(ours: &Tensor, exact: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), exact.size());
    if ours.numel() > 0 {
        let off = ((double(ours) - exact).abs().max() / exact.abs().max().clamp_min(1.0)).double_value(&[]);
        assert!(off <= tolerance, "off by {off:.1e}");
    }
}

type Reference<'a> = Box<dyn Fn(&Tensor) -> Tensor + 'a>;

/// Every operation, with its counterpart in plain operators on float64.
fn posts<'a>(other: &'a Tensor) -> Vec<(Post<'a>, Reference<'a>)> {
    vec![
        (Post::None, Box::new(Tensor::shallow_clone)),
        (Post::Gelu, Box::new(|y| y.gelu("none"))),
        (Post::Relu, Box::new(Tensor::relu)),
        (Post::Relu6, Box::new(|y| y.clamp(0.0, 6.0))),
        (Post::Add(other), Box::new(|y| y + double(other))),
        (Post::AddRelu(other), Box::new(|y| (y + double(other)).relu())),
    ]
}

struct Map {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Map {
    fn new(inputs: i64, outputs: i64, bias: bool) -> Self {
        Self { weight: randn(&[outputs, inputs]) * (inputs as f64).powf(-0.5), bias: bias.then(|| randn(&[outputs])) }
    }

    fn packed(&self, kind: Kind) -> PackedLinear {
        PackedLinear::new(&self.weight, self.bias.as_ref(), kind).unwrap()
    }

    fn exact(&self, x: &Tensor) -> Tensor {
        double(x).linear(&double(&self.weight), self.bias.as_ref().map(double))
    }
}

#[test]
fn a_linear_map_is_atens_for_every_shape_and_what_follows() {
    for (shape, outputs) in [
        (&[3152, 384][..], 96),
        (&[2, 197, 48], 144),
        (&[1, 7], 1),
        (&[15, 33], 50),
        (&[29, 1], 17),
        (&[3, 5, 1024], 31),
        (&[16, 64], 1000),
        (&[64], 48),
        (&[0, 8], 5),
        (&[2, 0, 8], 5),
    ] {
        let inputs = *shape.last().unwrap();
        for bias in [false, true] {
            let map = Map::new(inputs, outputs, bias);
            let x = randn(shape);
            let exact = map.exact(&x);
            let other = randn(&exact.size());
            for (kind, tolerance) in [(Kind::Float, FLOAT), (Kind::BFloat16, BF16), (Kind::Double, 1e-6)] {
                let packed = map.packed(kind);
                for (post, follows) in posts(&other) {
                    let y = packed.forward(&x, post).unwrap();
                    assert_eq!(y.kind(), kind);
                    assert_near(&y, &follows(&exact), tolerance);
                }
            }
        }
    }
}

#[test]
fn inputs_may_lie_in_memory_in_any_way() {
    let map = Map::new(40, 24, true);
    let packed = map.packed(Kind::Float);
    let wide = randn(&[6, 9, 80]);
    for x in [wide.narrow(2, 17, 40), randn(&[40, 9, 6]).transpose(0, 2), wide.slice(2, 0, 80, 2)] {
        let other = randn(&[9, 6, 24]).transpose(0, 1);
        assert_near(&packed.forward(&x, Post::Add(&other)).unwrap(), &(map.exact(&x) + double(&other)), FLOAT);
    }
}

#[test]
fn the_gelu_is_exact_everywhere() {
    let one = PackedLinear::new(&Tensor::ones([1, 1], CPU), None, Kind::Float).unwrap();
    let x = Tensor::arange_start_step(-12.0, 12.0, 1e-4, CPU).unsqueeze(1);
    let y = double(&one.forward(&x, Post::Gelu).unwrap());
    let x = double(&x);
    // x P(normal < x) from the complementary error function, which keeps its digits in the tail.
    let exact = &x * (&x * -(0.5f64.sqrt())).erfc() * 0.5;
    let off = (y - &exact).abs() / exact.abs().clamp_min(1.0);
    assert!(off.max().double_value(&[]) < 2e-7, "{}", off.max().double_value(&[]));
    let extreme = Tensor::from_slice(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e30, -1e30, 0.0]).unsqueeze(1);
    let y = Vec::<f32>::try_from(one.forward(&extreme, Post::Gelu).unwrap().squeeze()).unwrap();
    assert!(
        y[0] == f32::INFINITY && y[1].abs() < 1e-8 && y[2].is_nan() && y[3] == 1e30 && y[4].abs() < 1e-8 && y[5] == 0.0,
        "{y:?}"
    );
}

#[test]
fn not_a_number_is_not_hidden() {
    let map = Map::new(8, 20, true);
    let packed = map.packed(Kind::Float);
    let x = randn(&[3, 8]);
    let _ = x.get(1).fill_(f64::NAN);
    let other = randn(&[3, 20]);
    for (post, _) in posts(&other) {
        let y = packed.forward(&x, post).unwrap().isnan();
        assert_eq!(Vec::<bool>::try_from(y.all_dim(1, false)).unwrap(), [false, true, false], "{post:?}");
    }
}

#[test]
fn a_part_of_the_outputs_is_that_part() {
    let map = Map::new(50, 96, true);
    let packed = map.packed(Kind::Float);
    let x = randn(&[30, 50]);
    for (from, count) in [(0, 96), (32, 64), (64, 7), (5, 40), (96, 0)] {
        let y = packed.forward_part(&x, from, count, Post::None).unwrap();
        assert_near(&y, &map.exact(&x).narrow(1, from, count), FLOAT);
    }
    assert!(packed.forward_part(&x, 90, 7, Post::None).is_err());
    assert!(packed.forward_part(&x, -1, 7, Post::None).is_err());
}

#[test]
fn an_mlp_is_two_maps_around_a_gelu() {
    for (shape, hidden) in [(&[2, 197, 96][..], 384), (&[5, 33], 50), (&[1, 8], 3), (&[0, 8], 3), (&[700, 64], 3072)] {
        let d = *shape.last().unwrap();
        let (first, second) = (Map::new(d, hidden, true), Map::new(hidden, d + 1, true));
        let x = randn(shape);
        let exact = second.exact(&first.exact(&x).gelu("none"));
        let other = randn(&exact.size());
        for (kind, tolerance) in [(Kind::Float, FLOAT), (Kind::BFloat16, BF16)] {
            let (first, second) = (first.packed(kind), second.packed(kind));
            for (post, follows) in posts(&other) {
                assert_near(&mlp(&first, &second, &x, post).unwrap(), &follows(&exact), tolerance);
            }
        }
    }
    let (first, other) = (Map::new(8, 6, true).packed(Kind::Float), Map::new(5, 8, true).packed(Kind::Float));
    assert!(mlp(&first, &other, &randn(&[2, 8]), Post::None).unwrap_err().to_string().contains("does not fit"));
}

#[test]
fn maps_between_tokens_need_no_transpose() {
    for (b, n, d, hidden) in [(2, 196, 96, 48), (3, 19, 50, 25), (1, 1, 1, 1), (0, 4, 8, 3), (2, 4, 33, 70)] {
        let (first, second) = (Map::new(n, hidden, true), Map::new(hidden, n, true));
        let x = randn(&[b, n, d]);
        let inside = first.exact(&x.transpose(1, 2));
        let (one, two) = (inside.transpose(1, 2), second.exact(&inside.gelu("none")).transpose(1, 2));
        for (kind, tolerance) in [(Kind::Float, FLOAT), (Kind::BFloat16, BF16)] {
            let (first, second) = (first.packed(kind), second.packed(kind));
            for (exact, both) in [(&one, false), (&two, true)] {
                let other = randn(&exact.size());
                for (post, follows) in posts(&other) {
                    let y = if both { mix_mlp(&first, &second, &x, post) } else { first.mix(&x, post) };
                    assert_near(&y.unwrap(), &follows(exact), tolerance);
                }
            }
        }
    }
}

#[test]
fn attention_is_atens() {
    for (b, m, n, d, heads) in [
        (2, 197, 197, 192, 3),
        (3, 1, 50, 96, 6),
        (1, 16, 17, 30, 2),
        (2, 5, 1, 8, 8),
        (0, 3, 3, 8, 2),
        (2, 40, 33, 80, 1),
    ] {
        let joint = randn(&[b, n, 2 * d]) * 2.0;
        let (q, k, v) = (randn(&[b, m, d]) * 2.0, joint.narrow(2, 0, d), joint.narrow(2, d, d));
        let split = |x: &Tensor| double(x).reshape([b, x.size()[1], heads, d / heads]).transpose(1, 2);
        let scores = split(&q).matmul(&split(&k).transpose(2, 3)) / ((d / heads) as f64).sqrt();
        let exact = scores.softmax(-1, None::<Kind>).matmul(&split(&v)).transpose(1, 2).reshape([b, m, d]);
        assert_near(&attention(&q, &k, &v, heads).unwrap(), &exact, FLOAT);
        let half = |x: &Tensor| x.to_kind(Kind::BFloat16);
        assert_near(&attention(&half(&q), &half(&k), &half(&v), heads).unwrap(), &exact, 4.0 * BF16);
    }
    let x = randn(&[2, 4, 6]);
    assert!(attention(&x, &x, &x, 4).unwrap_err().to_string().contains("4 heads"));
    assert!(attention(&x, &x.narrow(1, 0, 2), &x, 2).is_err());
}

#[test]
fn large_scores_do_not_overflow() {
    let x = randn(&[1, 20, 16]) * 300.0;
    let y = attention(&x, &x, &x, 1).unwrap();
    let exact = (double(&x).matmul(&double(&x).transpose(1, 2)) / 4.0).softmax(-1, None::<Kind>).matmul(&double(&x));
    assert_near(&y, &exact, 1e-5);
}

#[test]
fn a_convolution_is_atens_for_every_shape_and_what_follows() {
    // (in, out, kernel, stride, padding, groups), (H, W)
    for ((inputs, outputs, kernel, stride, padding, groups), (h, w)) in [
        ((16, 32, 3, 1, 1, 1), (14, 14)),
        ((3, 20, 7, 2, 3, 1), (33, 30)),
        ((24, 40, 1, 1, 0, 1), (7, 9)),
        ((24, 40, 1, 2, 0, 1), (7, 9)),
        ((24, 24, 3, 1, 1, 24), (10, 11)),
        ((20, 20, 3, 2, 1, 20), (10, 11)),
        ((12, 18, 3, 1, 1, 3), (6, 6)),
        ((3, 48, 4, 4, 0, 1), (16, 16)),
        ((5, 7, 1, 1, 0, 1), (1, 1)),
        ((1, 1, 3, 1, 1, 1), (1, 1)),
    ] {
        for bias in [false, true] {
            let fan_in = (inputs / groups * kernel * kernel) as f64;
            let weight =
                channels_last(&(randn(&[outputs, inputs / groups, kernel, kernel]) * fan_in.powf(-0.5))).unwrap();
            let bias = bias.then(|| randn(&[outputs]));
            for batch in [2, 0] {
                let x = randn(&[batch, inputs, h, w]);
                let exact = double(&x).conv2d(
                    &double(&weight),
                    bias.as_ref().map(double),
                    [stride; 2],
                    [padding; 2],
                    [1, 1],
                    groups,
                );
                let other = randn(&exact.size());
                for (kind, tolerance) in [(Kind::Float, FLOAT), (Kind::BFloat16, BF16)] {
                    let packed = PackedConv::new(&weight, bias.as_ref(), stride, padding, groups, kind).unwrap();
                    for (post, follows) in posts(&other) {
                        for x in [x.shallow_clone(), channels_last(&x).unwrap()] {
                            let y = packed.forward(&x, post).unwrap();
                            assert_eq!(y.kind(), kind);
                            assert!(is_channels_last(&y));
                            assert_near(&y, &follows(&exact), tolerance);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn autocast_does_not_change_a_packed_layers_kind() {
    let map = Map::new(48, 40, true);
    let x = randn(&[9, 48]);
    let weight = randn(&[8, 4, 3, 3]);
    let (linear, conv) = (map.packed(Kind::Float), PackedConv::new(&weight, None, 1, 1, 1, Kind::Float).unwrap());
    let image = randn(&[2, 4, 5, 5]);
    let (y, z) = (linear.forward(&x, Post::Gelu).unwrap(), conv.forward(&image, Post::Relu).unwrap());
    let _on = Autocast::new(Device::Cpu, true).unwrap();
    assert_eq!(linear.forward(&x, Post::Gelu).unwrap(), y);
    assert_eq!(conv.forward(&image, Post::Relu).unwrap(), z);
    let q = randn(&[1, 4, 8]);
    assert_eq!(attention(&q, &q, &q, 2).unwrap().kind(), Kind::Float);
}

#[test]
fn bfloat16_input_meets_float32_weights() {
    let map = Map::new(48, 40, true);
    let x = randn(&[9, 48]).to_kind(Kind::BFloat16);
    let y = map.packed(Kind::Float).forward(&x, Post::None).unwrap();
    assert_near(&y, &map.exact(&x), FLOAT);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let map = Map::new(8, 6, true);
    let packed = map.packed(Kind::Float);
    let x = randn(&[3, 8]);
    for (text, result) in [
        ("8 inputs", packed.forward(&randn(&[3, 7]), Post::None)),
        ("8 inputs", packed.forward(&Tensor::from(1.0f32), Post::None)),
        ("result's shape [3, 6]", packed.forward(&x, Post::Add(&randn(&[6])))),
        ("three dimensions", packed.mix(&x, Post::None)),
        ("8 inputs", packed.mix(&randn(&[2, 7, 3]), Post::None)),
        ("no graph", packed.forward(&x.set_requires_grad(true), Post::None)),
    ] {
        let e = result.unwrap_err().to_string();
        assert!(e.contains(text), "{e}");
    }
    assert!(PackedLinear::new(&randn(&[3]), None, Kind::Float).unwrap_err().to_string().contains("two dimensions"));
    assert!(
        PackedLinear::new(&randn(&[3, 2]), Some(&randn(&[2])), Kind::Float).unwrap_err().to_string().contains("bias")
    );
    assert!(
        PackedConv::new(&randn(&[3, 2]), None, 1, 1, 1, Kind::Float)
            .unwrap_err()
            .to_string()
            .contains("four dimensions")
    );
    assert!(PackedConv::new(&randn(&[3, 2, 1, 1]), None, 0, 0, 1, Kind::Float).is_err());
    let conv = PackedConv::new(&randn(&[4, 2, 3, 3]), None, 1, 0, 1, Kind::Float).unwrap();
    assert!(conv.forward(&randn(&[1, 3, 5, 5]), Post::None).unwrap_err().to_string().contains("[4, 2, 3, 3]"));
    assert!(conv.forward(&randn(&[1, 2, 2, 2]), Post::None).is_err(), "a window larger than the image");
    let pointwise = PackedConv::new(&randn(&[4, 2, 1, 1]), None, 1, 0, 1, Kind::Float).unwrap();
    assert!(pointwise.forward(&randn(&[1, 2, 5, 5]), Post::Add(&randn(&[1, 4, 5, 4]))).is_err());
}

#[test]
fn every_write_counts() {
    let weight = randn(&[4, 4]).set_requires_grad(true);
    let handle = weight.shallow_clone();
    let mut last = version(&weight).unwrap();
    let mut grew = |what: &str| {
        let now = version(&handle).unwrap();
        assert!(now > last, "{what}");
        last = now;
    };
    let _guard = NoGrad::new();
    weight.shallow_clone().copy_(&randn(&[4, 4]));
    grew("copy_");
    let _ = weight.get(0).fill_(1.0);
    grew("a write to a view");
    weight.detach().copy_(&randn(&[4, 4]));
    grew("a write to a detached handle");
    lerp(&[weight.shallow_clone()], &[randn(&[4, 4])], 0.5).unwrap();
    grew("lerp");
}

#[test]
fn a_thread_count_changes_nothing() {
    let threads = tch::get_num_threads();
    let (first, second) = (Map::new(96, 200, true), Map::new(200, 96, true));
    let (first, second) = (first.packed(Kind::Float), second.packed(Kind::Float));
    let x = randn(&[2, 70, 96]);
    let all = || {
        vec![
            first.forward(&x, Post::Gelu).unwrap(),
            first.forward(&x.get(0).narrow(0, 0, 3), Post::Gelu).unwrap(),
            mlp(&first, &second, &x, Post::Add(&x)).unwrap(),
            attention(&x, &x, &x, 4).unwrap(),
        ]
    };
    let before = all();
    tch::set_num_threads(1);
    let one = all();
    tch::set_num_threads(threads);
    assert_eq!(before, one);
}
