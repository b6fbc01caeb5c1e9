//! The order of classes: a label is an index into a list of class names.
use std::{collections::HashMap, path::Path, sync::Arc};

use heterodyne_nn::{Error, Result};
use serde_json::Value;

use crate::{Dataset, Image, Splits, Stored, files};

/// Maximum number of names in a message.
const SHOWN: usize = 8;

/// Reads class names from a file: one per line, or JSON. JSON may be a list, `{"name": number}` (torchvision's
/// `class_to_idx`) or `{"number": "name"}`.
///
/// # Errors
/// The file cannot be read, is empty, names a class twice, or its numbers are not 0, 1, 2, ...
pub fn read(path: &Path) -> Result<Vec<String>> {
    let text = files::text(path)?;
    let failed = |message: String| Error::file(path, message);
    let names = if text.trim_start().starts_with(['[', '{']) {
        let json: Value = serde_json::from_str(&text).map_err(|e| failed(format!("is not valid JSON ({e})")))?;
        of_json(&json).ok_or_else(|| {
            failed(
                "is JSON, but neither a list of names nor an object that maps names to the numbers 0, 1, 2, .. or back"
                    .to_owned(),
            )
        })?
    } else {
        text.lines()
            .map(|line| line.trim_end_matches('\r').trim())
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    };
    if names.is_empty() {
        return Err(failed("contains no class names; write one name per line".to_owned()));
    }
    check(&names).map_err(failed)?;
    Ok(names)
}

fn of_json(json: &Value) -> Option<Vec<String>> {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    match json {
        Value::Array(names) => names.iter().map(text).collect(),
        Value::Object(table) => {
            let mut names = vec![None; table.len()];
            for (key, value) in table {
                let (place, name) = match value {
                    Value::Number(number) => (usize::try_from(number.as_u64()?).ok()?, key.clone()),
                    Value::String(name) => (key.parse().ok()?, name.clone()),
                    _ => return None,
                };
                names.get_mut(place)?.replace(name);
            }
            names.into_iter().collect()
        }
        _ => None,
    }
}

/// Rejects a list with duplicate names.
fn check(names: &[String]) -> Result<(), String> {
    let mut seen = HashMap::new();
    for (place, name) in names.iter().enumerate() {
        if let Some(before) = seen.insert(name, place) {
            return Err(format!("lists the class `{name}` twice (as number {before} and number {place})"));
        }
    }
    Ok(())
}

/// Formats up to eight names for a message.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// Reorders the classes of `splits` as in `names`, which may contain more.
///
/// # Errors
/// `names` has duplicates, or lacks a class of the data.
pub(crate) fn order(splits: &mut Splits, names: &[String]) -> Result<()> {
    check(names).map_err(|what| Error::invalid(format!("data.classes {what}")))?;
    let own = splits.classes();
    if own == names {
        return Ok(());
    }
    let places: HashMap<&String, usize> = names.iter().enumerate().map(|(place, name)| (name, place)).collect();
    let unknown: Vec<&String> = own.iter().filter(|name| !places.contains_key(name)).collect();
    if !unknown.is_empty() {
        let unused: Vec<&String> = names.iter().filter(|name| !own.contains(name)).collect();
        let unused =
            if unused.is_empty() { String::new() } else { format!("; data.classes also has {}", list(unused)) };
        return Err(Error::invalid(format!(
            "data.classes names {} classes, but {} of the data's {} are not among them: {}{unused}",
            names.len(),
            unknown.len(),
            own.len(),
            list(unknown)
        )));
    }
    let rows: Arc<[usize]> = own.iter().map(|name| places[name]).collect();
    let classes: Arc<[String]> = names.into();
    for split in [&mut splits.train, &mut splits.val, &mut splits.test] {
        if let Some(inner) = split.take() {
            *split = Some(Arc::new(Ordered { inner, rows: Arc::clone(&rows), classes: Arc::clone(&classes) }));
        }
    }
    Ok(())
}

/// A dataset with renumbered classes.
struct Ordered {
    inner: Arc<dyn Dataset>,
    /// The new number for each old one.
    rows: Arc<[usize]>,
    classes: Arc<[String]>,
}

impl Dataset for Ordered {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.rows[self.inner.label(index)]
    }

    fn image(&self, index: usize) -> Result<Image> {
        self.inner.image(index)
    }

    fn stored(&self, index: usize) -> Stored<'_> {
        self.inner.stored(index)
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

/// A notice if the class names are numbers and text order differs from numeric order.
pub(crate) fn numbered(names: &[String]) -> Option<String> {
    let numbers: Option<Vec<u64>> = names.iter().map(|name| name.parse().ok()).collect();
    let numbers = numbers.filter(|numbers| !numbers.is_sorted())?;
    let first: Vec<String> = names.iter().take(4).cloned().collect();
    Some(format!(
        "the class folders are numbers, but are sorted as text, as in torchvision: {}, .. ({} classes); for another \
         order, list the classes in data.classes",
        first.join(", "),
        numbers.len()
    ))
}
