//! The rows of a comparison: a recipe with a selection of methods and some settings, resolved before anything runs.
use std::path::Path;

use anyhow::{Context, Result, bail};
use heterodyne_run::recipe::{Layered, schema::Recipe};
use heterodyne_train::{Mode, Plan};

use super::settings::{self, Settings};

/// The name of the row without a teacher.
const SCRATCH: &str = "scratch";
/// Longest name of a row's folder; file systems allow 255 bytes.
const LONGEST: usize = 120;

/// Where a recipe is from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A file.
    File(&'a Path),
    /// A name for messages, and the text.
    Text(&'a str, &'a str),
}

impl Source<'_> {
    /// Reads the recipe and lays `sets` over it.
    pub fn read(self, sets: &[String]) -> Result<Layered> {
        Ok(match self {
            Self::File(path) => Layered::read(path, sets)?,
            Self::Text(name, text) => Layered::from_str(name, text, sets)?,
        })
    }
}

/// Which methods a row trains with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selection {
    /// None, and no teacher.
    Scratch,
    /// Those of the recipe.
    Own,
    /// These alone, with the recipe's tables for them or the defaults.
    Methods(Vec<String>),
}

impl Selection {
    /// Reads `scratch`, a method's name, or several joined by `+`.
    ///
    /// # Errors
    /// A name is unknown; the message has the nearest one.
    pub fn parse(text: &str) -> Result<Self> {
        if text == SCRATCH {
            return Ok(Self::Scratch);
        }
        let names: Vec<String> = text.split('+').map(|name| name.trim().to_owned()).collect();
        for name in &names {
            if let Err(e) = heterodyne_methods::find(name) {
                let near = heterodyne_settings::nearest(name, [SCRATCH]);
                bail!("--methods {text}: {e}{}", near.map_or("", |_| "; `scratch` is training without a teacher"));
            }
        }
        Ok(Self::Methods(names))
    }

    fn mode(&self) -> Mode {
        if *self == Self::Scratch { Mode::Train } else { Mode::Distill }
    }

    /// Whether a setting changes what the row computes.
    fn uses(&self, set: &str) -> bool {
        match (self, settings::method_of(set)) {
            (Self::Own, _) => true,
            (Self::Scratch, method) => method.is_none() && !settings::is_teachers(set),
            (Self::Methods(names), method) => method.is_none_or(|method| names.iter().any(|name| name == method)),
        }
    }

    /// The settings that turn a recipe with the methods `own` into this selection's.
    fn settings(&self, own: &[String]) -> Settings {
        let Self::Methods(names) = self else { return Vec::new() };
        let dropped = own.iter().filter(|name| !names.contains(name)).map(|name| format!("methods.{name}="));
        let added = names.iter().filter(|name| !own.contains(name)).map(|name| format!("methods.{name}={{}}"));
        dropped.chain(added).collect()
    }
}

/// The methods' names of a recipe.
pub fn methods(layered: &Layered) -> Vec<String> {
    let json = layered.to_json();
    json["methods"].as_object().map_or_else(Vec::new, |table| table.keys().cloned().collect())
}

/// A recipe with everything that is varied in it.
#[derive(Debug)]
pub struct Variation<'a> {
    /// The recipe.
    pub source: Source<'a>,
    /// The name of the rows and of their folder, in a study of several recipes.
    pub label: Option<String>,
    /// The methods, in order.
    pub selections: Vec<Selection>,
    /// Settings of all rows.
    pub fixed: Settings,
    /// Settings of single rows; every selection has a row for each.
    pub points: Vec<Settings>,
}

/// A row: one plan, run with every seed.
#[derive(Debug)]
pub struct Row {
    /// Its name in tables.
    pub name: String,
    /// Its folder, relative to that of the comparison.
    pub folder: String,
    /// The number of its variation.
    pub group: usize,
    /// The selection, or the variation's label.
    pub method: String,
    /// Its settings as text, without those that all rows share.
    pub variant: String,
    /// The row that it is a variant of.
    pub variant_of: Option<String>,
    /// Whether it has a teacher.
    pub mode: Mode,
    /// The resolved recipe, named like the row.
    pub recipe: Recipe,
}

