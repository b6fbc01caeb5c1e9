use heterodyne_data::{
    Image, Random,
    random::Purpose,
    transforms::{
        Adjust, Filter, PadMode, Region, adjust, erase_region, evaluation, fit, flip, pad_crop, random_region, resize,
        resized_crop,
    },
};
use heterodyne_nn::{InputSpec, Tensors};
use tch::Tensor;

use crate::support::{difference, goldens, image, spec};

fn rng(seed: u64) -> Random {
    Random::new(seed, Purpose::Sample, 0, 0)
}

/// Calls `check` for each golden whose name starts with `prefix.`, with the rest of the name split at its dots.
fn each(goldens: &Tensors, prefix: &str, mut check: impl FnMut(&[&str], &Tensor)) {
    let mut count = 0;
    for (name, tensor) in goldens {
        if let Some(rest) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')) {
            check(&rest.split('.').collect::<Vec<_>>(), tensor);
            count += 1;
        }
    }
    assert!(count > 0, "no golden {prefix}");
}

fn filter(name: &str) -> Filter {
    match name {
        "bicubic" => Filter::Bicubic,
        "bilinear" => Filter::Bilinear,
        _ => panic!("{name}"),
    }
}

/// Largest and mean difference from Pillow in levels. The resizer's weights have 16 bits, Pillow's 22, so a few
/// roundings differ by one level, or by two if both passes differ.
const PILLOW: (u8, f64) = (2, 0.01);

#[test]
fn resizing_is_pillows_but_for_rare_roundings() {
    let goldens = goldens("transforms.safetensors");
    let source = image(&goldens["source"]);
    each(&goldens, "resize", |name, expected| {
        let (h, w) = name[1].split_once('x').unwrap();
        let ours = resize(&source, w.parse().unwrap(), h.parse().unwrap(), filter(name[0])).unwrap();
        let (max, mean) = difference(&ours, &image(expected));
        println!("resize {name:?}: max {max}, mean {mean:.5}");
        assert!(max <= PILLOW.0 && mean < PILLOW.1, "{name:?}: max {max}, mean {mean}");
    });
    each(&goldens, "resized_crop", |name, expected| {
        let region = Region { top: 5, left: 7, height: 23, width: 31 };
        let ours = resized_crop(&source, region, 32, 32, filter(name[0])).unwrap();
        let (max, mean) = difference(&ours, &image(expected));
        assert!(max <= PILLOW.0 && mean < PILLOW.1, "{name:?}: max {max}, mean {mean}");
    });
}

#[test]
fn evaluation_crops_where_torchvision_does() {
    let goldens = goldens("transforms.safetensors");
    let source = image(&goldens["source"]);
    let tall = transposed(&source);
    for (prefix, source) in [("fit", &source), ("fit_tall", &tall)] {
        each(&goldens, prefix, |name, expected| {
            let ours = fit(source, name[0].parse().unwrap(), name[1].parse().unwrap(), Filter::Bicubic).unwrap();
            let (max, mean) = difference(&ours, &image(expected));
            assert!(max <= PILLOW.0 && mean < PILLOW.1, "{prefix} {name:?}: max {max}, mean {mean}");
        });
    }
    // 32 / 0.9 = 35.6: timm takes 35.
    let (max, _) = difference(&evaluation(source.clone(), &spec(32, 0.9)).unwrap(), &image(&goldens["fit.35.32"]));
    assert!(max <= 1);
    let square = image(&goldens["small"]);
    assert_eq!(evaluation(square.clone(), &spec(12, 1.0)).unwrap(), square);
    assert!(fit(&square, 10, 12, Filter::Bicubic).is_err());
}

