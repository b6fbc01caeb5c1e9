//! The folder of a comparison: a folder for each row with its recipe and a run folder for each seed.
//!
//! ```text
//! ROW/recipe.toml       the row's resolved recipe; `heterodyne distill ROW/recipe.toml --set seed=0` repeats a run
//! ROW/seed0/            a run folder
//! ROW/seed0.log         what the run printed
//! ```
use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use heterodyne_report::Group;
use heterodyne_run::{RunFolder, Status, folder, recipe::Layered};

use super::rows::Row;

const RECIPE: &str = "recipe.toml";

/// Rows, seeds and the folder of their runs.
#[derive(Debug)]
pub struct Comparison {
    /// The folder.
    pub out: PathBuf,
    /// The rows in order.
    pub rows: Vec<Row>,
    /// The seeds of every row.
    pub seeds: Vec<u64>,
}

/// One run of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Job<'c> {
    /// Its row.
    pub row: &'c Row,
    /// Its seed.
    pub seed: u64,
    out: &'c Path,
}

/// What is to be done for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Done,
    /// Continue it from its checkpoint, or start it again if it has none.
    Continue,
    /// Start it.
    Start,
}

impl Comparison {
    /// Every run once, all rows with the first seed before the second seed.
    pub fn jobs(&self) -> Vec<Job<'_>> {
        let first = |i: usize| self.rows[..i].iter().all(|other| other.folder != self.rows[i].folder);
        let rows = || (0..self.rows.len()).filter(move |i| first(*i)).map(|i| &self.rows[i]);
        self.seeds.iter().flat_map(|seed| rows().map(|row| self.job(row, *seed))).collect()
    }

    /// Checks that what is in the folder belongs to this comparison.
    ///
    /// # Errors
    /// A row's folder holds runs of another plan, or something else.
    pub fn check(&self) -> Result<()> {
        for (i, row) in self.rows.iter().enumerate() {
            let now = serde_json::to_value(&row.recipe)?;
            if let Some(other) = self.rows[..i].iter().find(|other| other.folder == row.folder)
                && !heterodyne_report::changes(&serde_json::to_value(&other.recipe)?, &now).is_empty()
            {
                bail!(
                    "rows `{}` and `{}` would share the folder {}: give them other names",
                    other.name,
                    row.name,
                    row.folder
                );
            }
            let path = self.out.join(&row.folder).join(RECIPE);
            if !path.exists() {
                self.check_free(row)?;
                continue;
            }
            let hint = "choose another folder with --out, or remove this one";
            let stored = Layered::read(&path, &[]).and_then(|layered| layered.recipe());
            let stored =
                stored.with_context(|| format!("{}: the recipe of earlier runs\n  hint: {hint}", path.display()))?;
            let changes = heterodyne_report::changes(&serde_json::to_value(stored)?, &now);
            if let Some(change) = changes.first() {
                let more = if changes.len() > 1 { format!(" (and {} more)", changes.len() - 1) } else { String::new() };
                bail!(
                    "{}: holds runs of another plan: {change}{more}\n  hint: {hint}",
                    self.out.join(&row.folder).display()
                );
            }
        }
        Ok(())
    }

    /// A row's folder without a recipe must not hold runs.
    fn check_free(&self, row: &Row) -> Result<()> {
        for seed in &self.seeds {
            RunFolder::check_free(&self.job(row, *seed).folder())
                .with_context(|| format!("row `{}` has no {RECIPE} to compare with", row.name))?;
        }
        Ok(())
    }

    /// Writes the rows' recipes.
    pub fn prepare(&self) -> Result<()> {
        for row in &self.rows {
            let path = self.out.join(&row.folder);
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
            let recipe =
                toml::to_string(&row.recipe).with_context(|| format!("storing the recipe of `{}`", row.name))?;
            let about = format!(
                "# Row `{}` of a comparison, with every value in effect. To repeat a run elsewhere:\n\
                 # heterodyne {} {} --set seed=0\n\n",
                row.name.replace('\n', " "),
                row.mode.name(),
                path.join(RECIPE).display()
            );
            folder::replace(&path.join(RECIPE), (about + &recipe).as_bytes())?;
        }
        Ok(())
    }

    /// The runs that exist, as the rows of a report.
    pub fn groups(&self) -> Vec<Group> {
        let group = |row: &Row| {
            let folders = self.seeds.iter().map(|seed| self.job(row, *seed).folder());
            let runs = folders.filter(|path| heterodyne_report::Run::load(path).is_ok()).collect();
            Group { variant_of: row.variant_of.clone(), ..Group::new(row.name.clone(), runs) }
        };
        self.rows.iter().map(group).collect()
    }

    fn job<'c>(&'c self, row: &'c Row, seed: u64) -> Job<'c> {
        Job { row, seed, out: &self.out }
    }
}

impl Job<'_> {
    /// Its run folder.
    pub fn folder(&self) -> PathBuf {
        self.out.join(&self.row.folder).join(format!("seed{}", self.seed))
    }

    /// The row's recipe.
    pub fn recipe(&self) -> PathBuf {
        self.out.join(&self.row.folder).join(RECIPE)
    }

    /// What it prints.
    pub fn log(&self) -> PathBuf {
        self.folder().with_extension("log")
    }

    /// The name in messages.
    pub fn name(&self) -> String {
        format!("{}, seed {}", self.row.name, self.seed)
    }

    /// What is to be done.
    ///
    /// # Errors
    /// Its summary is damaged.
    pub fn next(&self) -> heterodyne_run::Result<Next> {
        let Ok(folder) = RunFolder::open(&self.folder()) else { return Ok(Next::Start) };
        let finished = folder.summary().exists() && folder.read_summary()?.status == Status::Finished;
        Ok(if finished { Next::Done } else { Next::Continue })
    }

    /// The last lines that it printed: its error if there is one.
    pub fn last_lines(&self) -> Result<String, io::Error> {
        const LINES: usize = 5;
        let text = String::from_utf8_lossy(&fs::read(self.log())?).into_owned();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let error = lines.iter().rposition(|line| line.starts_with("error:"));
        let from = error.unwrap_or_else(|| lines.len().saturating_sub(LINES));
        Ok(lines[from..].iter().take(LINES).copied().collect::<Vec<_>>().join("\n"))
    }
}
