//! The three splits and their usual names.
use std::sync::Arc;

use crate::{Dataset, Reading, Splits};

/// One of the three splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    Train,
    Val,
    Test,
}

/// Which name a split must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// It is left out.
    Nothing,
    /// This name, which must exist.
    Named(&'a str),
    /// One of these, if it exists.
    Usual(&'static [&'static str]),
}

impl Split {
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// Its key in `[data]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }

    /// Its usual names, in lower case.
    pub fn usual(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "training"],
            Self::Val => &["val", "valid", "validation"],
            Self::Test => &["test", "testing"],
        }
    }

    pub fn wanted(self, reading: &Reading) -> Wanted<'_> {
        let given = match self {
            Self::Train => &reading.train,
            Self::Val => &reading.val,
            Self::Test => &reading.test,
        };
        match given.as_deref() {
            Some("") => Wanted::Nothing,
            Some(name) => Wanted::Named(name),
            None => Wanted::Usual(self.usual()),
        }
    }

    /// The split with the name `name`.
    pub fn of(name: &str, reading: &Reading) -> Option<Self> {
        Self::ALL.into_iter().find(|split| split.is(name, reading))
    }

    /// Stores `dataset` as this split.
    pub fn fill(self, splits: &mut Splits, dataset: Arc<dyn Dataset>) {
        let place = match self {
            Self::Train => &mut splits.train,
            Self::Val => &mut splits.val,
            Self::Test => &mut splits.test,
        };
        *place = Some(dataset);
    }

    /// Whether `name` is one of its names.
    pub fn is(self, name: &str, reading: &Reading) -> bool {
        match self.wanted(reading) {
            Wanted::Nothing => false,
            Wanted::Named(wanted) => name == wanted,
            Wanted::Usual(names) => names.contains(&name.to_lowercase().as_str()),
        }
    }
}
