//! The origin of a checkpoint: recipe, teacher, classes and images. An exact resume needs the same origin.
//!
//! For images in memory, all pixels are hashed. For image files, the names, sizes and modification times are hashed,
//! which avoids a pass over the data. For other sources, the classes and the pixels of some images are hashed.
use std::time::UNIX_EPOCH;

use heterodyne_data::{Dataset, Splits, Stored};
use heterodyne_run::recipe::{Recipe, filled, without};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Error, Result, cache::key::hex};

/// Number of images per split that are decoded if they are neither in memory nor in separate files.
const SAMPLED: usize = 64;
/// Number of changes that are listed of each kind.
const NAMED: usize = 5;

/// Recipe keys that are not compared: names, locations, ways of loading and checkpoints. The contents themselves are
/// compared.
const PLACES: [&str; 19] = [
    "name",
    "data.path",
    "data.classes",
    "data.labels",
    "data.empty_classes",
    "data.one_class",
    "data.max_pixels",
    "data.workers",
    "data.audit",
    "teacher.weights",
    "teacher.package",
    "student.weights",
    "teacher.cache.path",
    "device",
    "train.checkpoint_every",
    "train.checkpoint_minutes",
    "train.checkpoints",
    "train.keep_checkpoints",
    "distributed.timeout",
];

/// Hashes of everything that a run's weights depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    recipe: Value,
    /// Hash of the teacher's weights, or of its package.
    teacher: Option<String>,
    classes: Vec<String>,
    train: Split,
    /// The validation split, if the dataset has one besides the test split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    val: Option<Split>,
    test: Split,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Split {
    /// Hash of the classes of all images in order.
    order: String,
    /// One entry per class, in the order of the class names.
    classes: Vec<Class>,
}

/// The images of one class: their number, the hash of their contents, the hash of their files' modification times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Class(u64, String, String);

impl Origin {
    /// Computes all hashes; `recipe` is the session's, with all values in effect.
    pub fn of(recipe: &Recipe, teacher: Option<String>, splits: &Splits) -> Result<Self> {
        let recipe = compared(recipe)?;
        let (train, test) = (splits.train()?, splits.reported()?);
        let val = splits.chosen_on().map(|val| Split::of(&**val)).transpose()?;
        Ok(Self {
            recipe,
            teacher,
            classes: train.classes().to_vec(),
            train: Split::of(&**train)?,
            val,
            test: Split::of(&**test)?,
        })
    }

    /// The same without the times at which files were changed, which differ between copies.
    #[must_use]
    pub fn timeless(mut self) -> Self {
        for split in [Some(&mut self.train), self.val.as_mut(), Some(&mut self.test)].into_iter().flatten() {
            split.classes.iter_mut().for_each(|class| class.2.clear());
        }
        self
    }

    /// The differences to `now`, one line each; empty if there are none.
    #[must_use]
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        // A key of a later version counts as its default.
        let whole = |recipe: &Value| without(filled(recipe), &PLACES);
        keys("", &whole(&self.recipe), &whole(&now.recipe), &mut lines);
        lines.extend(self.teacher_changes(now));
        lines.extend(self.image_changes(now));
        lines
    }

    /// The same for the teacher's weights alone.
    #[must_use]
    pub fn teacher_changes(&self, now: &Self) -> Option<String> {
        (self.teacher != now.teacher).then(|| "the teacher's weights have changed".to_owned())
    }

    /// The same for the classes and images alone.
    #[must_use]
    pub fn image_changes(&self, now: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let renamed = self.classes.iter().zip(&now.classes).filter(|(then, now)| then != now);
        let renamed: Vec<String> = renamed.map(|(then, now)| format!("class `{then}` is now `{now}`")).collect();
        lines.extend(few(renamed, "classes"));
        if self.classes.len() != now.classes.len() {
            lines.push(format!("the number of classes was {} and is {}", self.classes.len(), now.classes.len()));
        }
        // If the class is part of the file names, renaming it changes them too; that is one change, not two.
        let names: Vec<(&str, bool)> =
            self.classes.iter().zip(&now.classes).map(|(then, now)| (then.as_str(), then == now)).collect();
        for (split, then, now) in [("training", &self.train, &now.train), ("test", &self.test, &now.test)] {
            lines.extend(then.changes(now, split, &names));
        }
        match (&self.val, &now.val) {
            (Some(then), Some(now)) => lines.extend(then.changes(now, "validation", &names)),
            (None, None) => {}
            (then, _) => {
                lines.push(format!("the data {} a validation split", if then.is_some() { "had" } else { "now has" }))
            }
        }
        lines
    }
}

