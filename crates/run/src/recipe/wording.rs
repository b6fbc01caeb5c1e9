//! Turns serde's messages into the recipe's terms, with the nearest valid name.
use std::fmt;

use heterodyne_settings::{Key, Settings, nearest};
use serde_path_to_error::{Path, Segment};
use toml::Value;

use super::{
    error::shortened,
    schema::{CacheTable, Data, Distributed, Loss, NetworkTable, Optim, Recipe, Schedule, Train},
};

/// A path to a value: keys, followed by what no key can address (`[2]`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath {
    /// The keys from the outermost table inwards.
    pub keys: Vec<String>,
    /// Indices, and keys inside lists.
    pub rest: String,
}

impl KeyPath {
    /// A path of keys alone.
    pub fn of(keys: Vec<String>) -> Self {
        Self { keys, rest: String::new() }
    }

    /// Reads `a.b[2].c`.
    pub fn parse(text: &str) -> Self {
        let (keys, rest) = text.split_at(text.find('[').unwrap_or(text.len()));
        Self {
            keys: keys.split('.').filter(|k| !k.is_empty() && *k != "?").map(str::to_owned).collect(),
            rest: rest.to_owned(),
        }
    }

    /// `inner`, as [`KeyPath::parse`] reads it, below this path.
    pub fn join(mut self, inner: &str) -> Self {
        let inner = Self::parse(inner);
        self.keys.extend(inner.keys);
        self.rest.push_str(&inner.rest);
        self
    }

    fn parent(&self) -> String {
        self.keys[..self.keys.len().saturating_sub(1)].join(".")
    }
}

impl From<&Path> for KeyPath {
    fn from(path: &Path) -> Self {
        let mut out = Self::default();
        for segment in path {
            match segment {
                Segment::Map { key } | Segment::Enum { variant: key } if out.rest.is_empty() => {
                    out.keys.push(key.clone())
                }
                Segment::Map { key } | Segment::Enum { variant: key } => out.rest.push_str(&format!(".{key}")),
                Segment::Seq { index } => out.rest.push_str(&format!("[{index}]")),
                Segment::Unknown => {}
            }
        }
        out
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.keys.join("."), self.rest)
    }
}

/// An error in the recipe's terms.
pub struct Worded {
    /// What it is about.
    pub path: KeyPath,
    pub message: String,
    pub hint: Option<String>,
    /// The expected type, if the type is wrong.
    pub expected: Option<&'static str>,
}

/// What a table is called.
pub const TABLE: &str = "a table";
/// What a string is called.
pub const TEXT: &str = "text";

/// Serde's names of types, and ours.
const TYPES: [(&str, &str); 15] = [
    ("f64", "a number"),
    ("f32", "a number"),
    ("u8", "a whole number from 0 to 255"),
    ("u16", "a whole number from 0 to 65535"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u64", "a whole number of at least 0"),
    ("usize", "a whole number of at least 0"),
    ("i32", "a whole number"),
    ("i64", "a whole number"),
    ("a boolean", "true or false"),
    ("a string", TEXT),
    ("string only", TEXT),
    ("path string", TEXT),
    ("a sequence", "a list"),
    ("a map", TABLE),
];

/// Turns serde's `message` about `path` into the recipe's terms; `value` is the value there. Other messages stay
/// unchanged.
pub fn word(path: KeyPath, value: Option<&Value>, message: &str) -> Worded {
    let quoted = backticked(message);
    if let Some(name) = message.strip_prefix("unknown variant `").and_then(|_| quoted.first().copied()) {
        let hint = hint_for_name(name, &quoted[1..]);
        return Worded { message: format!("`{path}` cannot be `{name}`"), path, hint, expected: None };
    }
    for kind in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((found, expected)) = message.strip_prefix(kind).and_then(|rest| rest.split_once(", expected ")) {
            let found = match value {
                _ if kind == "invalid length " => format!("a list of {found}"),
                Some(value) if path.rest.is_empty() => self::found(value),
                _ => unexpected(found),
            };
            let known = TYPES.iter().find(|(serde, _)| *serde == expected).map(|(_, ours)| *ours);
            let known = known.or_else(|| expected.starts_with("struct ").then_some(TABLE));
            let expected = known.map_or_else(|| expected.replace("an array of length ", "a list of "), str::to_owned);
            return Worded {
                message: format!("`{path}` is {found}; {expected} is expected"),
                path,
                hint: None,
                expected: known,
            };
        }
    }
    // An owner's own sentence, perhaps with a list of valid names.
    let hint = message
        .split_once("expected ")
        .and_then(|(before, after)| hint_for_name(backticked(before).last()?, &backticked(after)));
    let message = if path == KeyPath::default() { message.to_owned() } else { format!("`{path}`: {message}") };
    Worded { path, message, hint, expected: None }
}

