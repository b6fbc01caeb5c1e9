//! A recipe as layers: base files, the file itself, `--set`. Tables merge key by key, everything else is replaced, and
//! every key remembers where it was written.
use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use heterodyne_settings::{KeyError, nearest};
use toml::Value;

use crate::folder::read_json;

use super::{
    RecipeError, check, home, places,
    schema::Recipe,
    tree::{self, Item, Node, Origin, Table},
    wording::{self, KeyPath},
};

/// Keys that may change when a run continues on another machine: places, and the device.
pub const MOVABLE: [&str; 9] = [
    "data.path",
    "data.labels",
    "data.classes",
    "data.workers",
    "student.weights",
    "teacher.weights",
    "teacher.package",
    "teacher.cache.path",
    "device",
];

/// Maximum number of parts of a key: far more than tables are nested, and far fewer than the stack could take.
const MOST_KEYS: usize = 32;

/// The options table made of texts like `depths=[2,2,2,2]`; the value is TOML, a bare word is text.
pub fn options(texts: &[String]) -> Result<toml::Table, RecipeError> {
    let option = |text: &String| {
        let origin = Origin::File(format!("--option {text}").into(), 0);
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| RecipeError::new(&origin, "no `=` in it").with_hint("write KEY=VALUE"))?;
        Ok((key.trim().to_owned(), tree::parse_value(value, &origin)?.value()))
    };
    texts.iter().map(option).collect()
}

/// The merged layers of a recipe.
///
/// * `base = "other.toml"`, or a list of files, at the top of a file: these files come below that file, the later over
///   the earlier; paths are relative to the file that names them.
/// * `--set a.b=c` comes last, in the order given. The value is TOML; a bare word is text. `--set a.b={}` makes a
///   table, and `--set a.b=` with nothing right of the `=` removes a key or a whole table.
#[derive(Clone, Debug)]
pub struct Layered {
    name: Arc<str>,
    root: Table,
    /// Whether the run may take the file's name.
    names_run: bool,
}

