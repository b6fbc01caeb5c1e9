//! The fast 3x3 convolution against libtorch's own in float64.
use heterodyne_shim::{
    Autocast, NoGrad, Rng, channels_last,
    cpu::Level,
    is_channels_last,
    winograd::{conv3x3, suits},
};
use tch::{Device, Kind, Tensor};

/// Batch, input channels, height, width, output channels.
type Shape = [i64; 5];

/// Few channels (each thread takes tiles) and many (all threads share a block of tiles); an odd number of chunks of 16
/// outputs; maps that fill their tiles and maps that do not; one image; more than one block of 128 tiles.
const FAST: [Shape; 9] = [
    [16, 16, 4, 4, 16],
    [4, 16, 7, 5, 32],
    [1, 32, 16, 20, 16],
    [2, 64, 13, 15, 48],
    [3, 128, 10, 11, 128],
    [64, 64, 8, 8, 64],
    [5, 144, 8, 8, 144],
    [40, 144, 8, 7, 176],
    [17, 512, 4, 3, 32],
];

/// One pixel; too few tiles; tiles mostly outside the map; channels that are not a multiple of 16.
const SLOW: [Shape; 6] = [
    [20, 16, 1, 1, 16],
    [1, 16, 8, 8, 16],
    [16, 16, 5, 5, 16],
    [4, 3, 16, 16, 16],
    [4, 16, 16, 16, 10],
    [4, 24, 16, 16, 32],
];

/// Largest error in units of the reference's root mean square. Measured over `FAST`: at most 1.9e-5; the direct
/// convolution in float32 has 0.9e-5.
const TOLERANCE: f64 = 2.5e-5;

fn normal(rng: &Rng, shape: [i64; 4], std: f64) -> Tensor {
    let t = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    rng.normal(&t, 0.0, std).unwrap();
    channels_last(&t).unwrap()
}

/// An input, a weight that gives outputs of unit variance, and a gradient of the output; all with channels innermost.
fn case([b, c, h, w, n]: Shape) -> [Tensor; 3] {
    let rng = Rng::new(11);
    [
        normal(&rng, [b, c, h, w], 1.0),
        normal(&rng, [n, c, 3, 3], (9.0 * c as f64).powf(-0.5)),
        normal(&rng, [b, n, h, w], 1.0),
    ]
}

fn direct(x: &Tensor, w: &Tensor) -> Tensor {
    x.conv2d(w, None::<Tensor>, [1, 1], [1, 1], [1, 1], 1)
}

fn fast(x: &Tensor, w: &Tensor) -> Tensor {
    conv3x3(x, w).unwrap()
}

/// The output and the gradients of input and weight.
fn outcome([x, w, dy]: &[Tensor; 3], conv: impl Fn(&Tensor, &Tensor) -> Tensor) -> [Tensor; 3] {
    let [x, w] = [x, w].map(|t| t.detach().set_requires_grad(true));
    let y = conv(&x, &w);
    (&y * dy).sum(None::<Kind>).backward();
    [y.detach(), x.grad(), w.grad()]
}

fn reference(case: &[Tensor; 3]) -> [Tensor; 3] {
    outcome(&case.each_ref().map(|t| t.to_kind(Kind::Double)), direct)
}

/// The largest difference, in units of the reference's root mean square.
fn error(found: &Tensor, reference: &Tensor) -> f64 {
    assert_eq!(found.size(), reference.size());
    let rms = reference.square().mean(Kind::Double).sqrt();
    ((found.to_kind(Kind::Double) - reference).abs().max() / rms).double_value(&[])
}

fn errors(found: &[Tensor; 3], reference: &[Tensor; 3]) -> [f64; 3] {
    std::array::from_fn(|i| error(&found[i], &reference[i]))
}

fn assert_right(found: &[Tensor; 3], reference: &[Tensor; 3], what: &str) {
    let e = errors(found, reference);
    assert!(e.iter().all(|e| *e < TOLERANCE), "{what}: off by {e:?} (output, input's gradient, weight's gradient)");
}

