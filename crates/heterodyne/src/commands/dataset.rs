//! Flags for a dataset, its location and the reading of its files.
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use heterodyne_run::recipe::{self, schema::Data};
use serde::Deserialize;

/// Flags that override a recipe's `[data]`.
#[derive(Debug, clap::Args)]
pub struct DataArgs {
    /// Dataset name (`heterodyne data` lists them)
    #[arg(long)]
    data: Option<String>,
    /// File or folder of the dataset
    #[arg(long)]
    path: Option<PathBuf>,
    /// Set a key of the recipe's [data], for example --set data.labels=val.csv or --set data.exif=false; may be
    /// repeated
    #[arg(long = "set", value_name = "data.KEY=VALUE")]
    sets: Vec<String>,
}

impl DataArgs {
    /// The dataset of `run`, if there is one, overridden by the flags.
    pub fn over(&self, run: Option<Data>) -> Result<Data> {
        let named = || self.data.as_deref().map(Data::of);
        let mut data =
            run.or_else(named).context("no dataset given: add --data NAME (`heterodyne data` lists the names)")?;
        if let Some(name) = &self.data {
            data.name.clone_from(name);
        }
        if let Some(path) = &self.path {
            data.path = Some(path.clone());
        }
        set(data, &self.sets)
    }
}

/// `data` with keys set by texts such as `data.exif=false`.
pub fn set(data: Data, sets: &[String]) -> Result<Data> {
    let mut table = toml::Table::try_from(&data).context("the recipe's [data]")?;
    for (key, value) in recipe::options(sets)? {
        let Some(key) = key.strip_prefix("data.") else {
            bail!("--set {key}: keys of the data begin with `data.`; did you mean data.{key}?")
        };
        table.insert(key.to_owned(), value);
    }
    let mut data = Data::deserialize(table).with_context(|| format!("--set {}", sets.join(" --set ")))?;
    recipe::home::expand_data(&mut data);
    Ok(data)
}
