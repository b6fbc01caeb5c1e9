//! RandAugment's operations against timm's on Pillow images (goldens/make_rand_augment.py), and the draws.
use heterodyne_data::{
    Augment, Image, RandAugment, Random,
    random::Purpose,
    transforms::{Adjust, Filter, Op, operate},
};
use heterodyne_nn::file;
use serde::Deserialize;

use crate::support::{difference, golden, image};

#[derive(Deserialize)]
struct Case {
    name: String,
    op: String,
    arg: Option<f64>,
    filter: String,
}

fn op(case: &Case) -> Op {
    let arg = case.arg.unwrap_or_default();
    match case.op.as_str() {
        "auto_contrast" => Op::AutoContrast,
        "equalize" => Op::Equalize,
        "invert" => Op::Invert,
        "rotate" => Op::Rotate(arg),
        "posterize" => Op::Posterize(arg as u32),
        "solarize" => Op::Solarize(arg as u32),
        "solarize_add" => Op::SolarizeAdd(arg as u32),
        "color" => Op::Adjust(Adjust::Saturation(arg)),
        "contrast" => Op::Adjust(Adjust::Contrast(arg)),
        "brightness" => Op::Adjust(Adjust::Brightness(arg)),
        "sharpness" => Op::Sharpness(arg),
        "shear_x" => Op::ShearX(arg),
        "shear_y" => Op::ShearY(arg),
        "translate_x_rel" => Op::TranslateX(arg),
        "translate_y_rel" => Op::TranslateY(arg),
        other => panic!("{other}"),
    }
}

#[test]
fn every_operation_is_pillows_to_the_byte() {
    let (tensors, metadata) = file::read(&golden("rand_augment.safetensors")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&metadata["cases"]).unwrap();
    let fill: [u8; 3] = serde_json::from_str(&metadata["fill"]).unwrap();
    let source = image(&tensors["source"]);
    assert!(cases.len() > 30);
    let mut changed = 0;
    for case in &cases {
        let filter = if case.filter == "bicubic" { Filter::Bicubic } else { Filter::Bilinear };
        let mut ours = source.clone();
        operate(&mut ours, op(case), filter, fill);
        let theirs = image(&tensors[&case.name]);
        assert_eq!(
            difference(&ours, &theirs).0,
            0,
            "{} {:?} {}: mean {}",
            case.op,
            case.arg,
            case.filter,
            difference(&ours, &theirs).1
        );
        changed += usize::from(ours != source);
    }
    assert!(changed >= cases.len() - 3, "{changed} of {}", cases.len());
    for (name, op) in [("flat.auto_contrast", Op::AutoContrast), ("flat.equalize", Op::Equalize)] {
        let mut flat = image(&tensors["flat"]);
        operate(&mut flat, op, Filter::Bilinear, fill);
        assert_eq!(flat, image(&tensors[name]), "{name}");
    }
    // Keeping no bits, which Pillow refuses.
    let mut dark = source.clone();
    operate(&mut dark, Op::Posterize(0), Filter::Bilinear, fill);
    assert!(dark.rgb.iter().all(|v| *v == 0));
}

fn rng(sample: u64) -> Random {
    Random::new(1, Purpose::Sample, 0, sample)
}

/// With two operations of probability one half each, a quarter of the images stay unchanged, and a few more because
/// some operations do nothing.
#[test]
fn about_a_quarter_of_the_images_stay_and_the_draw_is_the_samples() {
    let pixels: Vec<u8> = (0..3 * 16 * 16).map(|i| (i * 37 % 251) as u8).collect();
    let source = Image::new(16, 16, pixels).unwrap();
    let augment = RandAugment::default();
    let apply = |sample: u64| {
        let mut image = source.clone();
        augment.apply(&mut image, &mut rng(sample));
        image
    };
    let same = (0..2000).filter(|&sample| apply(sample) == source).count();
    assert!((450..700).contains(&same), "{same} of 2000");
    assert_eq!(apply(5), apply(5));
    for sample in 0..200 {
        let mut always = source.clone();
        RandAugment { chance: 1.0, ops: 4, magnitude: 10.0, std: 3.0, ..RandAugment::default() }
            .apply(&mut always, &mut rng(sample));
        assert_eq!(always.size(), source.size());
    }
}

#[test]
fn the_table_is_read_strictly() {
    let parse = |text: &str| Augment::parse(&text.parse().unwrap());
    assert_eq!(parse("rand_augment = {}").unwrap().rand_augment, Some(RandAugment::default()));
    assert_eq!(parse("flip = 0.5").unwrap().rand_augment, None);
    for (text, key) in [
        ("rand_augment = { magnitude = 11 }", "rand_augment.magnitude"),
        ("rand_augment = { std = -1 }", "rand_augment.std"),
        ("rand_augment = { ops = 0 }", "rand_augment.ops"),
        ("rand_augment = { chance = 1.5 }", "rand_augment.chance"),
        ("rand_augment = { fill = [0, 0, 256] }", "rand_augment.fill[2]"),
        ("rand_augment = { magnitud = 9 }", "rand_augment.magnitud"),
    ] {
        assert_eq!(parse(text).unwrap_err().key, key, "{text}");
    }
}
