//! RandAugment (Cubuk et al. 2019, arXiv 1909.13719) with timm's operations of increasing severity
//! (`rand-m9-mstd0.5-inc1`).
use heterodyne_settings::{KeyError, settings};

use crate::{
    Image, Random,
    transforms::{Adjust, Filter, Op, operate},
};

/// The magnitude at which operations are strongest.
const STRONGEST: f64 = 10.0;

settings! {
    /// RandAugment; the default is timm's `rand-m9-mstd0.5-inc1`.
    pub struct RandAugment {
        /// Mean magnitude, from 0 to 10.
        pub magnitude: f64 = 9.0, Plain, between(0.0, STRONGEST);
        /// Standard deviation of the magnitude, drawn for each operation.
        pub std: f64 = 0.5, Plain, non_negative;
        /// Operations on an image, drawn with replacement.
        pub ops: usize = 2, Plain, whole(1, 100);
        /// Probability that a drawn operation is applied.
        pub chance: f64 = 0.5, Plain, probability;
        /// Colour (red, green, blue) outside the image. The default is ImageNet's mean; timm takes the data's.
        pub fill: [u8; 3] = [124, 116, 104], Plain;
    }
}

/// The operations to draw from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Color,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
}

const KINDS: [Kind; 15] = [
    Kind::AutoContrast,
    Kind::Equalize,
    Kind::Invert,
    Kind::Rotate,
    Kind::Posterize,
    Kind::Solarize,
    Kind::SolarizeAdd,
    Kind::Color,
    Kind::Contrast,
    Kind::Brightness,
    Kind::Sharpness,
    Kind::ShearX,
    Kind::ShearY,
    Kind::TranslateX,
    Kind::TranslateY,
];

impl Kind {
    /// The operation at `magnitude`; `sign` is 1 or -1.
    fn at(self, magnitude: f64, sign: f64) -> Op {
        let share = magnitude / STRONGEST;
        let factor = (1.0 + sign * share * 0.9).max(0.1);
        match self {
            Self::AutoContrast => Op::AutoContrast,
            Self::Equalize => Op::Equalize,
            Self::Invert => Op::Invert,
            Self::Rotate => Op::Rotate(sign * share * 30.0),
            Self::Posterize => Op::Posterize(4 - (share * 4.0) as u32),
            Self::Solarize => Op::Solarize(256 - ((share * 256.0) as u32).min(256)),
            Self::SolarizeAdd => Op::SolarizeAdd(((share * 110.0) as u32).min(128)),
            Self::Color => Op::Adjust(Adjust::Saturation(factor)),
            Self::Contrast => Op::Adjust(Adjust::Contrast(factor)),
            Self::Brightness => Op::Adjust(Adjust::Brightness(factor)),
            Self::Sharpness => Op::Sharpness(factor),
            Self::ShearX => Op::ShearX(sign * share * 0.3),
            Self::ShearY => Op::ShearY(sign * share * 0.3),
            Self::TranslateX => Op::TranslateX(sign * share * 0.45),
            Self::TranslateY => Op::TranslateY(sign * share * 0.45),
        }
    }
}

/// The table that does what `text`, in timm's notation, does; `None` if there is none. timm's own defaults are written
/// out. Only its operations of increasing severity (`inc1`) are here.
fn from_timm(text: &str) -> Option<String> {
    let parts = text.strip_prefix("rand-")?.split('-');
    let [mut magnitude, mut std, mut ops, mut chance] = [STRONGEST, 0.0, 2.0, 0.5];
    let mut increasing = false;
    for part in parts {
        let (name, number) = part.split_at(part.find(|c: char| c.is_ascii_digit())?);
        let number: f64 = number.parse().ok()?;
        match name {
            "m" => magnitude = number,
            "mstd" => std = number,
            "n" => ops = number,
            "p" => chance = number,
            "inc" => increasing = number == 1.0,
            _ => return None,
        }
    }
    let possible = increasing && magnitude <= STRONGEST && chance <= 1.0;
    possible.then(|| format!("{{ magnitude = {magnitude}, std = {std}, ops = {ops}, chance = {chance} }}"))
}

