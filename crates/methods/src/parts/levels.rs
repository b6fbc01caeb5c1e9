//! The stages of a pair that a method reads.
use heterodyne_nn::TapSpec;
use serde::{Deserialize, Serialize};

/// Number of stages of a network, and so the largest level.
pub const NUM_LEVELS: usize = 4;

/// Stages at the same relative depth of both networks, as a recipe names them.
///
/// Some networks for 32 px tap their stem as the first stage ([`TapSpec::stem`]), and their protocol (RepDistiller,
/// mdistiller) counts from the stage after it. If either side of a pair has such a stem, layer 1 is level 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Levels {
    /// `[1, 4]`: by stage number, 1 for the shallowest tap.
    Stages(Vec<usize>),
    /// `["layer2"]`: by stage number, not counting a stem.
    Layers(Vec<usize>),
    /// `"layers"`: every stage except a stem.
    EveryLayer,
}

impl Levels {
    /// All four stages, including a stem.
    #[must_use]
    pub fn every() -> Self {
        Self::Stages((1..=NUM_LEVELS).collect())
    }

    /// The stage numbers for a pair, 1 for the shallowest. The caller must reject numbers that one side does not have.
    #[must_use]
    pub fn of(&self, student: &TapSpec, teacher: &TapSpec) -> Vec<usize> {
        let stems = usize::from(student.stem || teacher.stem);
        match self {
            Self::Stages(numbers) => numbers.clone(),
            Self::Layers(numbers) => numbers.iter().map(|n| n + stems).collect(),
            Self::EveryLayer => (1 + stems..=NUM_LEVELS).collect(),
        }
    }
}

const WANTED: &str =
    "some of the stages 1, 2, 3 and 4 or of \"layer1\" to \"layer4\", each at most once, or \"layers\"";

/// The forms that a recipe may use.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected some of the stages 1, 2, 3 and 4 or of \"layer1\" to \"layer4\", each at most once, or \
        \"layers\""
)]
enum Written {
    Numbers(Vec<i64>),
    Names(Vec<String>),
    Word(String),
}

impl TryFrom<Written> for Levels {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let distinct = |numbers: Vec<usize>| {
            let valid =
                numbers.iter().enumerate().all(|(i, n)| (1..=NUM_LEVELS).contains(n) && !numbers[..i].contains(n));
            (valid && !numbers.is_empty()).then_some(numbers)
        };
        let found = match &written {
            Written::Numbers(numbers) => numbers
                .iter()
                .map(|&n| usize::try_from(n).ok())
                .collect::<Option<_>>()
                .and_then(distinct)
                .map(Self::Stages),
            Written::Names(names) => {
                let number = |name: &String| name.strip_prefix("layer").and_then(|n| n.parse().ok());
                names.iter().map(number).collect::<Option<_>>().and_then(distinct).map(Self::Layers)
            }
            Written::Word(word) => (word == "layers").then_some(Self::EveryLayer),
        };
        let text = match &written {
            Written::Numbers(numbers) => format!("{numbers:?}"),
            Written::Names(names) => format!("{names:?}"),
            Written::Word(word) => format!("{word:?}"),
        };
        found.ok_or_else(|| format!("{text} is out of range, expected {WANTED}"))
    }
}

impl From<Levels> for Written {
    fn from(levels: Levels) -> Self {
        match levels {
            Levels::Stages(numbers) => Self::Numbers(numbers.into_iter().map(|n| n as i64).collect()),
            Levels::Layers(numbers) => Self::Names(numbers.into_iter().map(|n| format!("layer{n}")).collect()),
            Levels::EveryLayer => Self::Word("layers".to_owned()),
        }
    }
}
