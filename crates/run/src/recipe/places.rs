//! Looks up the relative paths of a recipe: in the working folder, else beside the file that has the key. A stored plan
//! names the folder in which its run was started, and takes that for its own.
use std::path::Path;

use serde_json::Value as Json;
use toml::Value;

use super::tree::{self, Item, Node, Origin, Table};

/// The keys that are paths.
const PATHS: [&str; 7] = [
    "data.path",
    "data.labels",
    "data.classes",
    "student.weights",
    "teacher.weights",
    "teacher.package",
    "teacher.cache.path",
];

/// The key of a stored plan with the working folder of its run.
const STARTED_IN: &str = "started_in";

/// `path` in `folder`, if it is relative and exists there but not in the working folder.
fn beside(path: &str, folder: &Path) -> Option<String> {
    let there = folder.join(path);
    let elsewhere = Path::new(path).is_relative() && !Path::new(path).exists() && there.exists();
    elsewhere.then(|| there.display().to_string())
}

/// The keys of a recipe without their origins, each path looked up beside the file that has it.
pub(super) fn looked_up(root: &Table) -> toml::Table {
    let mut plain = tree::plain(root);
    for key in PATHS {
        let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
        if let (depth, Some(Node { item: Item::Leaf(Value::String(path)), origin: Origin::File(file, _) })) =
            tree::deepest(root, &keys)
            && depth == keys.len()
            && let Some(there) = Path::new(&**file).parent().and_then(|folder| beside(path, folder))
            && let Some(value) = at(&mut plain, &keys)
        {
            *value = Value::String(there);
        }
    }
    plain
}

fn at<'t>(table: &'t mut toml::Table, keys: &[String]) -> Option<&'t mut Value> {
    let (last, tables) = keys.split_last()?;
    let parent = tables.iter().try_fold(table, |table, key| table.get_mut(key)?.as_table_mut());
    parent?.get_mut(last)
}

/// A plan to be stored: with the working folder.
pub(crate) fn started_here(mut plan: Json) -> Json {
    if let (Some(keys), Ok(folder)) = (plan.as_object_mut(), std::env::current_dir()) {
        keys.insert(STARTED_IN.to_owned(), folder.display().to_string().into());
    }
    plan
}

/// A stored plan without the working folder of its run, each path looked up in it.
pub(crate) fn from_start(mut plan: Json) -> Json {
    let Some(folder) = plan.as_object_mut().and_then(|keys| keys.shift_remove(STARTED_IN)) else { return plan };
    let folder = Path::new(folder.as_str().unwrap_or_default());
    for key in PATHS {
        if let Some(Json::String(path)) = plan.pointer_mut(&format!("/{}", key.replace('.', "/")))
            && let Some(there) = beside(path, folder)
        {
            *path = there;
        }
    }
    plan
}