/// Serde's term for what it found, in ours.
fn unexpected(found: &str) -> String {
    let plain = found.replace('`', "");
    match plain.as_str() {
        "map" => TABLE.to_owned(),
        "sequence" => "a list".to_owned(),
        other => match other.split_once(' ') {
            Some(("floating", number)) => format!("the number {}", number.trim_start_matches("point ")),
            Some(("integer", number)) => format!("the number {number}"),
            Some(("string", text)) => format!("the text {text}"),
            Some(("boolean", flag)) => flag.to_owned(),
            _ => plain,
        },
    }
}

/// A value in the same terms.
pub fn found(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text {:?}", shortened(text)),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(date) => format!("the date {date}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => TABLE.to_owned(),
    }
}

/// The parts of `text` between backticks.
fn backticked(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Renamed keys: old name, new name.
const RENAMED: [(&str, &str); 3] =
    [("train.clip", "train.clip_grad"), ("train.ema", "train.ema_decay"), ("data.validation", "data.holdout")];

/// Words of other tools whose key takes another kind of value: an example of it.
const EXAMPLES: [(&str, &str); 1] = [("pretrained", "weights = \"hf-hub:timm/resnet18.a1_in1k\"")];

/// Every fixed table with its keys, the recipe itself first.
pub const TABLES: [(&str, &[Key]); 10] = [
    ("", Recipe::KEYS),
    ("data", Data::KEYS),
    ("student", NetworkTable::KEYS),
    ("teacher", NetworkTable::KEYS),
    ("teacher.cache", CacheTable::KEYS),
    ("train", Train::KEYS),
    ("optim", Optim::KEYS),
    ("schedule", Schedule::KEYS),
    ("loss", Loss::KEYS),
    ("distributed", Distributed::KEYS),
];

/// The key called `name` in another table than `parent`: `epochs` at the top, `batch` in [data] and `seed` in [train]
/// belong elsewhere.
fn key_elsewhere(name: &str, parent: &str) -> Option<String> {
    let known = |keys: &[Key]| keys.iter().any(|key| key.name == name);
    let (table, _) = TABLES.iter().find(|(table, keys)| *table != parent && known(keys))?;
    Some(if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") })
}

/// The key of a recipe that a word such as `lr`, `batch_size` or `epochs` means, if there is one; a table is none.
pub fn key_for(word: &str) -> Option<String> {
    let word = word.replace('-', "_");
    let is_table = |name: &str| TABLES.iter().any(|(table, _)| *table == name);
    let all = TABLES.iter().flat_map(|(_, keys)| keys.iter().map(|key| key.name)).filter(|name| !is_table(name));
    key_elsewhere(&word, "*").filter(|key| !is_table(key)).or_else(|| key_elsewhere(nearest(&word, all)?, "*"))
}

/// The hint for a key that is not one of `valid`.
pub fn hint_for_key(path: &KeyPath, valid: &[&str]) -> String {
    let (parent, name) = (path.parent(), path.keys.last().map_or("", String::as_str));
    let prefix = if parent.is_empty() { String::new() } else { format!("{parent}.") };
    let owner = if parent.is_empty() { "A recipe".to_owned() } else { format!("[{parent}]") };
    if valid.is_empty() {
        return format!("{owner} takes no keys");
    }
    let list = valid.join(", ");
    let key = path.to_string();
    if let Some((old, new)) = RENAMED.iter().find(|(old, _)| *old == key) {
        return format!("`{old}` is now `{new}`");
    }
    // A method's or an augmentation's own key is not looked for in other tables.
    let plain = path.keys.len() <= 2;
    let elsewhere = || key_elsewhere(name, &parent).filter(|_| plain);
    let own = || nearest(name, valid.iter().copied()).map(|near| format!("{prefix}{near}"));
    match elsewhere().or_else(own).or_else(|| key_for(name).filter(|_| plain)) {
        Some(key) => {
            let example = EXAMPLES.iter().find(|(word, _)| *word == name);
            let example = example.map_or_else(String::new, |(_, example)| format!(" For example `{example}`."));
            format!("did you mean `{key}`?{example} {owner} takes {list}")
        }
        None => format!("{owner} takes {list}"),
    }
}

fn hint_for_name(name: &str, valid: &[&str]) -> Option<String> {
    if valid.is_empty() {
        return None;
    }
    let list = valid.join(", ");
    Some(match nearest(name, valid.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? Valid are {list}"),
        None => format!("Valid are {list}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_finds_its_key() {
        for (word, key) in
            [("lr", "optim.lr"), ("batch-size", "train.batch"), ("seed", "seed"), ("wd", "optim.weight_decay")]
        {
            assert_eq!(key_for(word).as_deref(), Some(key));
        }
        assert_eq!((key_for("data"), key_for("qqq")), (None, None));
    }

    #[test]
    fn every_table_of_a_recipe_is_known() {
        let tables = Recipe::defaults().into_iter().filter(|(_, value)| value.is_table()).map(|(name, _)| name);
        for name in tables.filter(|name| name != "methods") {
            assert!(TABLES.iter().any(|(table, _)| *table == name), "{name}");
        }
    }
}