/// A recipe's keys that are compared.
fn compared(recipe: &Recipe) -> Result<Value> {
    let recipe = serde_json::to_value(recipe).map_err(|e| Error::State(e.to_string()))?;
    Ok(without(recipe, &PLACES))
}

impl Split {
    fn of(dataset: &dyn Dataset) -> Result<Self> {
        let mut order = Sha256::new();
        let mut classes: Vec<(u64, Sha256, Sha256)> = dataset.classes().iter().map(|_| Default::default()).collect();
        let sampled = dataset.len().div_ceil(SAMPLED).max(1);
        for index in 0..dataset.len() {
            let label = dataset.label(index);
            order.update((label as u64).to_le_bytes());
            let Some((count, content, times)) = classes.get_mut(label) else { continue };
            *count += 1;
            match dataset.stored(index) {
                Stored::Memory(pixels) => content.update(pixels),
                Stored::File(path, name) => {
                    let about = std::fs::metadata(path).map_err(|e| heterodyne_nn::Error::file(path, e))?;
                    let name = name.as_os_str().as_encoded_bytes();
                    content.update((name.len() as u64).to_le_bytes());
                    content.update(name);
                    content.update(about.len().to_le_bytes());
                    let changed = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                    times.update(changed.map_or(0, |time| time.as_nanos()).to_le_bytes());
                }
                Stored::Elsewhere if index.is_multiple_of(sampled) => {
                    let image = dataset.image(index)?;
                    content.update(image.width.to_le_bytes());
                    content.update(&image.rgb);
                }
                Stored::Elsewhere => {}
            }
        }
        let short = |hash: Sha256| hex(&hash.finalize()[..8]);
        let classes =
            classes.into_iter().map(|(count, content, times)| Class(count, short(content), short(times))).collect();
        Ok(Self { order: short(order), classes })
    }

    /// `names` are the class names, each with whether it is unchanged.
    fn changes(&self, now: &Self, split: &str, names: &[(&str, bool)]) -> Vec<String> {
        let mut lines = Vec::new();
        for ((then, now), (name, same_name)) in self.classes.iter().zip(&now.classes).zip(names) {
            if then.0 != now.0 {
                lines.push(format!("{split} images of class `{name}`: {} then, {} now", then.0, now.0));
            } else if then.1 != now.1 && *same_name {
                lines.push(format!("{split} images of class `{name}`: some were replaced"));
            } else if then.1 == now.1 && then.2 != now.2 {
                lines.push(format!(
                    "{split} images of class `{name}`: file names and sizes match, but modification times differ \
                     (copied or replaced)"
                ));
            }
        }
        if lines.is_empty() && self.order != now.order {
            lines.push(format!("the order of the {split} images has changed"));
        }
        few(lines, "classes")
    }
}

/// The first of `lines`, and the number of further ones.
fn few(mut lines: Vec<String>, what: &str) -> Vec<String> {
    if lines.len() > NAMED {
        let more = lines.len() - NAMED;
        lines.truncate(NAMED);
        lines.push(format!("and {more} more {what}"));
    }
    lines
}

/// The keys below `path` whose values differ.
fn keys(path: &str, then: &Value, now: &Value, lines: &mut Vec<String>) {
    let (Value::Object(a), Value::Object(b)) = (then, now) else {
        if then != now {
            lines.push(format!("`{path}` was {then} and is {now}"));
        }
        return;
    };
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, then) in a {
        keys(&below(key), then, b.get(key).unwrap_or(&Value::Null), lines);
    }
    for (key, now) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
        keys(&below(key), &Value::Null, now, lines);
    }
}
