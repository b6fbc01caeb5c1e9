use heterodyne_data::{
    Mix, Random,
    mix::{Plan, mix},
    random::Purpose,
};
use heterodyne_nn::{Labels, shim};
use heterodyne_settings::Settings;
use tch::{Device, Kind, Tensor};

use crate::support::{message, says};

fn batch() -> (Tensor, Tensor) {
    let images = Tensor::randint_low(0, 256, [4, 3, 6, 8], (Kind::Uint8, Device::Cpu));
    (shim::channels_last(&images).unwrap(), Tensor::from_slice(&[0i64, 2, 1, 1]))
}

fn soft(labels: Labels) -> Tensor {
    match labels {
        Labels::Soft(p) => p,
        Labels::Hard(_) => panic!("hard labels"),
    }
}

#[test]
fn blending_is_the_weighted_mean_of_an_image_and_its_mirror_in_the_batch() {
    let (x, y) = batch();
    let (mixed, labels) = mix(&x, &y, 3, Plan::Blend { lambda: 0.3 }).unwrap();
    let levels = x.to_kind(Kind::Float);
    assert!(mixed.allclose(&(&levels * 0.3 + levels.flip([0]) * 0.7), 1e-6, 1e-4, false));
    let hot = y.one_hot(3).to_kind(Kind::Float);
    let p = soft(labels);
    assert!(p.allclose(&(&hot * 0.3 + hot.flip([0]) * 0.7), 1e-6, 1e-6, false));
    assert!(p.sum_dim_intlist([1i64].as_slice(), false, None).allclose(
        &Tensor::ones([4], (Kind::Float, Device::Cpu)),
        1e-6,
        1e-6,
        false
    ));
}

#[test]
fn pasting_replaces_a_rectangle_and_weighs_by_its_area() {
    let (x, y) = batch();
    let before = x.copy();
    let (mixed, labels) = mix(&x, &y, 3, Plan::Paste { rows: (1, 4), columns: (2, 8) }).unwrap();
    assert_eq!(x, before);
    assert_eq!(mixed.kind(), Kind::Uint8);
    for (b, h, w) in [(0, 0, 0), (1, 1, 2), (2, 3, 7), (3, 4, 2), (0, 2, 1)] {
        let inside = (1..4).contains(&h) && (2..8).contains(&w);
        let from = if inside { 3 - b } else { b };
        assert_eq!(mixed.int64_value(&[b, 0, h, w]), x.int64_value(&[from, 0, h, w]));
    }
    // 18 of 48 pixels.
    let p = soft(labels);
    assert!((p.double_value(&[0, 0]) - 0.625).abs() < 1e-6 && (p.double_value(&[0, 1]) - 0.375).abs() < 1e-6);
    // Equal classes keep probability 1. Samples 1 and 2 have classes 2 and 1; pasting an empty box changes nothing.
    let (same, labels) = mix(&x, &y, 3, Plan::Paste { rows: (2, 2), columns: (0, 8) }).unwrap();
    assert_eq!(same, x);
    assert_eq!(soft(labels).double_value(&[0, 0]), 1.0);
    assert!(matches!(mix(&x, &y, 3, Plan::Keep).unwrap().1, Labels::Hard(_)));
}

#[test]
fn weights_follow_the_beta_distribution() {
    const N: u64 = 20_000;
    for alpha in [0.2, 0.8, 1.0, 3.0] {
        let config = Mix { mixup: alpha, ..Mix::default() };
        let (mut mean, mut square) = (0.0, 0.0);
        for step in 0..N {
            let Plan::Blend { lambda } = config.plan(32, 32, &mut Random::new(1, Purpose::Mix, 0, step)) else {
                panic!("not blended")
            };
            assert!((0.0..=1.0).contains(&lambda));
            mean += lambda / N as f64;
            square += lambda * lambda / N as f64;
        }
        // Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)).
        let variance = 1.0 / (4.0 * (2.0 * alpha + 1.0));
        assert!((mean - 0.5).abs() < 5.0 * (variance / N as f64).sqrt(), "{alpha}: mean {mean}");
        assert!(
            (square - mean * mean - variance).abs() < 0.03 * variance,
            "{alpha}: {} {variance}",
            square - mean * mean
        );
    }
}

#[test]
fn boxes_lie_inside_and_both_kinds_come_up() {
    let config = Mix { mixup: 0.8, cutmix: 1.0, probability: 0.5, switch: 0.5 };
    let mut counts = [0usize; 3];
    for step in 0..8000 {
        match config.plan(20, 30, &mut Random::new(2, Purpose::Mix, 1, step)) {
            Plan::Keep => counts[0] += 1,
            Plan::Blend { .. } => counts[1] += 1,
            Plan::Paste { rows, columns } => {
                counts[2] += 1;
                assert!(
                    0 <= rows.0
                        && rows.0 <= rows.1
                        && rows.1 <= 20
                        && 0 <= columns.0
                        && columns.0 <= columns.1
                        && columns.1 <= 30
                );
            }
        }
    }
    assert!(
        counts[0].abs_diff(4000) < 250 && counts[1].abs_diff(2000) < 250 && counts[2].abs_diff(2000) < 250,
        "{counts:?}"
    );
    assert_eq!(Mix::default().plan(8, 8, &mut Random::new(0, Purpose::Mix, 0, 0)), Plan::Keep);
}

#[test]
fn tables_and_shapes_are_checked() {
    let parse = |text: &str| Mix::read(&text.parse().unwrap());
    assert_eq!(parse("mixup = 0.8\ncutmix = 1.0").unwrap(), Mix { mixup: 0.8, cutmix: 1.0, ..Mix::default() });
    assert_eq!(parse("mixup = -1.0").unwrap_err().key, "mixup");
    assert_eq!(parse("switch = 2.0").unwrap_err().key, "switch");
    assert!(parse("mixupp = 1.0").unwrap_err().message.contains("`mixup`"));
    let (x, y) = batch();
    let mut rng = Random::new(0, Purpose::Mix, 0, 0);
    says(&message(parse("mixup = 1.0").unwrap().apply(&x, &y.narrow(0, 0, 2), 3, &mut rng)), &["4 images", "[2]"]);
    says(&message(parse("mixup = 1.0").unwrap().apply(&y, &y, 3, &mut rng)), &["(B,3,H,W)"]);
    assert!(parse("mixup = 1.0").unwrap().apply(&x, &y, 3, &mut rng).is_ok());
}