fn assert_equal(a: &[Tensor; 3], b: &[Tensor; 3]) {
    assert!(a.iter().zip(b).all(|(a, b)| a == b));
}

#[test]
fn the_output_and_both_gradients_are_right() {
    for shape in FAST {
        let case = case(shape);
        assert!(suits(&case[0], &case[1]), "{shape:?}");
        let found = outcome(&case, fast);
        assert_right(&found, &reference(&case), &format!("{shape:?}"));
        assert!(is_channels_last(&found[0]));
        assert_eq!(found[2].stride(), case[1].stride());
    }
}

/// Measured: 2.3 times the direct convolution's for the output, less for the input's gradient, and for the weight's
/// gradient 0.7e-5. The direct output is the reference for both: without AVX2, libtorch sums the input's gradient in
/// another, more exact way.
#[test]
fn the_error_stays_near_that_of_the_direct_convolution() {
    let case = case([8, 256, 8, 8, 256]);
    let reference = reference(&case);
    let [y, dx, dw] = errors(&outcome(&case, fast), &reference);
    let [direct, ..] = errors(&outcome(&case, direct), &reference);
    assert!(y < 3.0 * direct && dx < 3.0 * direct && dw < 1e-5, "{y} and {dx} against {direct}, {dw}");
}

#[test]
fn other_arguments_take_the_direct_convolution() {
    for shape in SLOW {
        let case = case(shape);
        assert!(!suits(&case[0], &case[1]), "{shape:?}");
        assert_equal(&outcome(&case, fast), &outcome(&case, direct));
    }
    let doubles = case(FAST[2]).map(|t| t.to_kind(Kind::Double));
    assert!(!suits(&doubles[0], &doubles[1]));
    assert_equal(&outcome(&doubles, fast), &outcome(&doubles, direct));
}

#[test]
fn a_float_map_under_autocast_takes_the_direct_convolution_in_bfloat16() {
    let [x, w, _] = case(FAST[2]);
    let _on = Autocast::new(Device::Cpu, true).unwrap();
    assert!(!suits(&x, &w));
    assert_eq!(fast(&x, &w).kind(), Kind::BFloat16);
}

/// On a CPU with matrix instructions for bfloat16 this is libtorch's convolution, which rounds the weight and its
/// gradient too.
#[test]
fn bfloat16_maps_are_right_under_autocast() {
    for shape in FAST {
        let [x, w, dy] = case(shape);
        let case = [x.to_kind(Kind::BFloat16), w, dy.to_kind(Kind::BFloat16)];
        let reference = reference(&case);
        assert!(!suits(&case[0], &case[1]), "without autocast the kinds do not fit");
        let (found, ours) = {
            let _on = Autocast::new(Device::Cpu, true).unwrap();
            (outcome(&case, fast), suits(&case[0], &case[1]))
        };
        assert_eq!(ours, Level::current() < Level::Amx);
        assert_eq!(found.each_ref().map(Tensor::kind), [Kind::BFloat16, Kind::BFloat16, Kind::Float]);
        if !ours {
            assert!(errors(&found, &reference).iter().all(|e| *e < 5e-2), "{shape:?}");
            continue;
        }
        // Rounding to bfloat16, with eight binary digits, changes a number by up to 2^-8 of its value.
        let beyond_rounding = |i: usize| {
            let rms = reference[i].square().mean(Kind::Double).sqrt();
            let off = (found[i].to_kind(Kind::Double) - &reference[i]).abs() - reference[i].abs() / 256.0;
            (off.max() / rms).double_value(&[])
        };
        let [y, dx, dw] = [beyond_rounding(0), beyond_rounding(1), error(&found[2], &reference[2])];
        assert!(y < TOLERANCE && dx < TOLERANCE && dw < TOLERANCE, "{shape:?}: off by {y}, {dx}, {dw}");
    }
}

