//! Properties of the frequency domain.
use std::f64::consts::{PI, TAU};

use heterodyne_methods::parts::{
    pointwise::Pointwise,
    spectrum::{Band, Comparison, Dft, Normalise, Origin, Representation, Window, WindowShape},
};
use heterodyne_nn::{FeatureMap, ParamStore};
use tch::{Kind, Tensor};

use crate::support::{CPU, max, number};

/// (B,2,U,V,C) computed differently: the full transform, then the crop to the frequencies, then the phase shift by half
/// a position.
fn cropped(x_bchw: &Tensor, us: &[i64], vs: &[i64]) -> Tensor {
    let [_, _, h, w] = x_bchw.size()[..] else { panic!() };
    let axis = |of: &[i64], n: i64| Tensor::from_slice(of).to_kind(Kind::Double) * (-PI / n as f64);
    let angle = axis(us, h).unsqueeze(1) + axis(vs, w);
    let turned = cropped_fft(x_bchw, us, vs) * Tensor::complex(&angle.cos(), &angle.sin());
    turned.view_as_real().permute([0, 4, 2, 3, 1]).to_kind(x_bchw.kind())
}

/// The full transform as libtorch has it, cropped: complex (B,C,U,V).
fn cropped_fft(x_bchw: &Tensor, us: &[i64], vs: &[i64]) -> Tensor {
    let [_, _, h, w] = x_bchw.size()[..] else { panic!() };
    let full = x_bchw.fft_fft2(None::<&[i64]>, [-2i64, -1].as_slice(), "forward");
    let indices = |of: &[i64], n: i64| Tensor::from_slice(&of.iter().map(|f| f.rem_euclid(n)).collect::<Vec<_>>());
    full.index_select(2, &indices(us, h)).index_select(3, &indices(vs, w))
}

fn kept(band: Band) -> (Vec<i64>, Vec<i64>) {
    (band.u().collect(), band.v().collect())
}

#[test]
fn the_pruned_transform_is_the_crop_of_the_full_one() {
    for (h, w) in
        [(1, 1), (2, 2), (3, 3), (4, 4), (7, 7), (8, 8), (14, 14), (16, 9), (5, 12), (1, 6), (28, 28), (56, 56)]
    {
        for k in [1, 2, 3, 4, 5, 6, 7, 8, 14, 100] {
            let band = Band::shared(k, (h, w), (h, w));
            let odd = |n: i64| if n % 2 == 0 { n - 1 } else { n };
            assert_eq!(band.size(), (odd(k.min(h)), odd(k.min(w)) / 2 + 1));
            let (us, vs) = kept(band);
            let x = Tensor::randn([2, 3, h, w], (Kind::Float, CPU));
            let ours = Dft::new((h, w), band, Kind::Float, CPU).forward(&x);
            let off = max(&(ours - cropped(&x, &us, &vs)));
            assert!(off < 1e-5, "{h}x{w}, K {k}: {off}");
            let x = x.to_kind(Kind::Double);
            let off = max(&(Dft::new((h, w), band, Kind::Double, CPU).forward(&x) - cropped(&x, &us, &vs)));
            assert!(off < 1e-14, "{h}x{w}, K {k}: {off}");
        }
    }
}

#[test]
fn phases_from_the_first_position_are_those_of_the_fft() {
    for (h, w) in [(1, 1), (7, 7), (8, 8), (16, 9), (5, 12)] {
        let band = Band::shared(5, (h, w), (h, w));
        let (us, vs) = kept(band);
        let x = Tensor::randn([2, 3, h, w], (Kind::Double, CPU));
        let plain = cropped_fft(&x, &us, &vs).view_as_real().permute([0, 4, 2, 3, 1]);
        let ours = Dft::from_origin(Origin::Position, (h, w), band, Kind::Double, CPU).forward(&x);
        assert!(max(&(ours - plain)) < 1e-14, "{h}x{w}");
    }
}

