//! Batch norm with the operations after it, against ATen's own operators in float64.
use heterodyne_shim::{
    NoGrad, channels_last, is_channels_last,
    norm::{Activation, batch_norm_act},
};
use tch::{Device, Kind, Tensor};

use crate::support::{BF16, Draw, assert_near, distance, leaf};

const ACTIVATIONS: [Activation; 3] = [Activation::None, Activation::Relu, Activation::Relu6];
const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-5;

/// Inputs of a norm, and weights of its output that define a loss.
struct Norm {
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    residual: Option<Tensor>,
    dy: Tensor,
}

/// The results of a norm: its output, the running statistics after it, and the gradients in x, weight, bias and
/// residual.
struct Outcome {
    y: Tensor,
    running: [Tensor; 2],
    gradients: Vec<Tensor>,
}

impl Norm {
    fn new(draw: &Draw, x: Tensor, residual: bool) -> Self {
        let (shape, kind) = (<[i64; 4]>::try_from(x.size()).unwrap(), x.kind());
        let channels = shape[1];
        Self {
            weight: draw.normal(&[channels], 1.0, 0.3),
            bias: draw.normal(&[channels], 0.5, 0.5),
            running_mean: draw.normal(&[channels], 0.0, 1.0),
            running_var: draw.normal(&[channels], 0.0, 1.0).abs() + 0.5,
            residual: residual.then(|| draw.image(shape, 0.0, 1.0, kind)),
            dy: draw.image(shape, 0.0, 1.0, kind),
            x,
        }
    }

    fn run(&self, act: Activation) -> Outcome {
        let [x, weight, bias] = [&self.x, &self.weight, &self.bias].map(leaf);
        let residual = self.residual.as_ref().map(leaf);
        let running = [self.running_mean.copy(), self.running_var.copy()];
        let y = batch_norm_act(&x, &weight, &bias, &running[0], &running[1], MOMENTUM, EPS, residual.as_ref(), act)
            .unwrap();
        self.outcome(y, running, [x, weight, bias].into_iter().chain(residual))
    }

    fn reference(&self, act: Activation) -> Outcome {
        self.atens(act, Kind::Double)
    }

    /// ATen's operators in `kind`.
    fn atens(&self, act: Activation, kind: Kind) -> Outcome {
        let to_leaf = |t: &Tensor| leaf(&t.to_kind(kind).contiguous());
        let [x, weight, bias] = [&self.x, &self.weight, &self.bias].map(to_leaf);
        let residual = self.residual.as_ref().map(to_leaf);
        let running = [&self.running_mean, &self.running_var].map(|t| t.to_kind(kind).copy());
        let [mean, var] = &running;
        let mut y = x.batch_norm(Some(&weight), Some(&bias), Some(mean), Some(var), true, MOMENTUM, EPS, false);
        if let Some(r) = &residual {
            y += r;
        }
        let y = match act {
            Activation::None => y,
            Activation::Relu => y.relu(),
            Activation::Relu6 => y.clamp(0.0, 6.0),
        };
        self.outcome(y, running, [x, weight, bias].into_iter().chain(residual))
    }

    fn outcome(&self, y: Tensor, running: [Tensor; 2], leaves: impl Iterator<Item = Tensor>) -> Outcome {
        (&y * self.dy.to_kind(y.kind())).sum(None::<Kind>).backward();
        Outcome { y: y.detach(), running, gradients: leaves.map(|t| t.grad()).collect() }
    }

