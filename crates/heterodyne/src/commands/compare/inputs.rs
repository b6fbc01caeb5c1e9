//! Runs that name the same teacher or images, but did not find the same contents there: a file was replaced after a
//! part of the runs had finished.
use anyhow::Result;
use heterodyne_run::RunFolder;
use heterodyne_train::{run::manifest::Manifest, session::origin::Origin};
use indexmap::IndexMap;
use serde::Serialize;

use super::comparison::{Comparison, Job, Next};

/// The first run of those with the same keys.
struct First {
    name: String,
    origin: Origin,
}

/// The finished runs whose results cannot be compared, one line each.
pub fn replaced(comparison: &Comparison) -> Result<Vec<String>> {
    let (mut teachers, mut images) = (IndexMap::new(), IndexMap::new());
    let mut lines = Vec::new();
    for job in comparison.jobs() {
        let Some(origin) = origin(&job) else { continue };
        let recipe = &job.row.recipe;
        let teacher = first(&mut teachers, &(job.row.mode.name(), &recipe.teacher), &job, &origin)?;
        let data = first(&mut images, &recipe.data, &job, &origin)?;
        for (first, changes) in [
            (teacher, teacher.origin.teacher_changes(&origin).into_iter().collect()),
            (data, data.origin.image_changes(&origin)),
        ] {
            if !changes.is_empty() {
                lines.push(format!("{} and {} do not compare: {}", first.name, job.name(), changes.join("; ")));
            }
        }
    }
    Ok(lines)
}

/// What a finished run was computed from, unless its manifest is missing or damaged.
fn origin(job: &Job) -> Option<Origin> {
    let Ok(Next::Done) = job.next() else { return None };
    let manifest = Manifest::read(&RunFolder::open(&job.folder()).ok()?).ok()??;
    Some(manifest.origin.timeless())
}

/// The first run with this table of the recipe; `job` if there was none.
fn first<'f>(
    all: &'f mut IndexMap<String, First>,
    table: &impl Serialize,
    job: &Job,
    origin: &Origin,
) -> Result<&'f First> {
    let key = serde_json::to_string(table)?;
    Ok(all.entry(key).or_insert_with(|| First { name: job.name(), origin: origin.clone() }))
}