#[test]
fn channels_last_maps_and_folded_tokens_have_the_same_spectrum() {
    // Grids whose columns are transformed after a copy, and without one.
    for (h, w) in [(6, 8), (6, 16), (33, 20)] {
        let x = Tensor::randn([2, 5, h, w], (Kind::Double, CPU));
        let with_prefix =
            Tensor::cat(&[Tensor::randn([2, 1, 5], (Kind::Double, CPU)), x.flatten(2, 3).transpose(1, 2)], 1);
        let folded = FeatureMap::Tokens { tokens: with_prefix, prefix: 1, grid: (h, w) }.to_map();
        let dft = Dft::new((h, w), Band::shared(5, (h, w), (h, w)), Kind::Double, CPU);
        for other in
            [heterodyne_nn::shim::channels_last(&x).unwrap(), folded, x.transpose(2, 3).contiguous().transpose(2, 3)]
        {
            // Float64 sums in another order.
            assert!(number(&(dft.forward(&x) - dft.forward(&other)).abs().max()) < 1e-15);
        }
    }
}

#[test]
fn the_full_transform_keeps_the_energy() {
    for (h, w) in [(7, 7), (9, 5), (5, 3), (1, 11)] {
        let x = Tensor::randn([2, 3, h, w], (Kind::Double, CPU));
        let band = Band::shared(100, (h, w), (h, w));
        let half = Dft::new((h, w), band, Kind::Double, CPU).forward(&x) * band.roots(Kind::Double, CPU);
        let energy = number(&half.square().sum(Kind::Double));
        let mean_square = number(&x.square().sum(Kind::Double)) / (h * w) as f64;
        assert!((energy - mean_square).abs() < 1e-12 * mean_square, "{h}x{w}: {energy} against {mean_square}");
    }
}

#[test]
fn a_constant_map_has_its_zero_frequency_alone() {
    let x = Tensor::full([1, 1, 8, 6], 2.5, (Kind::Double, CPU));
    let band = Band::shared(7, (8, 6), (8, 6));
    let dft = Dft::new((8, 6), band, Kind::Double, CPU);
    let expected = dft.of_one().unwrap().unsqueeze(0) * 2.5;
    assert!(max(&(dft.forward(&x) - &expected)) < 1e-14);
    assert_eq!(number(&expected.sum(Kind::Double)), 2.5);
    assert_eq!(expected.double_value(&[0, 0, 3, 0, 0]), 2.5, "zero is in the middle of the rows");
}

#[test]
fn a_circular_shift_leaves_the_amplitude() {
    let x = Tensor::randn([2, 3, 7, 8], (Kind::Double, CPU));
    let dft = Dft::new((7, 8), Band::shared(5, (7, 8), (7, 8)), Kind::Double, CPU);
    let amplitude = |x: &Tensor| Representation::Amplitude.of(&dft.forward(x));
    let shifted = x.roll([2, 3], [2, 3]);
    assert!(max(&(amplitude(&x) - amplitude(&shifted))) < 1e-12);
    assert!(max(&(dft.forward(&x) - dft.forward(&shifted))) > 1e-2, "the phase does change");
}

/// The same scene, a sum of waves, sampled on two grids: each position represents the centre of its cell of the image.
fn scene(h: i64, w: i64) -> Tensor {
    let axis = |n: i64| (Tensor::arange(n, (Kind::Double, CPU)) + 0.5) * (TAU / n as f64);
    let (y, x) = (axis(h).unsqueeze(1), axis(w).unsqueeze(0));
    let image = (&y + &x * 2.0).cos() * 0.7 + (&y * 2.0 - &x).sin() * 0.4 + (&y * 0.0 + &x * 1.0 + 0.3).cos() + 1.5;
    image.unsqueeze(0).unsqueeze(0)
}

#[test]
fn one_scene_has_one_spectrum_on_any_grid() {
    for (a, b) in [((7, 7), (14, 14)), ((7, 7), (56, 56)), ((9, 5), (6, 11)), ((8, 8), (12, 16))] {
        let band = Band::shared(5, a, b);
        let of = |grid: (i64, i64)| Dft::new(grid, band, Kind::Double, CPU).forward(&scene(grid.0, grid.1));
        assert!(max(&(of(a) - of(b))) < 1e-13, "{a:?} and {b:?}");
    }
}

