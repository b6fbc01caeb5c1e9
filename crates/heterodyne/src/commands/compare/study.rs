//! A study file: several recipes, each with its variants.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{
    rows::{Selection, Source, Variation},
    settings::{self, Settings},
};

/// A list of recipes with variants.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    group: Vec<Group>,
}

/// A recipe with its variants; the first is compared with the others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    recipe: PathBuf,
    variants: Vec<String>,
    #[serde(default)]
    command: Command,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Command {
    Train,
    #[default]
    Distill,
}

impl Study {
    /// Reads a study; `None` if the file is a recipe, or cannot be read.
    ///
    /// # Errors
    /// It is a study with a mistake.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
        if !text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("group")) {
            return Ok(None);
        }
        let study: Self =
            toml::from_str(&text).map_err(|e| anyhow::anyhow!("{}", e.to_string().trim_end())).with_context(|| {
                format!("{}: not a study of [[group]] tables with `recipe` and `variants`", path.display())
            })?;
        for group in &study.group {
            let recipe = group.recipe.display();
            if group.variants.is_empty() {
                bail!("{}: the group of {recipe} has no variants\n  hint: \"\" is the recipe itself", path.display());
            }
            if let Some(twice) =
                group.variants.iter().enumerate().find_map(|(i, v)| group.variants[..i].contains(v).then_some(v))
            {
                bail!("{}: a variant of {recipe} is listed twice: \"{twice}\"", path.display());
            }
        }
        Ok(Some(study))
    }

    /// What each group varies, with the settings of the command line.
    pub fn variations(&self, fixed: &Settings, points: &[Settings]) -> Vec<Variation<'_>> {
        let variation = |group: &'_ Group| -> (Vec<Settings>, Selection) {
            let own = group.variants.iter().map(|text| settings::variant(text));
            let all = own.flat_map(|own| points.iter().map(move |point| [own.as_slice(), point].concat())).collect();
            (all, if matches!(group.command, Command::Train) { Selection::Scratch } else { Selection::Own })
        };
        let stem = |path: &Path| path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        self.group
            .iter()
            .map(|group| {
                let (points, selection) = variation(group);
                Variation {
                    source: Source::File(&group.recipe),
                    label: Some(stem(&group.recipe)),
                    selections: vec![selection],
                    fixed: fixed.clone(),
                    points,
                }
            })
            .collect()
    }
}
