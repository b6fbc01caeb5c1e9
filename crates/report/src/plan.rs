//! Resolved plans: which runs may be pooled, and which may be compared.
use std::path::PathBuf;

use heterodyne_run::recipe::filled;
use indexmap::{IndexMap, IndexSet};
use serde_json::Value;

use crate::{Group, Result, Run};

/// Keys that do not change what a run computes, or that its rows average over.
const FREE: [&str; 10] = [
    "seed",
    "name",
    "device",
    "data.path",
    "data.workers",
    "teacher.cache.path",
    "train.checkpoint_every",
    "train.checkpoint_minutes",
    "train.checkpoints",
    "train.keep_checkpoints",
];
/// How many differing keys a row's name has.
const SHOWN: usize = 3;
/// How many characters of a value.
const WIDTH: usize = 40;

/// A plan as dotted keys and their values.
pub type Keys = IndexMap<String, String>;

/// Flattens a plan to dotted keys, in order; empty tables are omitted.
pub fn flatten(value: &Value) -> Keys {
    fn walk(path: &str, value: &Value, out: &mut Keys) {
        match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, inner, out);
                }
            }
            leaf => {
                out.insert(path.to_owned(), leaf.to_string());
            }
        }
    }
    let mut out = IndexMap::new();
    walk("", value, &mut out);
    out
}

/// What two runs must have in common to form one row.
fn pooled(plan: &Value) -> Keys {
    let mut keys = flatten(&filled(plan));
    keys.retain(|key, _| !FREE.contains(&key.as_str()));
    keys
}

/// Whether the difference of two runs' accuracies is that of their training: same student (its weights
/// at the start included), same data, same epochs.
pub fn comparable(a: &Run, b: &Run) -> bool {
    let same = |run: &Run| {
        let mut keys = pooled(&run.plan);
        keys.retain(|key, _| key == "train.epochs" || ["student.", "data."].iter().any(|table| key.starts_with(table)));
        keys
    };
    same(a) == same(b)
}

/// Whether two runs differ in nothing but their methods and whether they have a teacher.
pub fn alike(a: &Run, b: &Run) -> bool {
    let taught = [a, b].iter().all(|run| run.summary.teacher.is_some());
    let same = |run: &Run| {
        let mut keys = pooled(&run.plan);
        keys.retain(|key, _| !key.starts_with("methods.") && (taught || !key.starts_with("teacher.")));
        keys
    };
    same(a) == same(b)
}

/// The settings in which two plans differ, one line each; names, places and the seed do not count.
#[must_use]
pub fn changes(then: &Value, now: &Value) -> Vec<String> {
    let (then, now) = (pooled(then), pooled(now));
    let keys: IndexSet<&String> = then.keys().chain(now.keys()).collect();
    let value = |of: &Keys, key: &String| of.get(key).map_or_else(|| "not set".to_owned(), |value| tail(value));
    let differ = keys.into_iter().filter(|key| then.get(*key) != now.get(*key));
    differ.map(|key| format!("`{key}` was {} and is {}", value(&then, key), value(&now, key))).collect()
}

/// Forms rows from run folders: runs whose plans are equal apart from the seed. Rows of one name get the keys in which
/// they differ.
///
/// # Errors
/// A run folder cannot be read.
pub fn groups(paths: &[PathBuf]) -> Result<Vec<Group>> {
    let mut rows: Vec<(String, Keys, Vec<PathBuf>)> = Vec::new();
    for path in paths {
        let run = Run::load(path)?;
        let (name, keys) = (run.summary.name.clone(), pooled(&run.plan));
        match rows.iter_mut().find(|(known, others, _)| *known == name && *others == keys) {
            Some((.., runs)) => runs.push(path.clone()),
            None => rows.push((name, keys, vec![path.clone()])),
        }
    }
    let named = |row: &(String, Keys, Vec<PathBuf>)| {
        let (name, keys, runs) = row;
        let others: Vec<&Keys> = rows.iter().filter(|other| other.0 == *name).map(|other| &other.1).collect();
        Group::new(format!("{name}{}", differences(keys, &others)), runs.clone())
    };
    Ok(rows.iter().map(named).collect())
}

/// ` (train.epochs = 5)`: the keys of a row that others of its name have otherwise; nothing for a single row.
fn differences(own: &Keys, all: &[&Keys]) -> String {
    let names: IndexSet<&String> = all.iter().flat_map(|keys| keys.keys()).collect();
    let differ = names.into_iter().filter(|key| all.iter().any(|keys| keys.get(*key) != own.get(*key)));
    let value = |key: &String| own.get(key).map_or_else(|| "not set".to_owned(), |value| tail(value.trim_matches('"')));
    let shown: Vec<String> = differ.map(|key| format!("{key} = {}", value(key))).collect();
    match shown.len() {
        0 => String::new(),
        n if n > SHOWN => format!(" ({}, and {} more)", shown[..SHOWN].join(", "), n - SHOWN),
        _ => format!(" ({})", shown.join(", ")),
    }
}

/// The last characters of a long value: paths differ at their end.
fn tail(value: &str) -> String {
    match value.chars().count() {
        0..=WIDTH => value.to_owned(),
        count => format!("…{}", value.chars().skip(count + 1 - WIDTH).collect::<String>()),
    }
}