#[test]
fn bad_arguments_are_errors() {
    let [x, w, _] = case(FAST[2]);
    let fails = |x: &Tensor, w: &Tensor| !suits(x, w) && conv3x3(x, w).is_err();
    assert!(fails(&x, &w.narrow(1, 0, 16)));
    assert!(fails(&x, &w.to_kind(Kind::Double)));
    assert!(fails(&x, &w.get(0)));
    assert!(fails(&x.flatten(2, 3), &w));
}

#[test]
fn any_strides_will_do() {
    for shape in [FAST[3], FAST[6]] {
        let [x, w, dy] = case(shape);
        let reference = reference(&[x.shallow_clone(), w.shallow_clone(), dy.shallow_clone()]);
        // Channels outermost in memory; every second pixel of a wider map; height and width swapped.
        let contiguous = |t: &Tensor| t.contiguous();
        let thinned = |t: &Tensor| Tensor::stack(&[t, t], 4).flatten(3, 4).slice(3, 0, None, 2);
        let transposed = |t: &Tensor| t.transpose(2, 3).contiguous().transpose(2, 3);
        let layouts: [&dyn Fn(&Tensor) -> Tensor; 3] = [&contiguous, &thinned, &transposed];
        for layout in layouts {
            let case = [layout(&x), layout(&w), layout(&dy)];
            assert_right(&outcome(&case, fast), &reference, &format!("{shape:?} with strides {:?}", case[0].stride()));
        }
        let exchanged = w.transpose(0, 1).contiguous().transpose(0, 1);
        assert_right(&outcome(&[x, exchanged, dy], fast), &reference, "inputs of the weight outermost");
    }
}

#[test]
fn a_gradient_is_made_for_what_asks_for_it() {
    let case = case(FAST[3]);
    let both = outcome(&case, fast);
    for (x_asks, w_asks) in [(true, false), (false, true)] {
        let (x, w) = (case[0].detach().set_requires_grad(x_asks), case[1].detach().set_requires_grad(w_asks));
        (fast(&x, &w) * &case[2]).sum(None::<Kind>).backward();
        assert_eq!((x.grad().defined(), w.grad().defined()), (x_asks, w_asks));
        assert!(if x_asks { x.grad() == both[1] } else { w.grad() == both[2] });
    }
    let _off = NoGrad::new();
    let y = fast(&case[0], &case[1].set_requires_grad(true));
    assert!(!y.requires_grad() && y == both[0]);
}

#[test]
fn second_derivatives_are_those_of_the_direct_convolution() {
    let [x, w, dy] = case(FAST[1]);
    let second = |conv: fn(&Tensor, &Tensor) -> Tensor, kind: Kind| {
        let [x, w, dy] = [&x, &w, &dy].map(|t| t.to_kind(kind).detach());
        let [x, w] = [x, w].map(|t| t.set_requires_grad(true));
        let dx = Tensor::run_backward(&[(conv(&x, &w) * dy).sum(None::<Kind>)], &[&x], true, true).remove(0);
        dx.square().sum(None::<Kind>).backward();
        w.grad()
    };
    assert!(error(&second(fast, Kind::Float), &second(direct, Kind::Double)) < TOLERANCE);
}

#[test]
fn results_repeat_and_hardly_depend_on_the_number_of_threads() {
    let threads = tch::get_num_threads();
    for shape in [FAST[5], FAST[7]] {
        let case = case(shape);
        let run = |n| {
            tch::set_num_threads(n);
            outcome(&case, fast)
        };
        let [one, two, again] = [run(1), run(2), run(2)];
        assert_equal(&two, &again);
        assert!(one[0] == two[0] && one[1] == two[1]);
        assert!(error(&two[2], &one[2].to_kind(Kind::Double)) < 1e-5);
    }
    tch::set_num_threads(threads);
}