/// With phases counted from the first position, the bins of a 7- and a 56-grid would differ by 0.7 of their size.
#[test]
fn the_mean_over_blocks_keeps_the_phase() {
    let fine = scene(56, 56);
    let band = Band::shared(5, (56, 56), (7, 7));
    let beyond_zero = |x: &Tensor, grid| {
        let dft = Dft::new(grid, band, Kind::Double, CPU);
        dft.forward(x) - dft.of_one().unwrap() * number(&x.mean(Kind::Double))
    };
    let (a, b) = (beyond_zero(&fine, (56, 56)), beyond_zero(&fine.adaptive_avg_pool2d([7, 7]), (7, 7)));
    let off = number(&(&a - &b).norm()) / number(&a.norm());
    // What is left is the blocks' own low pass, sin(x)/x of half a period of two cycles in seven blocks: 0.13 at most.
    assert!(off < 0.13, "{off}");
    let along = number(&(&a * &b).sum(Kind::Double)) / (number(&a.norm()) * number(&b.norm()));
    assert!(along > 0.99, "{along}");
}

/// The effect on the loss: a smooth map against itself on the coarse grid (0.69 with phases from the first position),
/// and two unrelated maps.
#[test]
fn a_map_is_near_to_itself_on_a_coarse_grid() {
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let band = Band::shared(7, (56, 56), (56, 56));
    let window = Window::new(&store.root(), WindowShape::Gaussian, band, 3.5).unwrap();
    let comparison = Comparison::new(window, Normalise::Sample, band, Representation::Complex).unwrap();
    let of = |x: &Tensor| comparison.of(&Dft::new((x.size()[2], x.size()[3]), band, Kind::Double, CPU).forward(x));
    let [x, other] = [3, 4].map(|seed| {
        let x = Tensor::zeros([8, 16, 8, 8], (Kind::Double, CPU));
        heterodyne_nn::shim::Rng::new(seed).normal(&x, 0.0, 1.0).unwrap();
        x.upsample_bicubic2d([56, 56], false, None, None)
    });
    let with = |y: &Tensor| number(&comparison.mse(&of(&x), &of(&y.adaptive_avg_pool2d([7, 7]))));
    let (itself, unrelated) = (with(&x), with(&other));
    assert!(itself < 0.1 && unrelated > 1.8, "{itself} and {unrelated}");
}

/// A 4-grid sees the frequencies 2 and -2 as one, an 8-grid does not; and every frequency is kept together with its
/// negative.
#[test]
fn a_band_is_even_about_zero_and_has_no_nyquist_line() {
    let sides = |k, a: i64, b: i64| Band::shared(k, (a, a), (b, b)).size();
    for (k, a, b, size) in [
        (7, 4, 8, (3, 2)),
        (4, 4, 8, (3, 2)),
        (7, 4, 4, (3, 2)),
        (4, 7, 14, (3, 2)),
        (7, 7, 14, (7, 4)),
        (7, 2, 7, (1, 1)),
        (7, 1, 7, (1, 1)),
    ] {
        assert_eq!(sides(k, a, b), size, "K {k} of {a} and {b}");
        let band = Band::shared(k, (a, a), (b, b));
        assert!(band.u().all(|u| band.u().contains(&-u) && 2 * u.abs() < a.min(b).max(1)));
    }
    assert_eq!(Band::shared(7, (4, 7), (4, 14)).size(), (3, 4), "each axis by itself");
}