impl Layered {
    /// Reads a recipe file with its bases, or the `plan.json` of a run, and lays `sets` over it.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self, RecipeError> {
        let text = read_text(path).map_err(|e| match nearest_file(path) {
            Some(near) => RecipeError::new(path.display(), e).with_hint(format!("did you mean {}?", near.display())),
            None => RecipeError::new(path.display(), e),
        })?;
        let name = path.display().to_string();
        if !text.trim_start().starts_with('{') {
            return Self::from_str(&name, &text, sets);
        }
        // No recipe in TOML starts like that: this is the stored plan of a run.
        let plan = read_json(path).map_err(|e| RecipeError::new(&name, e.message))?;
        Self::from_json(&name, &plan)?.with(sets)
    }

    /// Lays `sets` over it.
    pub fn with(mut self, sets: &[String]) -> Result<Self, RecipeError> {
        sets.iter().try_for_each(|set| self.set(set))?;
        Ok(self)
    }

    /// Lays `sets` over the plan of a run that continues elsewhere: [`MOVABLE`] keys only.
    pub fn moved(self, sets: &[String]) -> Result<Self, RecipeError> {
        for set in sets {
            let key = set.split('=').next().unwrap_or_default().trim();
            if !MOVABLE.contains(&key) {
                return Err(RecipeError::new(
                    Origin::Set(set.as_str().into()),
                    "a run that continues keeps its settings; only places and the device may change",
                )
                .with_hint(format!("one of {}", MOVABLE.join(", "))));
            }
        }
        self.with(sets)
    }

    /// Reads a recipe from `text`; `name` is the file in error messages and, as a path, what bases are relative to.
    pub fn from_str(name: &str, text: &str, sets: &[String]) -> Result<Self, RecipeError> {
        let path = Path::new(name);
        let root = read_layer(path, text, &mut vec![identity(path)])?;
        Self { name: name.into(), root, names_run: true }.with(sets)
    }

    /// Reads back what [`Layered::to_json`], or a serialised [`Recipe`], has stored; `name` is the file it was stored
    /// in.
    pub fn from_json(name: &str, json: &serde_json::Value) -> Result<Self, RecipeError> {
        let broken = |e: String| RecipeError::new(name, format!("not a stored recipe: {e}"));
        let value: Value =
            serde_json::from_value(places::from_start(json.clone())).map_err(|e| broken(e.to_string()))?;
        let origin = Origin::File(name.into(), 0);
        match tree::grow(value, &origin).item {
            Item::Table(root) => Ok(Self { name: name.into(), root, names_run: false }),
            Item::Leaf(_) => Err(broken("the outermost value is not an object".to_owned())),
        }
    }

    /// The merged keys without their origins, to be stored.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        fn plain(value: Value) -> serde_json::Value {
            match value {
                Value::Table(table) => table.into_iter().map(|(key, value)| (key, plain(value))).collect(),
                Value::Array(items) => items.into_iter().map(plain).collect(),
                Value::String(text) => text.into(),
                Value::Integer(number) => number.into(),
                Value::Float(number) => number.into(),
                Value::Boolean(flag) => flag.into(),
                Value::Datetime(date) => date.to_string().into(),
            }
        }
        plain(Value::Table(tree::plain(&self.root)))
    }

    /// The typed recipe: unknown keys, wrong types, values out of range and contradictions are errors.
    pub fn recipe(&self) -> Result<Recipe, RecipeError> {
        if let Some((path, number)) = check::not_finite(&self.root) {
            return Err(self.at(&KeyPath::of(path), |key| format!("{key} is {number}; a finite number is expected")));
        }
        if let Some(error) = self.unknown_key() {
            return Err(error);
        }
        let mut recipe: Recipe = serde_path_to_error::deserialize(Value::Table(places::looked_up(&self.root)))
            .map_err(|e| {
                let path = KeyPath::from(e.path());
                self.word(path, e.into_inner().message())
            })?;
        home::expand_all(&mut recipe);
        if recipe.name.is_empty() && self.names_run {
            recipe.name =
                Path::new(&*self.name).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        }
        if let Some((table, e, hint)) = check::out_of_range(&recipe) {
            let error = self.explain(table, &e);
            return Err(RecipeError { hint: hint.map(str::to_owned).or(error.hint.clone()), ..error });
        }
        match check::contradiction(&recipe) {
            None => Ok(recipe),
            Some(problem) => {
                let error = self.at(&KeyPath::parse(problem.key), |key| format!("{key} {}", problem.message));
                Err(RecipeError { hint: problem.hint.map(str::to_owned), ..error })
            }
        }
    }

    /// An error about a table that its owner reads (`methods.uhkd`; empty for the recipe itself): adds the key's place
    /// and, if the key or a value is not one of several, the nearest of them.
    #[must_use]
    pub fn explain(&self, table: &str, e: &KeyError) -> RecipeError {
        let path = KeyPath::parse(table).join(&e.key);
        match e.valid() {
            None => {
                let error = self.word(path, &e.message);
                RecipeError { hint: e.hint.clone().or(error.hint), ..error }
            }
            Some(valid) => self.unknown(&path, valid.iter().map(String::as_str)),
        }
    }

    /// The first key of a fixed table that the table does not have.
    fn unknown_key(&self) -> Option<RecipeError> {
        wording::TABLES.iter().find_map(|(path, keys)| {
            let path = KeyPath::parse(path);
            let table = match tree::deepest(&self.root, &path.keys) {
                _ if path.keys.is_empty() => &self.root,
                (depth, Some(Node { item: Item::Table(table), .. })) if depth == path.keys.len() => table,
                _ => return None,
            };
            let key = table.keys().find(|key| keys.iter().all(|known| known.name != key.as_str()))?;
            Some(self.unknown(&path.join(key), keys.iter().map(|key| key.name)))
        })
    }

    fn unknown<'a>(&self, path: &KeyPath, valid: impl IntoIterator<Item = &'a str>) -> RecipeError {
        let hint = wording::hint_for_key(path, &valid.into_iter().collect::<Vec<_>>());
        self.at(path, |key| format!("unknown key {key}")).with_hint(hint)
    }

    /// Where `key` (`a.b.c`), or the nearest table around it, was written.
    #[must_use]
    pub fn place(&self, key: &str) -> String {
        self.origin(&KeyPath::parse(key).keys).map_or_else(|| self.name.to_string(), Origin::to_string)
    }

    fn origin(&self, keys: &[String]) -> Option<&Origin> {
        tree::deepest(&self.root, keys).1.map(|node| &node.origin)
    }

    fn at(&self, path: &KeyPath, message: impl FnOnce(&str) -> String) -> RecipeError {
        let place = self.origin(&path.keys).map_or_else(|| self.name.to_string(), Origin::to_string);
        RecipeError::new(place, message(&format!("`{path}`")))
    }

    fn word(&self, path: KeyPath, message: &str) -> RecipeError {
        let value = match tree::deepest(&self.root, &path.keys) {
            (depth, Some(node)) if depth == path.keys.len() => Some(node.value()),
            _ => None,
        };
        let worded = wording::word(path, value.as_ref(), message);
        let mut error = self.at(&worded.path, |_| worded.message);
        error.hint = worded.hint;
        // For `--set name=5` and `--set teacher=none`, the hint shows what would have worked.
        if let (_, Some(Node { origin: Origin::Set(_), item: Item::Leaf(value) })) =
            tree::deepest(&self.root, &worded.path.keys)
            && error.hint.is_none()
        {
            error.hint = match worded.expected {
                Some(wording::TABLE) => Some(format!(
                    "`--set {path}=` removes the table, `--set {path}={{}}` makes one",
                    path = worded.path
                )),
                Some(wording::TEXT) => Some(format!("quote it: --set '{}=\"{value}\"'", worded.path)),
                _ => None,
            };
        }
        error
    }

    /// Lays one `key=value` over the tree.
    fn set(&mut self, text: &str) -> Result<(), RecipeError> {
        let origin = Origin::Set(text.into());
        let wrong = |message: String| Err(RecipeError::new(&origin, message));
        let Some((key, value)) = text.split_once('=') else {
            return Err(RecipeError::new(&origin, "no `=` in it")
                .with_hint("write --set KEY=VALUE, for example --set optim.lr=0.1"));
        };
        let keys: Vec<String> = key.trim().split('.').map(|part| part.trim().to_owned()).collect();
        if keys.len() > MOST_KEYS {
            return wrong(format!("a key of {} parts; at most {MOST_KEYS} are allowed", keys.len()));
        }
        let bare =
            |part: &String| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let Some((last, parents)) = keys.split_last().filter(|_| keys.iter().all(bare)) else {
            return wrong(format!(
                "`{key}` is not a key; a key is names of letters, digits, - and _ with dots between them"
            ));
        };
        if keys == ["base"] {
            return wrong("`base` belongs into a file; it cannot be set".to_owned());
        }
        let remove = value.trim().is_empty();
        let mut table = &mut self.root;
        for (depth, parent) in parents.iter().enumerate() {
            if remove && !table.contains_key(parent) {
                return wrong(format!("there is no `{}` to remove", keys.join(".")));
            }
            let node = table
                .entry(parent.clone())
                .or_insert_with(|| Node { item: Item::Table(Table::new()), origin: origin.clone() });
            match &mut node.item {
                Item::Table(inner) => table = inner,
                Item::Leaf(value) => {
                    let parent = keys[..=depth].join(".");
                    return wrong(format!("`{parent}` is {}, not a table ({})", wording::found(value), node.origin));
                }
            }
        }
        if remove {
            if table.shift_remove(last).is_some() {
                return Ok(());
            }
            let near = nearest(last, table.keys().map(String::as_str));
            let error = RecipeError::new(&origin, format!("there is no `{}` to remove", keys.join(".")));
            return Err(RecipeError {
                hint: near.map(|near| format!("did you mean `{}`?", [parents, &[near.to_owned()]].concat().join("."))),
                ..error
            });
        }
        tree::merge(table, Table::from([(last.clone(), tree::parse_value(value, &origin)?)]));
        Ok(())
    }
}

