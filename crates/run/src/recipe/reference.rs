//! The keys of a recipe, for help and the reference page.
use heterodyne_settings::{Key, Settings};

use super::schema::{CacheTable, Data, Distributed, Loss, NetworkTable, Optim, Recipe, Schedule, Train};

/// One table of a recipe.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name in a recipe, `train`; empty for the keys outside of tables.
    pub name: &'static str,
    /// What it is about, in Markdown.
    pub about: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Every key with its default; one without is missing.
    pub defaults: toml::Table,
}

impl Section {
    /// The table `name`, declared as `T`.
    #[must_use]
    pub fn of<T: Settings>(name: &'static str) -> Self {
        Self { name, about: T::ABOUT, keys: T::KEYS, defaults: T::defaults() }
    }
}

/// The tables of a recipe, in the order of the reference page; `augment` and `mix` are those of the data's owner.
#[must_use]
pub fn sections(augment: impl IntoIterator<Item = Section>) -> Vec<Section> {
    let mut sections = vec![Section::of::<Recipe>(""), Section::of::<Data>("data")];
    sections.extend(augment);
    sections.extend([
        Section::of::<NetworkTable>("student"),
        Section::of::<CacheTable>("teacher.cache"),
        Section::of::<Train>("train"),
        Section::of::<Optim>("optim"),
        Section::of::<Schedule>("schedule"),
        Section::of::<Loss>("loss"),
        Section::of::<Distributed>("distributed"),
    ]);
    sections
}
