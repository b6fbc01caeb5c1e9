use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use crate::{Checked, KeyError, parse, table};

/// Where a default comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// The method's paper.
    Published,
    /// Another group's code or paper.
    ThirdParty,
    /// This project.
    Ours,
    /// Nowhere in particular: a key that no paper knows.
    Plain,
}

impl Provenance {
    /// The sentence for help and reference pages.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Published => "Published default.",
            Self::ThirdParty => "Third-party default.",
            Self::Ours => "Our default.",
            Self::Plain => "",
        }
    }
}

/// One key of a table, for help and reference pages. Its default is in [`Settings::defaults`].
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Where its default comes from.
    pub from: Provenance,
    doc: &'static str,
}

impl Key {
    /// Creates a key with its text.
    #[must_use]
    pub const fn new(name: &'static str, doc: &'static str, from: Provenance) -> Self {
        Self { name, from, doc }
    }

    /// What the key does.
    #[must_use]
    pub fn doc(&self) -> &'static str {
        self.doc.trim()
    }
}

/// A table of settings, as [`settings!`](crate::settings!) declares it.
pub trait Settings: Clone + Debug + Default + DeserializeOwned + Serialize + 'static {
    /// What the table is about, in Markdown.
    const ABOUT: &'static str;
    /// Its keys, in the order of the reference page.
    const KEYS: &'static [Key];

    /// Whether each value is in its range.
    fn in_range(&self) -> Checked;

    /// Reads a table strictly; what it lacks has its default.
    ///
    /// # Errors
    /// The table has an unknown key, or a value of the wrong type or out of range.
    fn read(table: &toml::Table) -> Result<Self, KeyError> {
        Self::default().with(table)
    }

    /// Reads a table strictly; what it lacks is as here.
    ///
    /// # Errors
    /// As [`Settings::read`].
    fn with(&self, table: &toml::Table) -> Result<Self, KeyError> {
        if let Some(key) = table.keys().find(|key| Self::KEYS.iter().all(|known| known.name != **key)) {
            return Err(KeyError::unknown(key, Self::KEYS.iter().map(|known| known.name)));
        }
        let mut whole = self.table();
        whole.extend(table.clone());
        let settings: Self = parse(&whole)?;
        settings.in_range()?;
        Ok(settings)
    }

    /// Every key with the value in force.
    fn table(&self) -> toml::Table {
        table(self)
    }

    /// Every key with its default; keys without a default are absent.
    #[must_use]
    fn defaults() -> toml::Table {
        Self::default().table()
    }
}