/// One file over its bases; `chain` are the files that led here, by identity.
fn read_layer(path: &Path, text: &str, chain: &mut Vec<PathBuf>) -> Result<Table, RecipeError> {
    let name: Arc<str> = path.display().to_string().into();
    let mut own = tree::parse(&name, text)?;
    let mut merged = Table::new();
    if let Some(Node { item, origin }) = own.shift_remove("base") {
        for base in base_names(&item).map_err(|message| RecipeError::new(&origin, message))? {
            let file = tidy(&path.parent().unwrap_or(Path::new("")).join(home::expand(Path::new(base))));
            let wrong = |message: String| RecipeError::new(&origin, message);
            let text = read_text(&file).map_err(|e| {
                let error = wrong(format!("base {} {e}", file.display()));
                match nearest_file(&file) {
                    Some(near) => error.with_hint(format!(
                        "did you mean {}? A base is relative to the file that names it",
                        near.display()
                    )),
                    None => error.with_hint("a base is relative to the file that names it"),
                }
            })?;
            let id = identity(&file);
            if let Some(start) = chain.iter().position(|seen| *seen == id) {
                let names = chain[start..]
                    .iter()
                    .chain([&id])
                    .map(|p| p.file_name().unwrap_or(p.as_os_str()).to_string_lossy());
                return Err(wrong(format!("the bases form a cycle: {}", names.collect::<Vec<_>>().join(" -> "))));
            }
            chain.push(id);
            let layer = read_layer(&file, &text, chain)?;
            chain.pop();
            tree::merge(&mut merged, layer);
        }
    }
    tree::merge(&mut merged, own);
    Ok(merged)
}

fn base_names(item: &Item) -> Result<Vec<&str>, String> {
    let wrong = |found: String| format!("`base` is {found}; a file name in quotes or a list of them is expected");
    match item {
        Item::Leaf(Value::String(name)) => Ok(vec![name]),
        Item::Leaf(Value::Array(names)) => names
            .iter()
            .map(|name| name.as_str().ok_or_else(|| wrong(format!("a list with {} in it", wording::found(name)))))
            .collect(),
        Item::Leaf(other) => Err(wrong(wording::found(other))),
        Item::Table(_) => Err(wrong("a table".to_owned())),
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("cannot be read: {}", plain_reason(&e)))?;
    String::from_utf8(bytes).map_err(|_| "is not text in UTF-8".to_owned())
}

/// The system's reason, without the error number.
fn plain_reason(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(reason, _)| reason).to_owned()
}

/// The TOML file of the same folder whose name is nearest.
fn nearest_file(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let names: Vec<String> = std::fs::read_dir(folder.unwrap_or(Path::new(".")))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    let wanted = path.file_name()?.to_str()?;
    let near = nearest(wanted, names.iter().map(String::as_str))?;
    (near != wanted).then(|| path.with_file_name(near))
}

/// Identifies a file, whatever path leads to it.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// `a/b/../c` as `a/c`, where `a/b` is a real folder and not a link.
fn tidy(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        let folds = part == Component::ParentDir
            && matches!(out.components().next_back(), Some(Component::Normal(_)))
            && out.symlink_metadata().is_ok_and(|m| m.is_dir());
        if folds {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}
