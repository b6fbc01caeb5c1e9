//! Run folders as a table for the terminal ([`table`]) and as one self-contained HTML page ([`html`],
//! [`write`](fn@write)).
//!
//! The result of a run is the accuracy of its last epoch on the test images; the best epoch is shown beside it with
//! what it was chosen on. A run that did not finish is listed as such and counts in no mean.
mod chart;
mod load;
mod markup;
mod page;
pub mod published;
mod stats;
mod terminal;

use std::path::{Path, PathBuf};

pub use heterodyne_run::{Error, Result};
pub use load::{Loaded, Run};
pub use published::published;
pub use terminal::table;

/// A row of the tables: runs that differ in their seed alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name; `scratch`, or a group of runs without a teacher, is what the others are compared with.
    pub name: String,
    /// Their run folders.
    pub runs: Vec<PathBuf>,
}

impl Group {
    /// Reads the run folders.
    pub fn load(&self) -> Result<Loaded> {
        let runs = self.runs.iter().map(|path| Run::load(path)).collect::<Result<_>>()?;
        Ok(Loaded { name: self.name.clone(), runs })
    }
}

/// The page as text. `intro` is one paragraph (or, with blank lines between, several) of plain text.
pub fn html(title: &str, intro: &str, groups: &[Group]) -> Result<String> {
    let loaded = groups.iter().map(Group::load).collect::<Result<Vec<_>>>()?;
    Ok(page::page(title, intro, &loaded))
}

/// Writes the page to `path`; the old file stays until the new one is complete.
pub fn write(path: &Path, title: &str, intro: &str, groups: &[Group]) -> Result<()> {
    heterodyne_run::folder::replace(path, html(title, intro, groups)?.as_bytes())
}
