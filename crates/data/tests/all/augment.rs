use heterodyne_data::{
    Augment, Image, Random,
    augment::{Crop, Interpolation},
    random::Purpose,
    transforms::PadMode,
};

use crate::support::says;

fn parse(text: &str) -> Result<Augment, heterodyne_settings::KeyError> {
    Augment::parse(&text.parse().unwrap())
}

#[test]
fn a_table_is_read_and_its_defaults_change_nothing() {
    let full = parse(
        "crop = \"resized\"\nscale = [0.2, 1.0]\nratio = [1.0, 1.0]\ninterpolation = \"random\"\nflip = \
         true\nbrightness = 0.4\n\
         contrast = 0.3\nsaturation = 0.2\nerase = 0.25\npad = 2\npad_mode = \"zero\"",
    )
    .unwrap();
    let expected = Augment {
        crop: Crop::Resized,
        pad: 2,
        pad_mode: PadMode::Zero,
        scale: [0.2, 1.0],
        ratio: [1.0, 1.0],
        interpolation: Interpolation::Random,
        flip: 0.5,
        brightness: 0.4,
        contrast: 0.3,
        rand_augment: None,
        saturation: 0.2,
        erase: 0.25,
    };
    assert_eq!(full, expected);
    assert_eq!(parse("flip = false").unwrap(), Augment::default());
    assert_eq!(parse("flip = 1").unwrap().flip, 1.0);
    // A written table is read back.
    let table = toml::Table::try_from(&expected).unwrap();
    assert_eq!(Augment::parse(&table).unwrap(), expected);

    let image = Image::new(8, 8, (0..192).collect()).unwrap();
    let mut rng = Random::new(0, Purpose::Sample, 0, 0);
    assert_eq!(Augment::default().apply(image.clone(), 8, &mut rng).unwrap(), image);
}

#[test]
fn wrong_keys_and_values_are_named() {
    for (text, key, parts) in [
        ("crup = \"pad\"", "crup", &["unknown field `crup`", "`crop`"] as &[&str]),
        ("crop = \"padd\"", "crop", &["padd", "`pad`"]),
        ("flip = 1.5", "flip", &["1.5", "0 to 1"]),
        ("flip = \"yes\"", "flip", &["true, false or a probability"]),
        ("erase = -0.1", "erase", &["-0.1"]),
        ("brightness = -1.0", "brightness", &["-1"]),
        ("contrast = nan", "contrast", &["NaN"]),
        ("scale = [0.5, 0.1]", "scale", &["smallest <= largest"]),
        ("scale = [0.5, 1.1]", "scale", &["<= 1"]),
        ("ratio = [0.0, 1.0]", "ratio", &["0 <"]),
        ("pad = -1", "pad", &[]),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.key == key || error.key.is_empty(), "{text}: {error:?}");
        says(&error.to_string(), parts);
    }
}

#[test]
fn every_crop_gives_the_size_that_was_asked_for() {
    for crop in [Crop::None, Crop::Pad, Crop::Resized] {
        for (width, height) in [(8, 8), (16, 16), (40, 23), (5, 9)] {
            let image = Image::new(width, height, vec![100; (width * height * 3) as usize]).unwrap();
            let augment = Augment {
                crop,
                flip: 0.5,
                brightness: 0.4,
                contrast: 0.4,
                saturation: 0.4,
                erase: 1.0,
                ..Augment::default()
            };
            let interpolated = Augment { interpolation: Interpolation::Random, ..augment.clone() };
            for sample in 0..20 {
                let mut rng = Random::new(1, Purpose::Sample, 0, sample);
                assert_eq!(augment.apply(image.clone(), 16, &mut rng).unwrap().size(), (16, 16));
                assert_eq!(interpolated.apply(image.clone(), 16, &mut rng).unwrap().size(), (16, 16));
            }
        }
    }
}

#[test]
fn places_and_flips_come_up_equally_often() {
    // One bright pixel shows where the crop was taken and whether it was flipped.
    let mut image = Image::new(9, 9, vec![0; 9 * 9 * 3]).unwrap();
    let (row, column) = (4, 3);
    image.rgb[(row * 9 + column) * 3] = 255;
    let augment = Augment { crop: Crop::Pad, pad: 2, pad_mode: PadMode::Zero, flip: 0.5, ..Augment::default() };
    let mut counts = std::collections::HashMap::new();
    for sample in 0..50_000 {
        let out = augment.apply(image.clone(), 9, &mut Random::new(7, Purpose::Sample, 3, sample)).unwrap();
        *counts.entry(out.rgb.iter().position(|&v| v == 255).unwrap() / 3).or_insert(0usize) += 1;
    }
    // 25 places and 2 directions; columns 1..=5 and their mirror images 3..=7 overlap in 3, 4 and 5.
    assert_eq!(counts.len(), 5 * 7);
    for (at, count) in counts {
        let shares = if (3..=5).contains(&(at % 9)) { 2 } else { 1 };
        assert!(count.abs_diff(1000 * shares) < 160 * shares, "place {at}: {count}");
    }
}
