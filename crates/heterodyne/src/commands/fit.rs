//! `heterodyne train` and `heterodyne distill`.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use heterodyne_run::{folder::RunFolder, recipe::Layered, summary::Status};
use heterodyne_train::{Mode, Plan, fit, plan};

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

/// Runs the command.
pub fn run(args: &Args, mode: Mode) -> Result<Outcome> {
    let (mut session, folder) = match &args.resume {
        Some(path) => {
            let folder = RunFolder::resume(path)?;
            let layered = plan::stored(&folder.plan().display().to_string(), &folder.read_plan()?)?;
            let plan = Plan::resolve(&layered.moved(&args.sets)?, mode)?;
            if !folder.checkpoint().is_file() && !folder.is_fresh()? {
                let summary = folder.read_summary()?;
                if summary.epochs < plan.recipe.train.epochs {
                    bail!(
                        "{}: the run has finished after {} epochs and its checkpoint was removed, so it cannot be \
                         trained further\n  hint: train.keep_checkpoints keeps it; to train from its weights, set \
                         student.weights = \"{}\" in a new run",
                        path.display(),
                        summary.epochs,
                        path.display()
                    );
                }
                tell!("note: the run had finished; there is nothing left to train");
                say!("{}", closing(&summary, &folder, &scratch(args)));
                return Ok(Outcome::Done);
            }
            (ui::session(plan)?, folder)
        }
        None => {
            let recipe = args.recipe.as_deref().context("no recipe given")?;
            let layered = Layered::read(recipe, &args.sets)?;
            let mut plan = Plan::resolve(&layered, mode)?;
            if plan.recipe.name.is_empty() {
                plan.recipe.name =
                    recipe.file_stem().map_or_else(|| "run".to_owned(), |s| s.to_string_lossy().into_owned());
            }
            if plan.baseline {
                plan.recipe.name.push_str("-scratch");
            }
            let out = args
                .out
                .clone()
                .unwrap_or_else(|| Path::new("runs").join(format!("{}-s{}", plan.recipe.name, plan.recipe.seed)));
            RunFolder::check_free(&out)?;
            let session = ui::session(plan)?;
            let folder = RunFolder::create(&out)?;
            folder.write_plan(&serde_json::to_value(&session.plan.recipe)?)?;
            (session, folder)
        }
    };
    session.accept_changes = args.accept_changes;
    // Until here there is nothing to save.
    let stop = ui::stop_flag()?;
    say_part!("{}", heading(&session, Some(&folder.path().display().to_string())));
    let mut progress = Progress::new(session.plan.recipe.train.epochs);
    let summary = fit(&session, &folder, args.resume.is_some(), &stop, &mut progress)?;
    drop(progress);
    say!("{}", closing(&summary, &folder, &scratch(args)));
    Ok(if summary.status == Status::Interrupted { Outcome::Interrupted } else { Outcome::Done })
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
