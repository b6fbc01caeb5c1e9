//! Reports how weights fit a network.
use std::fmt;

use crate::{Error, Result};

/// The outcome of loading, name by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Number of tensors copied.
    pub loaded: usize,
    /// In the network but not in the file.
    pub missing: Vec<String>,
    /// In the file but not in the network.
    pub unexpected: Vec<String>,
    /// In both, with different shapes: (name, shape in the file, shape in the network).
    pub mismatched: Vec<(String, Vec<i64>, Vec<i64>)>,
    /// Adapted while loading, each with a sentence that says how (a resampled position embedding, a new head).
    pub adapted: Vec<String>,
    /// In the file but left out on purpose, each with a sentence that says why (outside a prefix, ignored).
    pub left_out: Vec<String>,
}

impl LoadReport {
    /// Whether every tensor on both sides has a counterpart.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    /// The report itself if it is clean, else an error that lists what does not fit. `what` names file and network.
    pub fn strict(self, what: &str) -> Result<Self> {
        if self.is_clean() { Ok(self) } else { Err(Error::Weights(format!("{what}: the weights do not fit\n{self}"))) }
    }

    fn nearest(&self, name: &str) -> Option<&str> {
        let best = self
            .unexpected
            .iter()
            .map(|other| (strsim::jaro_winkler(name, other), other))
            .max_by(|a, b| a.0.total_cmp(&b.0))?;
        (best.0 > 0.85).then_some(best.1)
    }
}

/// Longer lists are cut; the counts show how much is left out.
const SHOWN: usize = 8;

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {} tensors loaded", self.loaded)?;
        let mut section = |title: &str, lines: Vec<String>| -> fmt::Result {
            if lines.is_empty() {
                return Ok(());
            }
            write!(f, "\n  {} {title}", lines.len())?;
            for line in lines.iter().take(SHOWN) {
                write!(f, "\n    {line}")?;
            }
            if lines.len() > SHOWN { write!(f, "\n    and {} more", lines.len() - SHOWN) } else { Ok(()) }
        };
        section(
            "missing in the file",
            self.missing
                .iter()
                .map(|name| {
                    self.nearest(name).map_or_else(|| name.clone(), |near| format!("{name} (the file has `{near}`)"))
                })
                .collect(),
        )?;
        section("unknown to the network", self.unexpected.clone())?;
        section(
            "of another shape",
            self.mismatched
                .iter()
                .map(|(name, file, own)| format!("{name}: {file:?} in the file, {own:?} in the network"))
                .collect(),
        )?;
        section("adapted", self.adapted.clone())?;
        section("left out", self.left_out.clone())
    }
}