    /// Compares everything; `share` is the rounding of values of x's type.
    fn check(&self, act: Activation, share: f64, tolerance: f64) {
        let (ours, theirs) = (self.run(act), self.reference(act));
        assert!(ours.y.kind() == self.x.kind() && is_channels_last(&ours.y));
        assert_near("the output", &ours.y, &theirs.y, share, tolerance);
        for (a, b) in ours.running.iter().zip(&theirs.running) {
            assert_near("a running statistic", a, b, 0.0, 3e-7);
        }
        for ((name, a), b) in ["dx", "dweight", "dbias", "dresidual"].iter().zip(&ours.gradients).zip(&theirs.gradients)
        {
            let parameter = name.ends_with("weight") || name.ends_with("bias");
            assert_eq!(a.kind(), if parameter { Kind::Float } else { self.x.kind() });
            assert_near(name, a, b, if parameter { 0.0 } else { share }, tolerance);
        }
    }
}

const SHAPES: [[i64; 4]; 10] = [
    [2, 1, 5, 7],
    [3, 3, 9, 11],
    [2, 24, 13, 13],
    [1, 100, 7, 5],
    [4, 16, 12, 12],
    [2, 64, 33, 31],
    [2, 1280, 7, 7],
    [1, 96, 2, 3],
    [5, 7, 1, 1],
    [8, 144, 28, 28],
];

#[test]
fn batch_norm_is_atens_in_float64() {
    let draw = Draw::new(1);
    for shape in SHAPES {
        for residual in [false, true] {
            for act in ACTIVATIONS {
                Norm::new(&draw, draw.image(shape, 0.3, 2.0, Kind::Float), residual).check(act, 0.0, 2e-6);
            }
        }
    }
}

/// Two values per channel are always normalised to ±1, so the gradient in x is only a rounding error.
#[test]
fn two_values_per_channel_are_as_exact_as_atens() {
    let draw = Draw::new(16);
    let norm = Norm::new(&draw, draw.image([1, 96, 1, 2], 0.3, 2.0, Kind::Float), false);
    let [ours, single, exact] =
        [norm.run(Activation::None), norm.atens(Activation::None, Kind::Float), norm.reference(Activation::None)];
    assert_near("the output", &ours.y, &exact.y, 0.0, 2e-6);
    let error = |o: &Outcome| distance(&o.gradients[0], &exact.gradients[0], 0.0);
    assert!(error(&ours) <= error(&single), "{:.1e} and {:.1e}", error(&ours), error(&single));
}

#[test]
fn batch_norm_in_bfloat16_rounds_only_what_it_stores() {
    let draw = Draw::new(2);
    for shape in SHAPES {
        for residual in [false, true] {
            for act in ACTIVATIONS {
                Norm::new(&draw, draw.image(shape, 0.3, 2.0, Kind::BFloat16), residual).check(act, BF16, 2e-6);
            }
        }
    }
}

#[test]
fn a_large_mean_loses_no_digits() {
    let draw = Draw::new(3);
    for (mean, std) in [(1000.0, 1.0), (-30000.0, 0.5), (1000.0, 1e-2)] {
        let x = draw.image([4, 24, 17, 19], mean, std, Kind::Float);
        Norm::new(&draw, x, true).check(Activation::Relu, 0.0, 3e-6);
    }
}

/// The first rows, about which sums are taken, are far from all others.
#[test]
fn outliers_lose_no_digits() {
    let draw = Draw::new(4);
    let x = draw.image([4, 20, 16, 16], 0.0, 1.0, Kind::Float);
    let _ = x.narrow(0, 0, 1).narrow(2, 0, 1).fill_(50.0);
    Norm::new(&draw, x, false).check(Activation::None, 0.0, 2e-6);
}

#[test]
fn batch_statistics_agree_with_float64_to_1e_6() {
    let draw = Draw::new(5);
    let x = draw.image([16, 32, 56, 56], 5.0, 3.0, Kind::Float);
    let [mean, var] = [0, 1].map(|_| Tensor::zeros([32], (Kind::Float, Device::Cpu)));
    let (weight, bias) = (mean.ones_like(), mean.zeros_like());
    let _ = batch_norm_act(&x, &weight, &bias, &mean, &var, 1.0, EPS, None, Activation::None).unwrap();
    let wide = x.to_kind(Kind::Double);
    let axes: &[i64] = &[0, 2, 3];
    assert_near("the mean", &mean, &wide.mean_dim(axes, false, Kind::Double), 2e-7, 0.0);
    assert_near("the variance", &var, &wide.var_dim(axes, true, false), 4e-7, 0.0);
}

