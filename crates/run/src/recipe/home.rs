//! Expands a leading `~` in paths. The shell does so only at the start of a word, not in a recipe or after `--path=`.
use std::path::{Path, PathBuf};

use super::schema::{ClassList, Data, NetworkTable, Recipe};

/// `path` with a leading `~` replaced by the home folder (`HOME`); unchanged if there is no `~` or no `HOME`. `~name`
/// is not expanded.
#[must_use]
pub fn expand(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME").filter(|home| !home.is_empty())) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}

/// Applies [`expand`] to every path of a recipe.
pub(super) fn expand_all(recipe: &mut Recipe) {
    expand_data(&mut recipe.data);
    let mut paths = Vec::new();
    for NetworkTable { package, weights, .. } in std::iter::once(&mut recipe.student).chain(recipe.teacher.as_mut()) {
        paths.extend([package, weights]);
    }
    paths.into_iter().flatten().for_each(|path| *path = expand(path));
    if let Some(cache) = recipe.teacher.as_mut().and_then(|teacher| teacher.cache.as_mut()) {
        cache.path = expand(&cache.path);
    }
}

/// Applies [`expand`] to every path of `[data]`.
pub fn expand_data(data: &mut Data) {
    [&mut data.path, &mut data.labels].into_iter().flatten().for_each(|path| *path = expand(path));
    if let Some(ClassList::File(path)) = &mut data.classes {
        *path = expand(path);
    }
}