impl RandAugment {
    /// The error for a text in place of the table; for timm's notation, its hint is the table.
    pub(crate) fn not_text(text: &str) -> KeyError {
        let hint = match from_timm(text) {
            Some(table) => format!("this is timm's notation; write rand_augment = {table}"),
            None => {
                "write rand_augment = { magnitude = 9, std = 0.5 }, which is timm's rand-m9-mstd0.5-inc1".to_owned()
            }
        };
        KeyError::new("", format!("is the text {text:?}; a table is expected")).with_hint(hint)
    }

    /// Draws the operations and applies them.
    pub fn apply(&self, image: &mut Image, rng: &mut Random) {
        for _ in 0..self.ops {
            let kind = KINDS[rng.below(KINDS.len())];
            if !rng.chance(self.chance) {
                continue;
            }
            let magnitude = (self.magnitude + self.std * rng.normal()).clamp(0.0, STRONGEST);
            let sign = if rng.chance(0.5) { -1.0 } else { 1.0 };
            let filter = [Filter::Bilinear, Filter::Bicubic][rng.below(2)];
            operate(image, kind.at(magnitude, sign), filter, self.fill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heterodyne_settings::Settings;
    use std::collections::BTreeMap;

    /// timm's names, in its order.
    const NAMES: [&str; 15] = [
        "AutoContrast",
        "Equalize",
        "Invert",
        "Rotate",
        "PosterizeIncreasing",
        "SolarizeIncreasing",
        "SolarizeAdd",
        "ColorIncreasing",
        "ContrastIncreasing",
        "BrightnessIncreasing",
        "SharpnessIncreasing",
        "ShearX",
        "ShearY",
        "TranslateXRel",
        "TranslateYRel",
    ];

    fn argument(op: Op) -> Option<f64> {
        match op {
            Op::AutoContrast | Op::Equalize | Op::Invert => None,
            Op::Posterize(n) | Op::Solarize(n) | Op::SolarizeAdd(n) => Some(f64::from(n)),
            Op::Adjust(Adjust::Brightness(x) | Adjust::Contrast(x) | Adjust::Saturation(x))
            | Op::Rotate(x)
            | Op::Sharpness(x)
            | Op::ShearX(x)
            | Op::ShearY(x)
            | Op::TranslateX(x)
            | Op::TranslateY(x) => Some(x.abs()),
        }
    }

    #[test]
    fn timms_notation_finds_its_table() {
        let read = |text: &str| {
            let table: toml::Table = format!("t = {}", from_timm(text)?).parse().unwrap();
            Some(RandAugment::read(table["t"].as_table().unwrap()).unwrap())
        };
        assert_eq!(read("rand-m9-mstd0.5-inc1"), Some(RandAugment::default()));
        let plain = RandAugment { magnitude: 7.0, std: 0.0, ops: 3, chance: 0.25, ..RandAugment::default() };
        assert_eq!(read("rand-m7-n3-p0.25-inc1"), Some(plain));
        // Other operations, weights, an unbounded magnitude, AutoAugment, no number.
        for text in
            ["rand-m9-mstd0.5", "rand-m9-w0-inc1", "rand-m12-inc1", "augmix-m5-w4-d2", "original", "rand-m-inc1"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    /// Compares the arguments at some magnitudes with timm's (tests/goldens/make_rand_augment.py), for both signs.
    #[test]
    fn arguments_are_timms() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/rand_augment.safetensors");
        let (_, metadata) = heterodyne_nn::file::read(&path).unwrap();
        let levels: BTreeMap<String, BTreeMap<String, Vec<f64>>> = serde_json::from_str(&metadata["levels"]).unwrap();
        assert_eq!(levels.len(), KINDS.len());
        for (kind, name) in KINDS.iter().zip(NAMES) {
            for (magnitude, theirs) in &levels[name] {
                let mut ours: Vec<f64> = [1.0, -1.0]
                    .iter()
                    .filter_map(|sign| argument(kind.at(magnitude.parse().unwrap(), *sign)))
                    .collect();
                ours.sort_by(f64::total_cmp);
                ours.dedup_by(|a, b| (*a - *b).abs() < 1e-12);
                let close = ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-12);
                assert!(close, "{name} at {magnitude}: {ours:?} and timm's {theirs:?}");
            }
        }
    }
}