/// The loss equals that of the whole plane, although only half is computed: frequencies along the columns do not count
/// more.
#[test]
fn half_the_plane_stands_for_the_whole() {
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let draw = || Tensor::randn([2, 3, 9, 8], (Kind::Double, CPU));
    let (x, y) = (draw(), draw() + 0.3);
    for (n, representation) in
        [Representation::Complex, Representation::Amplitude, Representation::LogAmplitude].into_iter().enumerate()
    {
        for normalise in [Normalise::Sample, Normalise::Channel, Normalise::None] {
            for k in [1, 4, 7] {
                let of = |a: &Tensor, b: &Tensor| {
                    let grid = (a.size()[2], a.size()[3]);
                    let band = Band::shared(k, grid, grid);
                    let window = Window::new(&store.root().sub(n), WindowShape::Gaussian, band, 2.0).unwrap();
                    let comparison = Comparison::new(window, normalise, band, representation).unwrap();
                    let dft = Dft::new(grid, band, Kind::Double, CPU);
                    let of = |x: &Tensor| comparison.of(&representation.of(&dft.forward(x)));
                    number(&comparison.mse(&of(a), &of(b)))
                };
                let loss = of(&x, &y);
                let turned = of(&x.transpose(2, 3), &y.transpose(2, 3));
                assert!(
                    (loss - turned).abs() < 1e-12 * loss.max(1e-3),
                    "{representation:?} {normalise:?} {k}: {loss} and {turned}"
                );
                // The full plane, with no bins left out.
                let half = (k.min(8) - 1) / 2;
                let axis: Vec<i64> = (-half..=half).collect();
                let square = |f: &[i64]| Tensor::from_slice(f).to_kind(Kind::Double).square();
                let g = (-(square(&axis).unsqueeze(1) + square(&axis)) / 8.0).exp().unsqueeze(-1);
                let whole = |x: &Tensor| {
                    let a = representation.of(&cropped(x, &axis, &axis)) * &g;
                    let dims: &[i64] = match normalise {
                        Normalise::None => return a,
                        Normalise::Sample => &[2, 3, 4],
                        Normalise::Channel => &[2, 3],
                    };
                    let a = &a - a.mean_dim(dims, true, Kind::Double);
                    let variance =
                        a.square().mean_dim(dims, true, Kind::Double).mean_dim([1i64].as_slice(), true, Kind::Double);
                    a / (variance + 1e-6).sqrt()
                };
                let plain = number(&(whole(&x) - whole(&y)).square().mean(Kind::Double));
                assert!(
                    (loss - plain).abs() < 1e-10 * plain.max(1e-3),
                    "{representation:?} {normalise:?} {k}: {loss} and {plain}"
                );
            }
        }
    }
}

/// In float32 the loss is one node with a gradient of its own; in float64 it is made of libtorch's operators.
#[test]
fn the_loss_in_one_pass_is_that_of_the_operators() {
    let rng = heterodyne_nn::shim::Rng::new(6);
    for (n, representation) in
        [Representation::Complex, Representation::Amplitude, Representation::LogAmplitude].into_iter().enumerate()
    {
        for shape in [WindowShape::Gaussian, WindowShape::None, WindowShape::Ideal] {
            for k in [1, 5, 7] {
                let band = Band::shared(k, (8, 8), (7, 7));
                let (rows, cols) = band.size();
                let draw = || {
                    let t = Tensor::zeros([4, representation.parts(), rows, cols, 20], (Kind::Float, CPU));
                    rng.normal(&t, 0.5, 1.0).unwrap();
                    t
                };
                let (spectrum, target) = (draw(), draw());
                let with = |kind| {
                    let store = ParamStore::with_kind(CPU, kind, 0);
                    let window = Window::new(&store.root().sub(n), shape, band, 2.0).unwrap();
                    let comparison = Comparison::new(window, Normalise::Sample, band, representation).unwrap();
                    let s = spectrum.detach().to_kind(kind).set_requires_grad(true);
                    let loss = comparison.loss(&s, &comparison.of(&target.to_kind(kind))).unwrap();
                    loss.backward();
                    (loss.to_kind(Kind::Double), s.grad().to_kind(Kind::Double))
                };
                let (ours, theirs) = (with(Kind::Float), with(Kind::Double));
                let what = format!("{representation:?} {shape:?} {k}");
                assert!(max(&(&ours.0 - &theirs.0)) < 1e-6, "{what}: {} and {}", ours.0, theirs.0);
                assert!(max(&(&ours.1 - &theirs.1)) < 2e-5 * max(&theirs.1), "{what}: the gradient");
            }
        }
    }
}

#[test]
fn windows_weigh_frequencies_by_their_distance_from_zero() {
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let band = Band::shared(5, (9, 9), (9, 9));
    let at = |shape, name: &str| Window::new(&store.root().sub(name), shape, band, 2.0).unwrap().weights();
    let gaussian = at(WindowShape::Gaussian, "a");
    assert_eq!(gaussian.size(), [5, 3, 1]);
    assert!((gaussian.double_value(&[0, 1, 0]) - (-5.0f64 / 8.0).exp()).abs() < 1e-15, "u = -2, v = 1");
    assert_eq!(number(&at(WindowShape::None, "b").min()), 1.0);
    assert_eq!(
        number(&at(WindowShape::Ideal, "c").sum(Kind::Double)),
        9.0,
        "8 of 13 half-plane points, and (0,0), lie within radius 2"
    );
    assert!(max(&(at(WindowShape::Learnable, "d") - &gaussian)) < 1e-15, "it starts as the Gaussian");
}