#[test]
fn a_constant_channel_becomes_its_bias() {
    let draw = Draw::new(6);
    for value in [0.0, 0.1, 1000.0] {
        let x = draw.image([2, 5, 6, 6], 0.0, 1.0, Kind::Float);
        let _ = x.narrow(1, 2, 1).fill_(value);
        let norm = Norm::new(&draw, x, false);
        let out = norm.run(Activation::None);
        let plane = out.y.select(1, 2);
        assert_eq!(plane, norm.bias.get(2).expand_as(&plane), "constant {value}");
        assert!(out.gradients.iter().all(|g| g.isfinite().all().int64_value(&[]) == 1));
        norm.check(Activation::Relu, 0.0, 1e-5);
    }
}

#[test]
fn nan_spreads_as_in_aten() {
    let draw = Draw::new(7);
    for kind in [Kind::Float, Kind::BFloat16] {
        let x = draw.image([2, 4, 3, 3], 0.0, 1.0, kind);
        let _ = x.get(0).get(1).get(0).get(0).fill_(f64::NAN);
        for act in ACTIVATIONS {
            let norm = Norm::new(&draw, x.copy(), true);
            let (ours, theirs) = (norm.run(act), norm.reference(act));
            assert_eq!(ours.y.isnan(), theirs.y.isnan());
            assert_eq!(ours.gradients[0].isnan(), theirs.gradients[0].isnan());
        }
    }
}

/// Directional derivatives by central differences.
#[test]
fn batch_norm_gradients_are_slopes() {
    let draw = Draw::new(8);
    let norm = Norm::new(&draw, draw.image([3, 10, 5, 5], 1.0, 2.0, Kind::Float), true);
    let inputs = [&norm.x, &norm.weight, &norm.bias, norm.residual.as_ref().unwrap()];
    let loss = |at: &[Tensor; 4]| {
        let (mean, var) = (norm.running_mean.copy(), norm.running_var.copy());
        let y =
            batch_norm_act(&at[0], &at[1], &at[2], &mean, &var, MOMENTUM, EPS, Some(&at[3]), Activation::None).unwrap();
        (y.to_kind(Kind::Double) * &norm.dy).sum(None::<Kind>).double_value(&[])
    };
    let gradients = norm.run(Activation::None).gradients;
    for i in 0..4 {
        let size = inputs[i].size();
        let towards = draw.normal(&size, 0.0, 1.0);
        let h = 1e-2;
        let moved = |by: f64| {
            let mut at = inputs.map(Tensor::copy);
            at[i] = &at[i] + &towards * by;
            loss(&at)
        };
        let slope = (moved(h) - moved(-h)) / (2.0 * h);
        let expected = (&gradients[i] * &towards).sum(Kind::Double).double_value(&[]);
        assert!((slope - expected).abs() < 2e-3 * expected.abs().max(1.0), "input {i}: {slope} and {expected}");
    }
}