impl Variation<'_> {
    /// Resolves the rows; `group` is the variation's number.
    ///
    /// # Errors
    /// A recipe has a mistake, or no row uses a setting.
    pub fn rows(&self, group: usize) -> Result<Vec<Row>> {
        if let Some(unused) = self
            .fixed
            .iter()
            .chain(self.points.iter().flatten())
            .find(|set| !self.selections.iter().any(|s| s.uses(set)))
        {
            let hint = settings::method_of(unused).map_or("scratch has no teacher".to_owned(), |method| {
                let found = heterodyne_methods::find(method);
                found.err().map_or_else(|| format!("add `{method}` to --methods"), |e| e.to_string())
            });
            bail!("--set {unused}: no row of the comparison uses it\n  hint: {hint}");
        }
        // What all points have in common does not tell them apart. The method's own keys are always shown.
        let shared =
            |set: &String| settings::method_of(set).is_none() && self.points.iter().all(|point| point.contains(set));
        let mut rows: Vec<Row> = Vec::new();
        for selection in &self.selections {
            for point in &self.points {
                let used: Settings = point.iter().filter(|set| selection.uses(set)).cloned().collect();
                let own: Settings = used.iter().filter(|set| !shared(set)).cloned().collect();
                let row = self.row(group, selection, &used, &own)?;
                if rows.iter().all(|other| other.folder != row.folder) {
                    rows.push(row);
                }
            }
        }
        if let ([_], Some((first, variants))) = (self.selections.as_slice(), rows.split_first_mut()) {
            variants.iter_mut().for_each(|row| row.variant_of = Some(first.name.clone()));
        }
        Ok(rows)
    }

    fn row(&self, group: usize, selection: &Selection, used: &[String], own: &[String]) -> Result<Row> {
        let sets = [&self.fixed, used].concat();
        let plan = |methods: &[String]| {
            let layered = self.source.read(&[sets.as_slice(), &selection.settings(methods)].concat())?;
            anyhow::Ok(Plan::resolve(&layered, selection.mode())?)
        };
        let methods = methods(&self.source.read(&sets)?);
        let selected = match selection {
            Selection::Scratch => SCRATCH.to_owned(),
            Selection::Own => methods.join("+"),
            Selection::Methods(names) => names.join("+"),
        };
        let method = self.label.clone().unwrap_or_else(|| selected.clone());
        let short = |set: &String| {
            let set = set.strip_prefix(&format!("methods.{selected}.")).unwrap_or(set);
            set.strip_prefix("methods.").unwrap_or(set).to_owned()
        };
        let named = |sets: &[String]| sets.iter().map(short).collect::<Vec<_>>().join(", ");
        let variant = named(own);
        let name = if variant.is_empty() { method.clone() } else { format!("{method}, {variant}") };
        let mut plan = plan(&methods).with_context(|| format!("row `{name}`"))?;
        plan.recipe.name.clone_from(&name);
        plan.recipe.seed = 0;
        let folder = match &self.label {
            Some(label) => {
                format!("{}/{}", slug(label), if used.is_empty() { "default".to_owned() } else { slug(&named(used)) })
            }
            None if used.is_empty() => slug(&method),
            None => slug(&format!("{method},{}", named(used))),
        };
        Ok(Row { name, folder, group, method, variant, variant_of: None, mode: plan.mode, recipe: plan.recipe })
    }
}

/// `text` as the name of a folder.
fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._-+=,".contains(c) { c } else { '_' };
    let name: String = text.replace(", ", ",").chars().map(plain).collect();
    if name.len() <= LONGEST {
        return name;
    }
    // A checksum keeps names apart that begin alike.
    let start: String = name.chars().take(LONGEST / 2).collect();
    format!("{start}-{:08x}", crc32fast::hash(text.as_bytes()))
}