#[test]
fn equal_maps_give_no_loss_and_a_constant_map_gives_no_nan() {
    let store = ParamStore::new(CPU, 0);
    for representation in [Representation::Complex, Representation::Amplitude, Representation::LogAmplitude] {
        for normalise in [Normalise::Sample, Normalise::Channel, Normalise::None] {
            let band = Band::shared(7, (8, 8), (8, 8));
            let dft = Dft::new((8, 8), band, Kind::Float, CPU);
            let scope = store.root().sub(format!("{representation:?}{normalise:?}"));
            let window = Window::new(&scope, WindowShape::Gaussian, band, 3.5).unwrap();
            let comparison = Comparison::new(window, normalise, band, representation).unwrap();
            let of = |x: &Tensor| comparison.of(&representation.of(&dft.forward(x)));
            let x = Tensor::randn([2, 3, 8, 8], (Kind::Float, CPU));
            assert_eq!(number(&comparison.mse(&of(&x), &of(&x))), 0.0);
            for fill in [0.0, 3.0] {
                let flat = Tensor::full([2, 3, 8, 8], fill, (Kind::Float, CPU)).set_requires_grad(true);
                let value = comparison.mse(&of(&flat), &of(&x));
                value.backward();
                assert!(
                    number(&value).is_finite() && max(&flat.grad()).is_finite(),
                    "{representation:?} {normalise:?} {fill}"
                );
            }
        }
    }
}

/// This property lets phi's last convolution run on whichever side is smaller.
#[test]
fn a_pointwise_map_commutes_with_the_transform_and_with_pooling() {
    let store = ParamStore::with_kind(CPU, Kind::Double, 0);
    let pointwise = Pointwise::new(&store.root(), 3, 5).unwrap();
    for (grid, k) in [((14, 14), 7), ((9, 6), 4), ((4, 4), 4), ((2, 3), 7)] {
        let band = Band::shared(k, grid, grid);
        let dft = Dft::new(grid, band, Kind::Double, CPU);
        let x = Tensor::randn([2, 3, grid.0, grid.1], (Kind::Double, CPU));
        let before = dft.forward(&pointwise.on_map(&x));
        let after = pointwise.on_spectrum(&dft.forward(&x), &dft.of_one().unwrap());
        assert!(max(&(before - after)) < 1e-14, "{grid:?}");
        let pooled = pointwise.on_last(&x.adaptive_avg_pool2d([2, 1]).permute([0, 2, 3, 1])).permute([0, 3, 1, 2]);
        assert!(max(&(pointwise.on_map(&x).adaptive_avg_pool2d([2, 1]) - pooled)) < 1e-14);
    }
}

#[test]
fn the_smallest_grid_keeps_the_kept_frequencies_apart() {
    let of = |k, grid| Band::shared(k, grid, grid).smallest_grid(grid);
    for (k, grid, smallest) in [
        (7, (56, 56), (7, 7)),
        (7, (32, 32), (8, 8)),
        (7, (28, 14), (7, 7)),
        (6, (28, 12), (7, 6)),
        (7, (13, 8), (13, 8)),
        (3, (4, 9), (4, 3)),
        (1, (32, 30), (1, 1)),
    ] {
        assert_eq!(of(k, grid), smallest, "K {k} on {grid:?}");
        // A wave of each kept frequency has its whole energy in its own bin, as on the full grid.
        let band = Band::shared(k, grid, grid);
        let spectrum = |(h, w): (i64, i64), (u, v): (i64, i64)| {
            let turns = |f: i64, n: i64| (Tensor::arange(n, (Kind::Double, CPU)) + 0.5) * (TAU * f as f64 / n as f64);
            let wave = (turns(u, h).unsqueeze(1) + turns(v, w)).cos().reshape([1, 1, h, w]);
            Dft::new((h, w), band, Kind::Double, CPU).forward(&wave)
        };
        for (u, v) in band.u().flat_map(|u| band.v().map(move |v| (u, v))) {
            // Nyquist lines of the full grid are not waves on a finer grid.
            if 2 * u.abs() < grid.0 && 2 * v < grid.1 {
                let off = max(&(spectrum(smallest, (u, v)) - spectrum(grid, (u, v))));
                assert!(off < 1e-12, "K {k} on {grid:?}, ({u},{v}): {off}");
            }
        }
    }
}