/// timm's `create_transform` with the same settings, for a landscape, a portrait and a square.
#[test]
fn evaluation_is_timms_for_every_mode_and_filter() {
    let goldens = goldens("evaluation.safetensors");
    let mut checked = 0;
    for (name, expected) in &goldens {
        let [source, img, crop_pct, crop_mode, interpolation] = name.split(' ').collect::<Vec<_>>()[..] else {
            continue;
        };
        let words = serde_json::json!({
            "img": img.parse::<i64>().unwrap(), "crop_pct": crop_pct.parse::<f64>().unwrap(), "crop_mode": crop_mode,
            "interpolation": interpolation,
            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        });
        let spec: InputSpec = serde_json::from_value(words).unwrap();
        let ours = evaluation(image(&goldens[source]), &spec).unwrap();
        let (max, mean) = difference(&ours, &image(expected));
        // In a small picture, two of three thousand numbers that are one level off already reach the mean allowed for
        // large pictures.
        assert!(max <= PILLOW.0 && mean < 5.0 * PILLOW.1, "{name}: max {max}, mean {mean}");
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}

fn transposed(image: &Image) -> Image {
    let (height, width) = image.size();
    let rgb = (0..width)
        .flat_map(|x| (0..height).flat_map(move |y| (0..3).map(move |c| (y * width + x) * 3 + c)))
        .map(|at| image.rgb[at])
        .collect();
    Image::new(height as u32, width as u32, rgb).unwrap()
}

#[test]
fn padding_flipping_and_jitter_are_exact() {
    let goldens = goldens("transforms.safetensors");
    let small = image(&goldens["small"]);
    each(&goldens, "pad", |name, expected| {
        let mode = if name[0] == "zero" { PadMode::Zero } else { PadMode::Reflect };
        assert_eq!(
            pad_crop(&small, 4, mode, name[1].parse().unwrap(), name[2].parse().unwrap()),
            image(expected),
            "{name:?}"
        );
    });
    let mut flipped = image(&goldens["source"]);
    flip(&mut flipped);
    assert_eq!(flipped, image(&goldens["flip"]));
    for (kind, how) in [
        ("brightness", Adjust::Brightness as fn(f64) -> Adjust),
        ("contrast", Adjust::Contrast),
        ("saturation", Adjust::Saturation),
    ] {
        each(&goldens, kind, |name, expected| {
            let mut ours = small.clone();
            adjust(&mut ours, how(name.join(".").parse().unwrap()));
            assert_eq!(ours, image(expected), "{kind} {name:?}");
        });
    }
}

#[test]
fn regions_are_distributed_as_torchvisions() {
    const N: usize = 40000;
    let goldens = goldens("transforms.safetensors");
    each(&goldens, "region", |name, expected| {
        let (h, w) = name[0].split_once('x').unwrap();
        let (h, w): (usize, usize) = (h.parse().unwrap(), w.parse().unwrap());
        let image = Image::new(w as u32, h as u32, vec![0; h * w * 3]).unwrap();
        let mut rng = rng(1);
        let mut sums = [[0.0; 2]; 6];
        for _ in 0..N {
            let r = random_region(&image, [0.08, 1.0], [3.0 / 4.0, 4.0 / 3.0], &mut rng);
            assert!(r.height >= 1 && r.width >= 1 && r.top + r.height <= h && r.left + r.width <= w);
            let (a, b) = (r.height as f64, r.width as f64);
            let values = [r.top as f64, r.left as f64, a, b, a * b / (h * w) as f64, (b / a).ln()];
            for (sum, value) in sums.iter_mut().zip(values) {
                sum[0] += value / N as f64;
                sum[1] += value * value / N as f64;
            }
        }
        for (i, [mean, square]) in sums.into_iter().enumerate() {
            let (their_mean, their_std) =
                (expected.double_value(&[0, i as i64]), expected.double_value(&[1, i as i64]));
            let std = (square - mean * mean).max(0.0).sqrt();
            // Both sides are estimates: five standard errors of their difference.
            let error = their_std * (2.0 / N as f64).sqrt();
            assert!(
                (mean - their_mean).abs() <= 5.0 * error + 1e-9,
                "{name:?} value {i}: mean {mean}, theirs {their_mean} +- {error}"
            );
            assert!((std - their_std).abs() <= 5.0 * error + 1e-9, "{name:?} value {i}: std {std}, theirs {their_std}");
        }
    });
}

#[test]
fn extreme_images_still_give_a_region() {
    for (h, w) in [(1, 1), (1, 500), (500, 1), (2, 3)] {
        let image = Image::new(w, h, vec![9; (h * w * 3) as usize]).unwrap();
        for seed in 0..200 {
            let r = random_region(&image, [0.08, 1.0], [0.75, 4.0 / 3.0], &mut rng(seed));
            assert!(
                r.height >= 1 && r.width >= 1 && r.top + r.height <= h as usize && r.left + r.width <= w as usize,
                "{h}x{w}: {r:?}"
            );
            assert!(resized_crop(&image, r, 8, 8, Filter::Bicubic).unwrap().rgb.iter().all(|&v| v == 9));
            if let Some(r) = erase_region(&image, &mut rng(seed)) {
                assert!(r.top + r.height <= h as usize && r.left + r.width <= w as usize);
            }
        }
        assert!(fit(&image, 8, 8, Filter::Bilinear).unwrap().rgb.iter().all(|&v| v == 9));
    }
}

#[test]
fn random_numbers_are_uniform_and_streams_differ() {
    let mut stream = rng(3);
    let mut counts = [0; 7];
    for _ in 0..70000 {
        counts[stream.below(7)] += 1;
    }
    // Each count is 10000 +- 93.
    assert!(counts.iter().all(|c| (9600..10400).contains(c)), "{counts:?}");
    let draws = |seed, epoch, sample| {
        let mut r = Random::new(seed, Purpose::Sample, epoch, sample);
        [r.unit(), r.unit()]
    };
    let streams = [draws(0, 0, 0), draws(1, 0, 0), draws(0, 1, 0), draws(0, 0, 1)];
    for (i, a) in streams.iter().enumerate() {
        assert!(streams.iter().skip(i + 1).all(|b| a != b));
    }
    assert_eq!(draws(5, 6, 7), draws(5, 6, 7));
    let (mean, square) =
        (0..20000).map(|_| stream.normal()).fold((0.0, 0.0), |(m, s), x| (m + x / 20000.0, s + x * x / 20000.0));
    assert!(mean.abs() < 0.04 && (square - 1.0).abs() < 0.06, "{mean} {square}");
}
