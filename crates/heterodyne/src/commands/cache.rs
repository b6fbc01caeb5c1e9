//! `heterodyne cache`: computes the teacher's outputs before training.
use std::{path::PathBuf, sync::atomic::AtomicBool};

use anyhow::{Result, bail};
use heterodyne_run::recipe::Layered;
use heterodyne_train::{
    Mode, Plan, Session,
    cache::{self, Filled},
    world::Launch,
};

use super::Outcome;
use crate::{
    print::{say, tell},
    ui,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipes (TOML) with `teacher.cache`; one pass of the teacher serves all that share teacher, student and images
    #[arg(required = true, value_name = "RECIPE")]
    recipes: Vec<PathBuf>,
    /// Override a key of the recipe, for example --set teacher.cache.views=16; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// Runs the command; each of several processes writes the entries of its own images.
pub fn run(args: &Args) -> Result<Outcome> {
    let launch = Launch::from_env()?;
    let mut plans = Vec::new();
    for recipe in &args.recipes {
        let plan = Plan::resolve(&Layered::read(recipe, &args.sets)?, Mode::Distill)?;
        if plan.recipe.teacher.as_ref().is_none_or(|teacher| teacher.cache.is_none()) {
            bail!(
                "{}: the recipe has no teacher.cache\n  hint: add `--set teacher.cache.views=N` for N views per image",
                recipe.display()
            );
        }
        plans.push(plan);
    }
    let mut stop = None;
    for plan in cache::together(plans) {
        let session = ui::session(plan, launch.as_ref())?;
        let stop = match &stop {
            Some(stop) => stop,
            None => &*stop.insert(ui::stop_flag()?),
        };
        if let Outcome::Interrupted = fill(&session, stop)? {
            return Ok(Outcome::Interrupted);
        }
    }
    Ok(Outcome::Done)
}

fn fill(session: &Session, stop: &AtomicBool) -> Result<Outcome> {
    let Some(cache) = &session.cache else { return Ok(Outcome::Done) };
    let before = cache.stats();
    let checked = match cache::verify(cache, &session.learner, &session.train, session.plan.recipe.seed, stop) {
        Err(e) if e.is_stop() => return Ok(Outcome::Interrupted),
        checked => checked?,
    };
    say!("{}", ui::show_cache(&before, checked, None));
    let bar = ui::bar("cache", before.entries);
    bar.set_position(before.written as u64);
    let start = std::time::Instant::now();
    let filled = cache::fill(cache, &session.learner, &session.train, stop, &mut |n| bar.inc(n as u64))?;
    bar.finish_and_clear();
    let damaged = cache.damaged();
    if damaged > 0 {
        tell!("note: {damaged} entries were damaged and have been recomputed");
    }
    let (after, seconds) = (cache.stats(), start.elapsed().as_secs_f64());
    let new = after.written.saturating_sub(before.written);
    say!(
        "{new} entries written in {seconds:.1} s ({:.0} per second); {} of {}",
        new as f64 / seconds,
        after.written,
        after.entries
    );
    Ok(match filled {
        Filled::Full => Outcome::Done,
        Filled::Interrupted => {
            say!("to continue, run the same command again");
            Outcome::Interrupted
        }
    })
}
