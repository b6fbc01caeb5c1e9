//! Published top-1 accuracies on CIFAR-100, as context for the user's own numbers. They come from other code, other
//! machines and mostly a single seed, so they cannot confirm that a run here is correct.
//!
//! 224 px: the tables of OFA-KD (Hao et al. 2023, arXiv 2310.19444) and HCD (arXiv 2511.10942); 300 epochs. 32 px: the
//! tables of CRD (Tian et al. 2020, arXiv 1910.10699) and DKD (Zhao et al. 2022, arXiv 2203.08679); 240 epochs. Each
//! number records how far it can be trusted.

/// The source of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Read in the publication or its authors' repository.
    Read,
    /// Not read in a source; its column reproduces the published average.
    Recalled,
    /// Quoted by a third party.
    Secondary,
    /// Quoted by a third party that is otherwise unreliable.
    Low,
}

/// A published accuracy, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    /// Top-1, 0..100.
    pub top1: f64,
    /// Its source.
    pub trust: Trust,
}

/// The published numbers of one pair of networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The teacher's name in papers.
    pub teacher: &'static str,
    /// The student's name in papers.
    pub student: &'static str,
    /// Side of the input in pixels: 224 or 32, which also identifies the protocol.
    pub img: u32,
    /// Columns and their numbers; the first two are `teacher` and `scratch`.
    pub numbers: &'static [(&'static str, Number)],
}

const fn read(top1: f64) -> Number {
    Number { top1, trust: Trust::Read }
}

const fn recalled(top1: f64) -> Number {
    Number { top1, trust: Trust::Recalled }
}

const fn secondary(top1: f64) -> Number {
    Number { top1, trust: Trust::Secondary }
}

const fn low(top1: f64) -> Number {
    Number { top1, trust: Trust::Low }
}

/// Rows of the 224 px table: teacher, student, then the numbers for teacher, scratch, FitNet, CRD, KD, OFA and, if
/// published, HCD.
macro_rules! rows_224 {
    ($($teacher:literal => $student:literal: $t:expr, $scratch:expr, $fitnet:expr, $crd:expr, $kd:expr, $ofa:expr $(, $hcd:expr)?;)*) => {
        &[$(Pair {
            teacher: $teacher,
            student: $student,
            img: 224,
            numbers: &[("teacher", $t), ("scratch", $scratch), ("FitNet", $fitnet), ("CRD", $crd), ("KD", $kd), ("OFA", $ofa) $(, ("HCD", $hcd))?],
        }),*]
    };
}

const AT_224: &[Pair] = rows_224! {
    "Swin-T" => "ResNet18": read(89.26), read(74.01), read(78.87), read(77.63), read(78.74), read(80.54), secondary(82.78);
    "ViT-S" => "ResNet18": read(92.04), read(74.01), read(77.71), read(76.60), read(77.26), read(80.15), secondary(81.33);
    "Mixer-B/16" => "ResNet18": recalled(87.29), recalled(74.01), recalled(77.15), recalled(76.42), recalled(77.79), recalled(79.39);
    "Swin-T" => "MobileNetV2": recalled(89.26), recalled(73.68), recalled(74.28), recalled(79.80), recalled(74.68), recalled(80.98), low(82.19);
    "ViT-S" => "MobileNetV2": recalled(92.04), read(73.68), read(73.54), read(78.14), read(72.77), read(78.45);
    "Mixer-B/16" => "MobileNetV2": recalled(87.29), recalled(73.68), recalled(73.78), recalled(78.15), recalled(73.33), recalled(78.78);
    "ConvNeXt-T" => "DeiT-T": recalled(88.41), read(68.00), read(60.78), read(65.94), read(72.99), read(75.76);
    "Mixer-B/16" => "DeiT-T": recalled(87.29), recalled(68.00), recalled(71.05), recalled(65.35), recalled(71.36), recalled(73.90);
    "ConvNeXt-T" => "Swin-P": recalled(88.41), recalled(72.63), read(24.06), recalled(67.09), read(76.44), recalled(78.32);
    "Mixer-B/16" => "Swin-P": recalled(87.29), recalled(72.63), recalled(75.20), recalled(67.03), recalled(75.93), recalled(78.93);
    "ConvNeXt-T" => "ResMLP-S12": recalled(88.41), read(66.56), read(45.47), read(63.35), read(72.25), read(81.22);
    "Swin-T" => "ResMLP-S12": recalled(89.26), recalled(66.56), recalled(63.12), recalled(61.72), recalled(71.89), recalled(80.63);
};

const AT_32: &[Pair] = &[Pair {
    teacher: "ResNet32x4",
    student: "ResNet8x4",
    img: 32,
    numbers: &[
        ("teacher", read(79.42)),
        ("scratch", read(72.50)),
        ("KD", read(73.33)),
        ("CRD", read(75.51)),
        ("DKD", read(76.32)),
    ],
}];

/// Beginnings of model names, and the models' names in papers.
const NAMES: [(&str, &str); 13] = [
    ("swin_tiny", "Swin-T"),
    ("vit_small_patch16", "ViT-S"),
    ("mixer_b16", "Mixer-B/16"),
    ("convnext_tiny", "ConvNeXt-T"),
    ("deit_tiny_patch16", "DeiT-T"),
    ("swin_p", "Swin-P"),
    ("resmlp_12", "ResMLP-S12"),
    ("resmlp_s12", "ResMLP-S12"),
    ("resnet18", "ResNet18"),
    ("mobilenetv2_100", "MobileNetV2"),
    ("resnet32x4", "ResNet32x4"),
    ("resnet8x4", "ResNet8x4"),
    ("deit_t", "DeiT-T"),
];

/// A model's name in papers.
fn paper_name(model: &str) -> Option<&'static str> {
    let model = model.to_lowercase();
    NAMES.iter().find(|(start, _)| model.starts_with(start)).map(|(_, name)| *name)
}

/// The published CIFAR-100 results for a pair of models, by the names that `heterodyne models` lists.
#[must_use]
pub fn published(teacher: &str, student: &str) -> Option<&'static Pair> {
    let (teacher, student) = (paper_name(teacher)?, paper_name(student)?);
    AT_224.iter().chain(AT_32).find(|pair| pair.teacher == teacher && pair.student == student)
}

/// All pairs.
pub fn pairs() -> impl Iterator<Item = &'static Pair> {
    AT_224.iter().chain(AT_32)
}
