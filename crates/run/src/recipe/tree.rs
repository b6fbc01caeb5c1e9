//! TOML as a tree in which every key records where it was written.
use std::{fmt, sync::Arc};

use indexmap::IndexMap;
use serde::Deserialize;
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::{RecipeError, shortened};

/// Where a key was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file; 0 means the file as a whole.
    File(Arc<str>, usize),
    /// A `--set` argument, verbatim.
    Set(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name, 0) => f.write_str(name),
            Self::File(name, line) => write!(f, "{name}:{line}"),
            Self::Set(text) => write!(f, "--set {}", shortened(text)),
        }
    }
}

/// A key's value and its origin.
#[derive(Clone, Debug)]
pub struct Node {
    pub item: Item,
    pub origin: Origin,
}

/// A table, which is merged key by key, or a leaf, which is replaced as a whole.
#[derive(Clone, Debug)]
pub enum Item {
    Table(Table),
    Leaf(Value),
}

/// Keys, in the order in which they first appeared.
pub type Table = IndexMap<String, Node>;

impl Node {
    /// The plain value under this node.
    pub fn value(&self) -> Value {
        match &self.item {
            Item::Table(table) => Value::Table(plain(table)),
            Item::Leaf(value) => value.clone(),
        }
    }
}

/// A table without its origins.
pub fn plain(table: &Table) -> toml::Table {
    table.iter().map(|(key, node)| (key.clone(), node.value())).collect()
}

/// A plain value as a tree whose keys all come from `origin`.
pub fn grow(value: Value, origin: &Origin) -> Node {
    let item = match value {
        Value::Table(table) => Item::Table(table.into_iter().map(|(key, value)| (key, grow(value, origin))).collect()),
        leaf => Item::Leaf(leaf),
    };
    Node { item, origin: origin.clone() }
}

/// Parses a TOML document; `name` identifies it in error messages.
pub fn parse(name: &Arc<str>, text: &str) -> Result<Table, RecipeError> {
    let fail = |e: toml::de::Error| {
        let place = match e.span() {
            Some(span) => {
                let (line, column) = position(text, span.start);
                format!("{name}:{line}:{column}")
            }
            None => name.to_string(),
        };
        // The parser's message does not name the duplicate key.
        let key = e.span().filter(|_| e.message() == "duplicate key").and_then(|span| text.get(span));
        let key = key.map_or_else(String::new, |key| format!(" `{key}`"));
        RecipeError::new(place, format!("not valid TOML: {}{key}", e.message()))
    };
    let document = DeTable::parse(text).map_err(fail)?;
    convert_table(document.into_inner(), &|offset| Origin::File(name.clone(), position(text, offset).0)).map_err(fail)
}

fn convert_table(table: DeTable<'_>, origin: &dyn Fn(usize) -> Origin) -> Result<Table, toml::de::Error> {
    table
        .into_iter()
        .map(|(key, value)| {
            let origin_of_key = origin(key.span().start);
            Ok((key.into_inner().into_owned(), Node { item: convert(value, origin)?, origin: origin_of_key }))
        })
        .collect()
}

fn convert(value: Spanned<DeValue<'_>>, origin: &dyn Fn(usize) -> Origin) -> Result<Item, toml::de::Error> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Ok(Item::Table(convert_table(table, origin)?)),
        leaf => Value::deserialize(ValueDeserializer::from(Spanned::new(span, leaf))).map(Item::Leaf),
    }
}

/// Parses the text after the `=` of a `--set`: a TOML value, or otherwise a bare word, which is a string.
pub fn parse_value(text: &str, origin: &Origin) -> Result<Node, RecipeError> {
    let text = text.trim();
    let item = DeValue::parse(text).and_then(|value| convert(value, &|_| origin.clone()));
    let item = match item {
        // A recipe has no dates; `--set name=2026-01-31` means the string.
        Ok(Item::Leaf(Value::Datetime(_))) => Item::Leaf(Value::String(text.to_owned())),
        Ok(item) => item,
        Err(e) if text.starts_with(['[', '{', '"', '\'']) => {
            return Err(RecipeError::new(origin, format!("the value is not valid TOML: {}", e.message())));
        }
        Err(_) => Item::Leaf(Value::String(text.to_owned())),
    };
    Ok(Node { item, origin: origin.clone() })
}

/// Merges `upper` into `lower`: tables key by key, anything else is replaced. The origin of a table that both define is
/// that in `upper`.
pub fn merge(lower: &mut Table, upper: Table) {
    for (key, node) in upper {
        match (lower.get_mut(&key), node) {
            (Some(Node { item: Item::Table(below), origin: place }), Node { item: Item::Table(above), origin }) => {
                merge(below, above);
                *place = origin;
            }
            (Some(below), node) => *below = node,
            (None, node) => {
                lower.insert(key, node);
            }
        }
    }
}

/// The deepest node that exists on the way to `path`, with the number of keys walked.
pub fn deepest<'t>(root: &'t Table, path: &[String]) -> (usize, Option<&'t Node>) {
    let (mut table, mut found) = (Some(root), (0, None));
    for (depth, key) in path.iter().enumerate() {
        let Some(node) = table.and_then(|t| t.get(key)) else { break };
        found = (depth + 1, Some(node));
        table = match &node.item {
            Item::Table(inner) => Some(inner),
            Item::Leaf(_) => None,
        };
    }
    found
}

/// Line and column, from 1; columns count characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}
