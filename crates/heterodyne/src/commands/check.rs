//! `heterodyne check`: everything that a run does before and in its first steps, without a run folder.
use std::path::PathBuf;

use anyhow::Result;
use heterodyne_run::recipe::Layered;
use heterodyne_train::{Event, Mode, Observer, Plan, Session, analysis::trial::Trial, run::preflight};

use super::{Outcome, heading::heading};
use crate::{
    print::{say, say_part, tell},
    ui::{self, Progress},
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipe (TOML), or the plan.json of a run
    recipe: PathBuf,
    /// Override a key of the recipe, for example --set train.batch=32; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Check the recipe's baseline, without its teacher and methods, as `train` runs it
    #[arg(long)]
    baseline: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let layered = Layered::read(&args.recipe, &args.sets)?;
    let recipe = layered.recipe()?;
    let taught = recipe.teacher.is_some() || !recipe.methods.is_empty();
    let mode = if taught && !args.baseline { Mode::Distill } else { Mode::Train };
    let mut plan = Plan::resolve(&layered, mode)?;
    // A check fills no cache.
    let cache = plan.recipe.teacher.as_mut().and_then(|teacher| teacher.cache.take());
    let session = ui::session(plan, None)?;
    let stop = ui::stop_flag()?;
    say_part!("{}", heading(&session, None));
    session.notes.iter().for_each(|note| tell!("note: {note}"));
    let outcome = preflight::teacher(&session, &stop).and_then(|check| {
        if let Some(check) = check {
            Progress::new(session.plan.recipe.train.epochs).on(&Event::Teacher(check));
        }
        Trial::of(&session, &stop)
    });
    match outcome {
        Err(e) if e.is_stop() => return Ok(Outcome::Interrupted),
        trial => report(&session, &trial?, cache.is_some()),
    }
    Ok(Outcome::Done)
}

/// Prints what the steps have shown.
fn report(s: &Session, trial: &Trial, cached: bool) {
    let terms: Vec<String> = trial.losses.terms.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    say!("loss     {:.4} ({}), gradient norm {:.3}", trial.losses.loss, terms.join(", "), trial.losses.grad_norm);
    let still = trial.without_gradient.len() + trial.zero_gradient.len();
    say!("gradient for {} of {} parameter tensors", trial.parameters - still, trial.parameters);
    ui::unlearned(&texts(&trial.without_gradient), trial.parameters);
    if !trial.zero_gradient.is_empty() {
        tell!("warning: the gradient of {} is zero in all steps", ui::few(&texts(&trial.zero_gradient)));
    }
    if let Some(bytes) = trial.memory {
        say!("memory   {} at most", ui::gigabytes(bytes));
    }
    let (steps, evaluations) = trial.run_seconds(s);
    let epochs = s.plan.recipe.train.epochs;
    say!(
        "time     {} for {epochs} epochs at {:.0} ms per step, and {} for evaluations, estimated from a few steps{}",
        ui::duration(steps),
        trial.step_seconds * 1e3,
        ui::duration(evaluations),
        if cached { "; less once the teacher's cache is full" } else { "" }
    );
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}
