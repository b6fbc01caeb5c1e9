//! `heterodyne train` and `heterodyne distill`.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use heterodyne_run::{
    folder::RunFolder,
    recipe::Layered,
    summary::{Status, Summary},
};
use heterodyne_train::{Event, Mode, Plan, Session, fit, plan, world::Launch};

use super::{Outcome, closing::closing, heading::heading};
use crate::{
    print::{quoted, say, say_part, tell},
    ui::{self, Progress},
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipe (TOML), or the plan.json of a run
    #[arg(required_unless_present = "resume")]
    recipe: Option<PathBuf>,
    /// Override a key of the recipe, for example --set optim.lr=0.1 or --set methods.uhkd.k=5; may be repeated. With
    /// --resume: places and the device only, for a run that was moved
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Run folder [default: runs/NAME-sSEED]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Resume the interrupted run in this folder exactly where it stopped
    #[arg(long, value_name = "DIR", conflicts_with = "recipe")]
    resume: Option<PathBuf>,
    /// With --resume: continue even if recipe, teacher, classes or images have changed since the checkpoint
    #[arg(long, requires = "resume")]
    accept_changes: bool,
}

/// Runs the command; of several processes that were launched together, rank 0 writes and speaks.
pub fn run(args: &Args, mode: Mode) -> Result<Outcome> {
    let launch = Launch::from_env()?;
    let leads = launch.as_ref().is_none_or(|launch| launch.rank == 0);
    let Some((session, folder, resumes)) = prepared(args, mode, launch.as_ref())? else { return Ok(Outcome::Done) };
    // Until here there is nothing to save.
    let stop = ui::stop_flag()?;
    if !leads {
        let summary = fit(&session, &folder, resumes, &stop, &mut |_: &Event| {})?;
        return Ok(outcome(&summary));
    }
    say_part!("{}", heading(&session, Some(&folder.path().display().to_string())));
    let mut progress = Progress::new(session.plan.recipe.train.epochs);
    let summary = fit(&session, &folder, resumes, &stop, &mut progress)?;
    drop(progress);
    say!("{}", closing(&summary, &folder, &scratch(args)));
    Ok(outcome(&summary))
}

fn outcome(summary: &Summary) -> Outcome {
    if summary.status == Status::Interrupted { Outcome::Interrupted } else { Outcome::Done }
}

/// The session, its folder, and whether it continues a run; `None` if the run has finished already.
fn prepared(args: &Args, mode: Mode, launch: Option<&Launch>) -> Result<Option<(Session, RunFolder, bool)>> {
    if let Some(path) = &args.resume {
        return resumed(args, mode, path, launch);
    }
    let recipe = args.recipe.as_deref().context("no recipe given")?;
    let mut plan = Plan::resolve(&Layered::read(recipe, &args.sets)?, mode)?;
    if plan.recipe.name.is_empty() {
        plan.recipe.name = recipe.file_stem().map_or_else(|| "run".to_owned(), |s| s.to_string_lossy().into_owned());
    }
    if plan.baseline {
        plan.recipe.name.push_str("-scratch");
    }
    let name = || Path::new("runs").join(format!("{}-s{}", plan.recipe.name, plan.recipe.seed));
    let out = args.out.clone().unwrap_or_else(name);
    // A launcher that starts its processes again means the run that they have begun.
    if launch.is_some_and(|launch| launch.attempt > 0) && RunFolder::of_another(&out).checkpoint().is_file() {
        return resumed(args, mode, &out, launch);
    }
    // Every process checks it, before they meet and rank 0 creates the folder.
    RunFolder::check_free(&out)?;
    let session = ui::session(plan, launch)?;
    let folder = match session.world.leads() {
        true => created(&out, &session).map_err(|e| session.world.explain(e.into()))?,
        false => RunFolder::of_another(&out),
    };
    Ok(Some((session, folder, false)))
}

fn created(path: &Path, session: &Session) -> heterodyne_run::Result<RunFolder> {
    let folder = RunFolder::create(path)?;
    let plan = serde_json::to_value(&session.plan.recipe);
    folder.write_plan(&plan.map_err(|e| heterodyne_run::Error::new(path, e))?)?;
    Ok(folder)
}

/// The same for the run in `path`.
fn resumed(
    args: &Args,
    mode: Mode,
    path: &Path,
    launch: Option<&Launch>,
) -> Result<Option<(Session, RunFolder, bool)>> {
    let leads = launch.is_none_or(|launch| launch.rank == 0);
    let folder = if leads { RunFolder::resume(path)? } else { RunFolder::open(path)? };
    let layered = plan::stored(&folder.plan().display().to_string(), &folder.read_plan()?)?;
    let moved = if args.resume.is_some() { layered.moved(&args.sets)? } else { layered };
    let plan = Plan::resolve(&moved, mode)?;
    if !folder.checkpoint().is_file() && !folder.is_fresh()? {
        let summary = folder.read_summary()?;
        if summary.epochs < plan.recipe.train.epochs {
            bail!(
                "{}: the run has finished after {} epochs and its checkpoint was removed, so it cannot be trained \
                 further\n  hint: train.keep_checkpoints keeps it; to train from its weights, set student.weights = \
                 \"{}\" in a new run",
                path.display(),
                summary.epochs,
                path.display()
            );
        }
        if leads {
            tell!("note: the run had finished; there is nothing left to train");
            say!("{}", closing(&summary, &folder, &scratch(args)));
        }
        return Ok(None);
    }
    let session = Session { accept_changes: args.accept_changes, ..ui::session(plan, launch)? };
    Ok(Some((session, folder, true)))
}

/// The command that trains the run's student from labels alone.
fn scratch(args: &Args) -> String {
    let recipe = match (&args.resume, &args.recipe) {
        (Some(folder), _) => folder.join("plan.json"),
        (None, recipe) => recipe.clone().unwrap_or_default(),
    };
    let sets = args.sets.iter().map(|set| format!(" --set {}", quoted(set)));
    format!("heterodyne train {}{}", quoted(&recipe), sets.collect::<String>())
}
