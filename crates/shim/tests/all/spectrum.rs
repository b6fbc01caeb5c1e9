//! Distances of standardised spectra against their formula, in float64.
use heterodyne_shim::{
    Rng,
    spectrum::{standard_mse, standard_suits},
};
use tch::{Kind, Tensor};

use crate::support::{gradients, normal, off};

const EPS: f64 = 1e-6;

/// The formula, by libtorch's operators.
fn reference(x: &Tensor, weight: &Tensor, direction: &Tensor, target: &Tensor, share: f64) -> Tensor {
    let over: &[i64] = &[1, 2];
    let (v, r) = (x * weight.unsqueeze(-1), direction.unsqueeze(-1).expand([-1, x.size()[2]], false));
    let along = (&v * &r).sum_dim_intlist(over, true, None::<Kind>);
    let d = v - along / r.square().sum(None::<Kind>) * &r;
    let variance = share * d.square().mean_dim(over, true, None::<Kind>);
    share * (d / (variance + EPS).sqrt() - target).square().mean(None::<Kind>)
}

#[test]
fn values_and_gradients_equal_the_formula() {
    let rng = Rng::new(8);
    for (samples, bins, channels) in [(5, 56, 192), (3, 28, 7), (2, 1, 5), (1, 18, 40), (4, 6, 1), (2, 3, 100)] {
        let x = (normal(&rng, &[samples, bins, channels]) * 0.2 + 1.0).set_requires_grad(true);
        let target = normal(&rng, &[samples, bins, channels]);
        let (weight, direction) = (normal(&rng, &[bins]), normal(&rng, &[bins]));
        // Some bins have no direction, as imaginary parts have no mean.
        let _ = direction.narrow(0, bins / 2 + 1, bins - bins / 2 - 1).zero_();
        let ours = standard_mse(&x, &weight, &direction, &target, 4.0 / 7.0, EPS).unwrap();
        let [x64, weight64, direction64, target64] =
            [&x, &weight, &direction, &target].map(|t| t.detach().to_kind(Kind::Double));
        let x64 = x64.set_requires_grad(true);
        let theirs = reference(&x64, &weight64, &direction64, &target64, 4.0 / 7.0);
        let what = format!("{samples} samples of {bins} bins and {channels} channels");
        assert!(off(&ours, &theirs) < 2e-6, "the distance of {what}: {ours} and {theirs}");
        let (ours, theirs) = (gradients(&(ours * 3.0), &[&x]), gradients(&(theirs * 3.0), &[&x64]));
        assert!(off(&ours[0], &theirs[0]) < 5e-6, "{}: the gradient of {what}", off(&ours[0], &theirs[0]));
    }
}

#[test]
fn constant_spectra_have_a_finite_distance_and_gradient() {
    let rng = Rng::new(9);
    let (ones, target) = (normal(&rng, &[6]).ones_like(), normal(&rng, &[2, 6, 20]));
    let x = target.full_like(3.0).set_requires_grad(true);
    let loss = standard_mse(&x, &ones, &ones, &target, 1.0, EPS).unwrap();
    assert!(off(&loss, &target.to_kind(Kind::Double).square().mean(None::<Kind>)) < 1e-6, "{loss}");
    let dx = &gradients(&loss, &[&x])[0];
    assert!(bool::try_from(dx.isfinite().all()).unwrap() && dx.abs().max().double_value(&[]) > 0.0);
}

#[test]
fn other_layouts_are_copied_and_nothing_depends_on_them() {
    let rng = Rng::new(10);
    let (weight, direction, target) = (normal(&rng, &[8]), normal(&rng, &[8]), normal(&rng, &[3, 8, 50]));
    let x = normal(&rng, &[3, 50, 8]).transpose(1, 2);
    let of = |x: &Tensor| {
        let x = x.detach().set_requires_grad(true);
        let loss = standard_mse(&x, &weight, &direction, &target, 1.0, EPS).unwrap();
        (loss.copy(), gradients(&loss, &[&x]).remove(0))
    };
    assert_eq!(of(&x), of(&x.contiguous()));
}

#[test]
fn what_does_not_fit_is_refused() {
    let rng = Rng::new(11);
    let (x, row) = (normal(&rng, &[2, 6, 20]), normal(&rng, &[6]));
    let refused = |x: &Tensor, weight: &Tensor, direction: &Tensor, target: &Tensor, words: &str| {
        let message = standard_mse(x, weight, direction, target, 1.0, EPS).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    };
    let double = x.to_kind(Kind::Double);
    assert!(standard_suits(&x) && !standard_suits(&double) && !standard_suits(&row));
    refused(&double, &row, &row, &x, "float (B,N,C) on a CPU, got Double [2, 6, 20]");
    refused(&x, &row.narrow(0, 0, 5), &row, &x, "need a float weight and direction for each bin, got Float [5]");
    refused(&x, &row, &row.to_kind(Kind::Double), &x, "got Double [6]");
    refused(&x, &row, &row, &x.narrow(2, 0, 19), "need a float target of their shape, got Float [2, 6, 19]");
    refused(&x, &row, &row.zeros_like(), &x, "cannot be zero in all bins");
}
