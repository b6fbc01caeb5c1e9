//! Flags that say which tensors of a weights file are meant.
use std::path::Path;

use heterodyne_train::weights::Source;

/// `--section`, `--prefix` and `--ignore`.
#[derive(Clone, Debug, clap::Args)]
pub struct SelectArgs {
    /// The dictionary of tensors in a PyTorch file that holds several
    #[arg(long)]
    section: Option<String>,
    /// Only tensors whose names begin with this, which is taken away; chosen by the names if not given
    #[arg(long)]
    prefix: Option<String>,
    /// Tensors to leave out: names, beginnings of names up to a dot, or patterns with * and ?; comma-separated, may be
    /// repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    ignore: Vec<String>,
}

impl SelectArgs {
    /// The weights at `path`.
    #[must_use]
    pub fn of<'a>(&'a self, path: &'a Path) -> Source<'a> {
        Source { path, section: self.section.as_deref(), prefix: self.prefix.as_deref(), ignore: &self.ignore }
    }
}