#[test]
fn what_the_kernels_do_not_cover_goes_to_aten() {
    let draw = Draw::new(9);
    let run = |x: &Tensor, residual: Option<&Tensor>| {
        let (x, residual) = (leaf(x), residual.map(leaf));
        let channels = [x.size()[1]];
        let kind = if x.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let [weight, bias, mean, var] = [0.7, 0.2, 0.0, 1.0].map(|v| Tensor::full(channels, v, (kind, Device::Cpu)));
        let y = batch_norm_act(&x, &weight, &bias, &mean, &var, MOMENTUM, EPS, residual.as_ref(), Activation::Relu6)
            .unwrap();
        y.sin().sum(Kind::Double).backward();
        (y.detach(), x.grad(), mean)
    };
    let agree = |a: (Tensor, Tensor, Tensor), b: (Tensor, Tensor, Tensor)| {
        for (a, b) in [(a.0, b.0), (a.1, b.1), (a.2, b.2)] {
            assert!(a.size() == b.size() && distance(&a, &b.to_kind(Kind::Double), 0.0) < 2e-6);
        }
    };
    let x = draw.image([3, 6, 5, 4], 1.0, 2.0, Kind::Float);
    let flat = draw.normal(&[9, 6], 1.0, 2.0);
    let ours = || run(&x, None);
    agree(run(&x.contiguous(), None), ours());
    agree(run(&x.to_kind(Kind::Double), None), ours());
    let (y, dx, mean) = run(&channels_last(&flat.view([9, 6, 1, 1])).unwrap(), None);
    agree(run(&flat, None), (y.view([9, 6]), dx.view([9, 6]), mean));

    let residual = draw.image([3, 6, 5, 4], 0.0, 1.0, Kind::Float);
    agree(run(&x, Some(&residual.contiguous())), run(&x, Some(&residual)));
    agree(run(&x, Some(&residual.to_kind(Kind::Double))), run(&x, Some(&residual)));
    let row = residual.narrow(2, 0, 1);
    agree(run(&x, Some(&row)), run(&x, Some(&channels_last(&row.expand([3, 6, 5, 4], false)).unwrap())));
}

#[test]
fn only_needed_gradients_are_made() {
    let draw = Draw::new(10);
    let norm = Norm::new(&draw, draw.image([2, 24, 9, 9], 0.0, 1.0, Kind::Float), true);
    for act in ACTIVATIONS {
        let all = norm.run(act).gradients;
        for wanted in 0..4 {
            let inputs: [Tensor; 4] =
                [&norm.x, &norm.weight, &norm.bias, norm.residual.as_ref().unwrap()].map(Tensor::detach);
            let inputs = std::array::from_fn::<_, 4, _>(|i| inputs[i].set_requires_grad(i == wanted));
            let [x, weight, bias, residual] = &inputs;
            let (mean, var) = (norm.running_mean.copy(), norm.running_var.copy());
            let y = batch_norm_act(x, weight, bias, &mean, &var, MOMENTUM, EPS, Some(residual), act).unwrap();
            (y * &norm.dy).sum(None::<Kind>).backward();
            assert_eq!(inputs[wanted].grad(), all[wanted]);
            assert!((0..4).all(|i| i == wanted || !inputs[i].grad().defined()));
        }
    }
}

#[test]
fn without_gradients_there_is_no_graph() {
    let draw = Draw::new(11);
    let norm = Norm::new(&draw, draw.image([2, 24, 9, 9], 0.0, 1.0, Kind::Float), true);
    let with = norm.run(Activation::Relu);
    let _guard = NoGrad::new();
    let (mean, var) = (norm.running_mean.copy(), norm.running_var.copy());
    let x = norm.x.set_requires_grad(true);
    let y = batch_norm_act(
        &x,
        &norm.weight,
        &norm.bias,
        &mean,
        &var,
        MOMENTUM,
        EPS,
        norm.residual.as_ref(),
        Activation::Relu,
    )
    .unwrap();
    assert!(!y.requires_grad());
    assert_eq!(y, with.y);
    assert_eq!([mean, var], with.running);
}

