//! `heterodyne models`, `methods` and `data`: the registries, as they are.
use anyhow::Result;

use super::Outcome;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Filter {
    /// Only names that contain this, with their options
    name: Option<String>,
}

impl Filter {
    fn takes(&self, name: &str) -> bool {
        self.name.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }
}

/// Lists the models.
pub fn models(filter: &Filter) -> Result<Outcome> {
    for def in heterodyne_models::all().filter(|d| filter.takes(d.name)) {
        println!("{:24} {:4} px  {}", def.name, def.input.img, def.summary);
        if filter.name.is_some() {
            for o in def.options {
                println!("    {} = {}\n        {}", o.name, o.default, o.doc);
            }
        }
    }
    Ok(Outcome::Done)
}

/// Lists the methods.
pub fn methods(filter: &Filter) -> Result<Outcome> {
    for def in heterodyne_methods::all().iter().filter(|d| filter.takes(d.name)) {
        println!("{:8} {} ({})", def.name, def.title, def.source);
        if filter.name.is_some() {
            for k in def.keys {
                println!("    {} = {}\n        {}", k.name, k.default, k.doc);
            }
        }
    }
    Ok(Outcome::Done)
}

/// Lists the datasets.
pub fn data() -> Result<Outcome> {
    for def in heterodyne_data::all() {
        println!("{:10} {}", def.name, def.summary);
    }
    Ok(Outcome::Done)
}
