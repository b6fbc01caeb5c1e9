//! Window sums against sums over slices, in float64.
use heterodyne_shim::{Rng, channels_last, window::window_sums};
use tch::{Device, Kind, Tensor};

use crate::support::{gradients, normal, off};

type Grid = (i64, i64);

const CASES: [(i64, Grid, &[Grid]); 8] = [
    (64, (32, 32), &[(1, 1), (2, 2), (4, 4)]),
    (32, (16, 16), &[(8, 8)]),
    (3, (7, 7), &[(1, 1), (2, 2), (4, 4)]),
    (40, (5, 9), &[(4, 3), (5, 9)]),
    (100, (12, 6), &[(6, 6), (4, 2)]),
    (16, (1, 1), &[(1, 1)]),
    (1, (8, 8), &[(3, 3)]),
    (71, (14, 10), &[(1, 5), (7, 10)]),
];

/// Start and length of s windows over n positions, from libtorch's own adaptive pooling of a ramp's powers: the first
/// position is the maximum of the negated ramp.
fn windows(n: i64, s: i64) -> Vec<(i64, i64)> {
    let ramp = Tensor::arange(n, (Kind::Double, Device::Cpu)).reshape([1, 1, n]);
    let (last, _) = ramp.adaptive_max_pool1d(s);
    let (first, _) = (-ramp).adaptive_max_pool1d(s);
    let numbers = |t: &Tensor| Vec::<f64>::try_from(t.flatten(0, -1)).unwrap();
    numbers(&first)
        .iter()
        .zip(numbers(&last))
        .map(|(&first, last)| (-first as i64, (last + first) as i64 + 1))
        .collect()
}

/// Number of kernel rows, and the sums (B,K,C).
fn reference(x: &Tensor, weights: Option<&Tensor>, scales: &[Grid]) -> (i64, Tensor) {
    let [b, c, height, width] = x.size()[..] else { panic!() };
    let (mut rows, mut sums) = (0, Vec::new());
    for &(r, s) in scales {
        let (down, across) = (windows(height, r), windows(width, s));
        let mut kernels = Vec::new();
        let longest = |windows: &[(i64, i64)]| windows.iter().map(|w| w.1).max().unwrap();
        for h in (1..=longest(&down)).rev().filter(|h| down.iter().any(|w| w.1 == *h)) {
            for w in (1..=longest(&across)).rev().filter(|w| across.iter().any(|v| v.1 == *w)) {
                kernels.push(((h, w), rows));
                rows += h * w;
            }
        }
        for &(y, h) in &down {
            for &(left, w) in &across {
                let Some(weights) = weights else { continue };
                let first = kernels.iter().find(|(size, _)| *size == (h, w)).unwrap().1;
                let kernel = weights.narrow(0, first, h * w).transpose(0, 1).reshape([1, c, h, w]);
                let part = x.narrow(2, y, h).narrow(3, left, w) * kernel;
                sums.push(part.sum_dim_intlist([2i64, 3].as_slice(), false, None::<Kind>));
            }
        }
    }
    (
        rows,
        if sums.is_empty() { Tensor::zeros([b, 0, c], (Kind::Double, Device::Cpu)) } else { Tensor::stack(&sums, 1) },
    )
}

#[test]
fn sums_and_gradients_equal_those_over_slices() {
    let rng = Rng::new(5);
    for (channels, grid, scales) in CASES {
        for (kind, dense, tolerance) in
            [(Kind::Float, true, 2e-6), (Kind::Float, false, 2e-6), (Kind::BFloat16, true, 8e-3)]
        {
            let x = normal(&rng, &[3, channels, grid.0, grid.1]).to_kind(kind);
            let x = if dense { channels_last(&x).unwrap() } else { x }.set_requires_grad(true);
            let weights = normal(&rng, &[reference(&x, None, scales).0, channels]).set_requires_grad(true);
            let ours = window_sums(&x, &weights, scales).unwrap();
            assert_eq!(ours.kind(), Kind::Float);
            let [x64, weights64] = [&x, &weights].map(|t| t.detach().to_kind(Kind::Double).set_requires_grad(true));
            let theirs = reference(&x64, Some(&weights64), scales).1;
            let what = format!("{channels} channels on {grid:?} at {scales:?} in {kind:?}");
            assert!(off(&ours, &theirs) < 2e-6, "sums of {what}");

            let dy = normal(&rng, &ours.size());
            let ours = gradients(&(ours * &dy).sum(None::<Kind>), &[&x, &weights]);
            let theirs = gradients(&(theirs * dy.to_kind(Kind::Double)).sum(None::<Kind>), &[&x64, &weights64]);
            assert_eq!((ours[0].kind(), ours[1].kind()), (kind, Kind::Float));
            assert!(off(&ours[0], &theirs[0]) < tolerance, "gradient in the map of {what}");
            assert!(off(&ours[1], &theirs[1]) < 2e-6, "gradient in the weights of {what}");
        }
    }
}

#[test]
fn only_the_gradients_that_are_needed_are_computed() {
    let rng = Rng::new(6);
    let (x, weights) = (normal(&rng, &[2, 20, 6, 6]), normal(&rng, &[9, 20]));
    let scales = &[(2, 2)];
    let of = |x: &Tensor, weights: &Tensor| window_sums(x, weights, scales).unwrap().square().sum(None::<Kind>);
    let both = [x.copy().set_requires_grad(true), weights.copy().set_requires_grad(true)];
    let expected = gradients(&of(&both[0], &both[1]), &[&both[0], &both[1]]);
    assert_eq!(gradients(&of(&both[0], &weights), &[&both[0]])[0], expected[0]);
    assert_eq!(gradients(&of(&x, &both[1]), &[&both[1]])[0], expected[1]);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let rng = Rng::new(7);
    let x = normal(&rng, &[2, 20, 6, 6]);
    let refused = |x: &Tensor, rows, scales: &[Grid], words: &str| {
        let message = window_sums(x, &normal(&rng, &[rows, 20]), scales).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    };
    refused(&x, 8, &[(2, 2)], "need float weights (9,20), got Float [8, 20]");
    refused(&x, 9, &[(2, 7)], "has no 7 windows along axis 3");
    refused(&x, 9, &[(0, 2)], "has no 0 windows along axis 2");
    refused(&x.to_kind(Kind::Double), 9, &[(2, 2)], "float or bfloat16 map");
    refused(&x.flatten(2, 3), 9, &[(2, 2)], "float or bfloat16 map");
}