/// The backward pass may overwrite its incoming gradient, but not if something else still reads it.
#[test]
fn a_gradient_that_others_hold_is_left_alone() {
    let draw = Draw::new(12);
    for act in ACTIVATIONS {
        let norm = Norm::new(&draw, draw.image([2, 32, 8, 8], 0.0, 1.0, Kind::Float), true);
        let expected = norm.run(act).gradients;
        let [x, weight, bias, other] = [&norm.x, &norm.weight, &norm.bias, &norm.dy].map(leaf);
        let residual = leaf(norm.residual.as_ref().unwrap());
        let (mean, var) = (norm.running_mean.copy(), norm.running_var.copy());
        let y = batch_norm_act(&x, &weight, &bias, &mean, &var, MOMENTUM, EPS, Some(&residual), act).unwrap();
        // The sum passes one gradient to both the leaf and the norm.
        ((y + &other) * &norm.dy).sum(None::<Kind>).backward();
        assert_eq!(other.grad(), norm.dy);
        for (a, b) in [x, weight, bias, residual].iter().zip(&expected) {
            assert_eq!(a.grad(), *b);
        }
    }
}

#[test]
fn a_chain_of_residual_norms_is_atens() {
    let draw = Draw::new(13);
    let norm = Norm::new(&draw, draw.image([4, 24, 9, 9], 0.0, 1.0, Kind::Float), false);
    let two = |kind: Kind| {
        let to = |t: &Tensor| leaf(&channels_last(&t.to_kind(kind)).unwrap());
        let parameter = |t: &Tensor| leaf(&t.to_kind(kind));
        let (x, weight, bias) = (to(&norm.x), parameter(&norm.weight), parameter(&norm.bias));
        let (mean, var) = (norm.running_mean.to_kind(kind).copy(), norm.running_var.to_kind(kind).copy());
        let step = |x: &Tensor, residual: &Tensor, act| {
            batch_norm_act(x, &weight, &bias, &mean, &var, MOMENTUM, EPS, Some(residual), act).unwrap()
        };
        let first = step(&x, &x, Activation::None);
        let second = step(&(&first * 0.5), &first, Activation::Relu);
        (step(&second.sin(), &second, Activation::None) * norm.dy.to_kind(kind)).sum(None::<Kind>).backward();
        [x.grad(), weight.grad(), bias.grad()]
    };
    for (ours, theirs) in two(Kind::Float).iter().zip(&two(Kind::Double)) {
        assert_near("a gradient", ours, theirs, 0.0, 5e-6);
    }
}

#[test]
fn a_norm_repeats_itself() {
    let draw = Draw::new(14);
    for kind in [Kind::Float, Kind::BFloat16] {
        let norm = Norm::new(&draw, draw.image([8, 24, 56, 56], 0.0, 1.0, kind), true);
        let (a, b) = (norm.run(Activation::Relu), norm.run(Activation::Relu));
        assert_eq!(a.y, b.y);
        assert_eq!(a.running, b.running);
        assert_eq!(a.gradients, b.gradients);
    }
}

#[test]
fn bad_inputs_of_a_norm_are_errors() {
    let draw = Draw::new(15);
    let run = |x: &Tensor, channels: i64, residual: Option<&Tensor>| {
        let [weight, bias, mean, var] = [0, 1, 2, 3].map(|_| Tensor::ones([channels], (Kind::Float, Device::Cpu)));
        batch_norm_act(x, &weight, &bias, &mean, &var, MOMENTUM, EPS, residual, Activation::Relu)
            .map_err(|e| e.to_string())
    };
    let one = run(&draw.image([1, 8, 1, 1], 0.0, 1.0, Kind::Float), 8, None).unwrap_err();
    assert!(one.contains("more than one value per channel"), "{one}");
    assert!(run(&draw.normal(&[1, 8], 0.0, 1.0), 8, None).is_err());
    assert!(run(&draw.normal(&[8], 0.0, 1.0), 8, None).is_err());
    let x = draw.image([2, 8, 3, 3], 0.0, 1.0, Kind::Float);
    assert!(run(&x, 7, None).is_err());
    assert!(run(&x, 8, Some(&draw.image([2, 7, 3, 3], 0.0, 1.0, Kind::Float))).is_err());
    assert!(run(&x.to_kind(Kind::Int), 8, None).is_err());
}
