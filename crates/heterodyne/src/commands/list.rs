//! `heterodyne models`, `methods` and `recipe`: the registries and the keys, as they are.
use anyhow::{Result, bail};
use heterodyne_data::{Augment, Mix, RandAugment};
use heterodyne_run::recipe::reference::{self, Section};
use heterodyne_settings::{Key, Settings};
use heterodyne_train::plan::Weight;

use super::Outcome;
use crate::print::{say, say_part};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Filter {
    /// Show this entry, or all entries whose names contain this, with their options
    name: Option<String>,
    /// Print the reference page in Markdown
    #[arg(long, conflicts_with = "name")]
    markdown: bool,
}

/// One entry of a registry.
struct Item {
    name: String,
    about: String,
    /// Name, default and text of each key.
    keys: Vec<[String; 3]>,
}

/// Lists the models.
pub fn models(filter: &Filter) -> Result<Outcome> {
    let item = |d: &heterodyne_models::ModelDef| Item {
        name: d.name.to_owned(),
        about: format!("{} px: {}", d.input.img, d.summary),
        keys: rows(d.keys, &(d.defaults)(), |key| key.doc().to_owned()),
    };
    show(
        filter,
        "Models",
        "Options go into `[student.options]` or `[teacher.options]`.",
        heterodyne_models::all().map(item).collect(),
    )
}

/// Lists the methods.
pub fn methods(filter: &Filter) -> Result<Outcome> {
    let item = |d: &&heterodyne_methods::MethodDef| Item {
        name: d.name.to_owned(),
        about: format!("{}. {}.", d.title(), d.source),
        keys: rows(d.keys, &(d.defaults)(), |key| format!("{} {}", key.doc(), key.from.text())),
    };
    let shared = rows(Weight::KEYS, &Weight::defaults(), |key| key.doc().to_owned());
    let intro = format!("Keys go into `[methods.NAME]`. Every method also has these:\n{}", table(&shared));
    let outcome = show(filter, "Methods", &intro, heterodyne_methods::all().iter().map(item).collect())?;
    if filter.name.is_some() {
        say!("every method");
        print_keys(&shared);
    }
    Ok(outcome)
}

/// Lists the tables of a recipe.
pub fn recipe(filter: &Filter) -> Result<Outcome> {
    let augment = [
        Section::of::<Augment>("data.augment"),
        Section::of::<RandAugment>("data.augment.rand_augment"),
        Section::of::<Mix>("data.mix"),
    ];
    let item = |s: Section| Item {
        name: if s.name.is_empty() { "top level".to_owned() } else { format!("[{}]", s.name) },
        // A paragraph is a line.
        about: s.about.trim().split("\n\n").map(|p| p.trim().replace("\n ", " ")).collect::<Vec<_>>().join("\n\n"),
        keys: rows(s.keys, &s.defaults, |key| key.doc().to_owned()),
    };
    show(filter, "Recipe", include_str!("recipe.md"), reference::sections(augment).into_iter().map(item).collect())
}

/// Name, default and text of each key.
fn rows(keys: &[Key], defaults: &toml::Table, text: impl Fn(&Key) -> String) -> Vec<[String; 3]> {
    let default = |key: &Key| match defaults.get(key.name) {
        None => "(not set)".to_owned(),
        Some(toml::Value::String(text)) if text.is_empty() => "(not set)".to_owned(),
        Some(toml::Value::Table(table)) if !table.is_empty() => "(below)".to_owned(),
        Some(toml::Value::Float(number)) => format!("{number:?}"),
        Some(value) => value.to_string(),
    };
    keys.iter().map(|key| [key.name.to_owned(), default(key), text(key)]).collect()
}

fn show(filter: &Filter, title: &str, intro: &str, items: Vec<Item>) -> Result<Outcome> {
    if filter.markdown {
        say_part!("{}", markdown(title, intro, &items));
        return Ok(Outcome::Done);
    }
    let Some(wanted) = &filter.name else {
        items.iter().for_each(|i| say!("{:24} {}", i.name, i.about.lines().next().unwrap_or_default()));
        return Ok(Outcome::Done);
    };
    let exact: Vec<&Item> = items.iter().filter(|i| i.name == *wanted || i.name == format!("[{wanted}]")).collect();
    let chosen =
        if exact.is_empty() { items.iter().filter(|i| i.name.contains(wanted.as_str())).collect() } else { exact };
    if chosen.is_empty() {
        bail!("no name contains `{wanted}`\n  hint: run the command without a name to list them all");
    }
    for item in chosen {
        say!("{}  {}", item.name, item.about);
        print_keys(&item.keys);
    }
    Ok(Outcome::Done)
}

fn print_keys(keys: &[[String; 3]]) {
    keys.iter().for_each(|[name, default, doc]| say!("    {name} = {default}\n        {doc}"));
}

fn markdown(title: &str, intro: &str, items: &[Item]) -> String {
    let name = title.to_lowercase();
    let mut out = format!("# {title}\n\n{intro}\nThis page is the output of `heterodyne {name} --markdown`.\n");
    for item in items {
        out += &format!("\n## `{}`\n\n{}\n", item.name, item.about);
        if !item.keys.is_empty() {
            out += &table(&item.keys);
        }
    }
    out
}

/// A Markdown table of keys.
fn table(keys: &[[String; 3]]) -> String {
    let mut out = "\n| key | default | |\n|---|---|---|\n".to_owned();
    for [key, default, doc] in keys {
        out += &format!("| `{key}` | `{default}` | {} |\n", doc.replace('|', "\\|"));
    }
    out
}
