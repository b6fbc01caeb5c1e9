//! Reports on run folders: a table for the terminal ([`table`]) and a self-contained HTML page ([`html`],
//! [`write`](fn@write)).
//!
//! The result of a run is its accuracy on the test images after the last epoch. The best epoch is also shown, with the
//! images on which it was selected. A run that did not finish is listed as such and is not part of any mean.
mod board;
mod chart;
mod load;
mod markup;
mod page;
mod plan;
pub mod published;
mod reference;
mod stats;
mod terminal;

use std::path::{Path, PathBuf};

pub use board::{Board, Standing, Teacher};
pub use heterodyne_run::{Error, Result};
pub use load::{Loaded, Run, scratch_runs};
pub use plan::{changes, groups};
pub use published::published;
pub use reference::Reference;
pub use stats::{Difference, Seeds};
pub use terminal::table;

/// A row of the tables: runs that differ only in their seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// The run folders.
    pub runs: Vec<PathBuf>,
    /// The group of which this one is a variant; it is compared with it, besides `kd` and `scratch` ([`Reference`]).
    pub variant_of: Option<String>,
}

impl Group {
    /// A group that is not a variant.
    #[must_use]
    pub fn new(name: impl Into<String>, runs: Vec<PathBuf>) -> Self {
        Self { name: name.into(), runs, variant_of: None }
    }

    /// Reads the run folders.
    pub fn load(&self) -> Result<Loaded> {
        let runs = self.runs.iter().map(|path| Run::load(path)).collect::<Result<_>>()?;
        Ok(Loaded { name: self.name.clone(), runs, variant_of: self.variant_of.clone() })
    }
}

/// The page as text. `intro` is plain text; blank lines separate paragraphs.
pub fn html(title: &str, intro: &str, groups: &[Group]) -> Result<String> {
    let mut loaded = groups.iter().map(Group::load).collect::<Result<Vec<_>>>()?;
    // The charts have the order of the table.
    loaded.sort_by(Loaded::better);
    Ok(page::page(title, intro, &loaded))
}

/// Writes the page to `path`; an existing file is replaced only once the new one is complete.
pub fn write(path: &Path, title: &str, intro: &str, groups: &[Group]) -> Result<()> {
    heterodyne_run::folder::replace(path, html(title, intro, groups)?.as_bytes())
}
