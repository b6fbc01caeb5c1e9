//! What a checkpoint was made with: recipe, teacher, classes and images. An exact resume needs the same.
//!
//! Of images in memory all pixels are hashed; of image files the names, sizes and times of change, which costs one look
//! at each file where reading them would cost a pass over the data; of anything else the classes, and the pixels of
//! some images.
use std::time::UNIX_EPOCH;

use heterodyne_data::{Dataset, Splits, Stored};
use heterodyne_run::recipe::Recipe;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Error, Result, cache::key::hex};

/// Images of a split that are decoded where they lie neither in memory nor in files of their own.
const SAMPLED: usize = 64;
/// Changes that are named, of each kind.
const NAMED: usize = 5;

/// Keys of the recipe that say where something is, or how it is shown or fetched; what lies there is compared itself.
const PLACES: [&str; 13] = [
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
];

/// Everything that the weights of a run depend on, in hashes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    recipe: Value,
    /// Hash of the teacher's weights, or of its package.
    teacher: Option<String>,
    classes: Vec<String>,
    train: Split,
    /// Of a dataset that has images to choose on, apart from those to report on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    val: Option<Split>,
    test: Split,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Split {
    /// Hash of the classes of all images in order.
    order: String,
    /// In the order of the class names.
    classes: Vec<Class>,
}

/// The images of one class: their number, the hash of what they are, the hash of the times of change of their files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Class(u64, String, String);

impl Origin {
    /// Looks at everything; the recipe is that of the session, with all its values in force.
    pub fn of(recipe: &Recipe, teacher: Option<String>, splits: &Splits) -> Result<Self> {
        let mut recipe = serde_json::to_value(recipe).map_err(|e| Error::State(e.to_string()))?;
        for key in PLACES {
            let pointer = format!("/{}", key.replace('.', "/"));
            let (table, name) = pointer.rsplit_once('/').unwrap_or_default();
            if let Some(table) = recipe.pointer_mut(table).and_then(Value::as_object_mut) {
                table.remove(name);
            }
        }
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

    /// What is different `now`, a line for each; empty where nothing is.
    #[must_use]
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        keys("", &self.recipe, &now.recipe, &mut lines);
        if self.teacher != now.teacher {
            lines.push("the teacher's weights are others".to_owned());
        }
        let renamed = self.classes.iter().zip(&now.classes).filter(|(then, now)| then != now);
        let renamed: Vec<String> = renamed.map(|(then, now)| format!("class `{then}` is now `{now}`")).collect();
        lines.extend(few(renamed, "classes"));
        if self.classes.len() != now.classes.len() {
            lines.push(format!("there were {} classes and are {}", self.classes.len(), now.classes.len()));
        }
        // Where the class is part of a file's name, the names of a renamed class are others; that is one change, not
        // two.
        let names: Vec<(&str, bool)> =
            self.classes.iter().zip(&now.classes).map(|(then, now)| (then.as_str(), then == now)).collect();
        for (split, then, now) in [("training", &self.train, &now.train), ("test", &self.test, &now.test)] {
            lines.extend(then.changes(now, split, &names));
        }
        match (&self.val, &now.val) {
            (Some(then), Some(now)) => lines.extend(then.changes(now, "validation", &names)),
            (None, None) => {}
            (then, _) => {
                lines.push(format!("the data {} a validation split", if then.is_some() { "had" } else { "has" }))
            }
        }
        lines
    }
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

    /// `names` are the classes', and whether each is still its name.
    fn changes(&self, now: &Self, split: &str, names: &[(&str, bool)]) -> Vec<String> {
        let mut lines = Vec::new();
        for ((then, now), (name, same_name)) in self.classes.iter().zip(&now.classes).zip(names) {
            if then.0 != now.0 {
                lines.push(format!("{split} images of class `{name}`: {} then, {} now", then.0, now.0));
            } else if then.1 != now.1 && *same_name {
                lines.push(format!("{split} images of class `{name}`: some were replaced"));
            } else if then.1 == now.1 && then.2 != now.2 {
                lines.push(format!(
                    "{split} images of class `{name}`: files of the same names and sizes have other times of change \
                     (copied, or replaced)"
                ));
            }
        }
        if lines.is_empty() && self.order != now.order {
            lines.push(format!("the {split} images come in another order"));
        }
        few(lines, "classes")
    }
}

/// The first of `lines`, and how many more there are.
fn few(mut lines: Vec<String>, what: &str) -> Vec<String> {
    if lines.len() > NAMED {
        let more = lines.len() - NAMED;
        lines.truncate(NAMED);
        lines.push(format!("and so for {more} more {what}"));
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
