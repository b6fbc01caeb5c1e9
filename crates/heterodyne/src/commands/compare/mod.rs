//! `heterodyne compare`: a recipe with several methods, settings and seeds; or the recipes and variants of a study.
pub mod comparison;
mod inputs;
mod live;
pub mod outcome;
pub mod pool;
pub mod rows;
mod settings;
mod study;
mod teacher;

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::{Result, bail};
use heterodyne_run::{folder, recipe::Layered};
use indexmap::IndexSet;

use self::{
    comparison::{Comparison, Next},
    pool::Jobs,
    rows::{Row, Selection, Source, Variation},
    study::Study,
};
use super::Outcome;
use crate::{
    print::{quoted, say, tell},
    ui,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipe, or a study: [[group]] tables with a recipe and its variants (TOML)
    recipe: PathBuf,
    /// Methods to compare, each alone; `a+b` is both together, `scratch` is training without a teacher
    /// [default: scratch,kd and what the recipe has]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    methods: Vec<String>,
    /// Override a key in all rows; several values make a row of each, for example --set optim.lr=0.05,0.1; may be
    /// repeated, for all combinations
    #[arg(long = "set", value_name = "KEY=VALUE,..")]
    sets: Vec<String>,
    /// Settings of a row, for example --variant 'optim.lr=0.1, train.batch=32'; an empty text is the recipe itself; may
    /// be repeated
    #[arg(long = "variant", value_name = "SETTINGS")]
    variants: Vec<String>,
    /// Number of seeds, from 0
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The seeds themselves, for example 10,11
    #[arg(long, value_name = "SEED,..", value_delimiter = ',', conflicts_with = "seeds")]
    #[arg(value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed_list: Vec<u64>,
    /// Folder of the runs [default: runs/compare-NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs at a time [default: all cores with the recipe's `threads` for each, else up to 4; 1 on a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Run nothing, print the table of the runs that exist
    #[arg(long)]
    table: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let comparison = args.comparison()?;
    comparison.check()?;
    if args.table {
        outcome::show(&comparison)?;
        return Ok(Outcome::Done);
    }
    let jobs = Jobs::choose(args.jobs.map(usize::from), &comparison.rows);
    std::fs::create_dir_all(&comparison.out)
        .map_err(|e| anyhow::anyhow!("{}: the folder cannot be created ({e})", comparison.out.display()))?;
    let _lock = folder::lock(&comparison.out)?;
    comparison.prepare()?;
    let all = comparison.jobs();
    let stop = ui::stop_flag()?;
    let done = all.iter().filter(|job| matches!(job.next(), Ok(Next::Done))).count();
    say!(
        "{}, {}: {}, {done} of them finished; {} at a time, {} each, in {}",
        count(comparison.rows.len(), "row"),
        count(comparison.seeds.len(), "seed"),
        count(all.len(), "run"),
        jobs.count,
        count(jobs.threads, "thread"),
        comparison.out.display()
    );
    teacher::fill(&all, &comparison.seeds, &stop)?;
    let failures = pool::run(&all, jobs, &stop);
    if stop.load(Ordering::Relaxed) {
        let done = all.iter().filter(|job| matches!(job.next(), Ok(Next::Done))).count();
        say!("{done} of {} runs are finished\nto continue: {}", all.len(), command());
        failures.iter().for_each(|f| tell!("failed: {}\n{}", f.run, f.reason));
        return Ok(Outcome::Interrupted);
    }
    let title = format!("heterodyne compare {}", args.recipe.display());
    outcome::write(&comparison, &title, &command(), jobs, &failures)?;
    outcome::failed(&failures, all.len())?;
    Ok(Outcome::Done)
}

impl Args {
    /// Reads and resolves everything, before anything is written.
    fn comparison(&self) -> Result<Comparison> {
        let (fixed, points) = settings::spread(&self.sets)?;
        let (rows, name) = if let Some(study) = Study::read(&self.recipe)? {
            if let Some(flag) =
                [("--methods", &self.methods), ("--variant", &self.variants)].iter().find(|f| !f.1.is_empty())
            {
                bail!("{}: a study names its methods and variants; {} is for a recipe", self.recipe.display(), flag.0);
            }
            (
                study
                    .variations(&fixed, &points)
                    .iter()
                    .enumerate()
                    .map(|(i, v)| v.rows(i))
                    .collect::<Result<Vec<_>>>()?,
                stem(&self.recipe),
            )
        } else {
            let source = Source::File(&self.recipe);
            let base = source.read(&fixed)?;
            let own = self.variants.iter().map(|text| settings::variant(text)).collect::<Vec<_>>();
            let own = if own.is_empty() { vec![Vec::new()] } else { own };
            let points = own.iter().flat_map(|own| points.iter().map(move |point| [own.as_slice(), point].concat()));
            let variation =
                Variation { source, label: None, selections: self.selections(&base)?, fixed, points: points.collect() };
            let name = base.recipe()?.name;
            (vec![variation.rows(0)?], if name.is_empty() { stem(&self.recipe) } else { name })
        };
        let rows: Vec<Row> = rows.into_iter().flatten().collect();
        let seeds: IndexSet<u64> = if self.seed_list.is_empty() {
            (0..self.seeds).collect()
        } else {
            self.seed_list.iter().copied().collect()
        };
        let out = self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("compare-{name}")));
        Ok(Comparison { out, rows, seeds: seeds.into_iter().collect() })
    }

    /// The methods to compare.
    fn selections(&self, base: &Layered) -> Result<Vec<Selection>> {
        if !self.methods.is_empty() {
            let all = self.methods.iter().map(|text| Selection::parse(text)).collect::<Result<IndexSet<_>>>()?;
            return Ok(all.into_iter().collect());
        }
        let (own, taught) = (rows::methods(base), base.to_json()["teacher"].is_object());
        let kd = vec!["kd".to_owned()];
        let mut all = vec![Selection::Scratch];
        if taught {
            all.push(Selection::Methods(kd.clone()));
        }
        if taught && !own.is_empty() && own != kd {
            all.push(Selection::Own);
        }
        Ok(all)
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// This command, for a shell.
fn command() -> String {
    let words = std::env::args_os().skip(1).map(quoted);
    std::iter::once("heterodyne".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
