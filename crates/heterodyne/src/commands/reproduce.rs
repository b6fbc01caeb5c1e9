//! `heterodyne reproduce`: repeats a finished run and compares.
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use heterodyne_run::{
    RunFolder, Status, Summary,
    recipe::{MOVABLE, without},
};
use heterodyne_train::{
    Mode, Plan, Session,
    analysis::repetition::{Compared, Divergence, Repetition},
    fit, plan,
    run::manifest::{Manifest, Process},
};

use super::{Outcome, heading::heading};
use crate::{
    print::{quoted, say, say_part, tell},
    ui::{self, Progress},
};

/// Where a repetition goes, within the folder of its run.
const AGAIN: &str = "again";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a finished run
    run: PathBuf,
    /// Folder of the repetition; one that was interrupted continues, a finished one is only compared [default:
    /// RUN/again]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Accept a difference of the last accuracy up to this many points, instead of none in any bit
    #[arg(long, value_name = "POINTS", value_parser = points)]
    tolerance: Option<f64>,
    /// Override a place or the device, for a run that was moved, for example --set data.path=/data/photos
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Repeat even if the teacher, classes or images have changed since the run
    #[arg(long)]
    accept_changes: bool,
}

fn points(text: &str) -> Result<f64, String> {
    let points = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=100.0).contains(&points) { Ok(points) } else { Err("not between 0 and 100".to_owned()) }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let run = RunFolder::open(&args.run)?;
    let summary = finished(&run)?;
    let out = args.out.clone().unwrap_or_else(|| args.run.join(AGAIN));
    if !is_finished(&out) && repeat(args, &run, &summary, &out)? == Status::Interrupted {
        say!("to continue: {}", command(args));
        return Ok(Outcome::Interrupted);
    }
    let again = RunFolder::open(&out)?;
    check_plan(&run, &again)?;
    let found = Repetition::of(&run, &again)?;
    say_part!("{}", shown(&found, &args.run, &out));
    verdict(&found, args.tolerance)
}

fn finished(run: &RunFolder) -> Result<Summary> {
    let summary = run.read_summary()?;
    if summary.status != Status::Finished {
        bail!(
            "{}: only a finished run can be reproduced, and this one is {}\n  hint: heterodyne {} --resume {}",
            run.path().display(),
            summary.status.name(),
            summary.command,
            quoted(run.path())
        );
    }
    Ok(summary)
}

fn is_finished(out: &Path) -> bool {
    let summary = RunFolder::open(out).and_then(|folder| folder.read_summary());
    summary.is_ok_and(|summary| summary.status == Status::Finished)
}

/// Checks that what is in the folder of the repetition repeats this run.
fn check_plan(run: &RunFolder, again: &RunFolder) -> Result<()> {
    // Places are compared by their contents, before anything is computed.
    let (then, now) = (without(run.read_plan()?, &MOVABLE), without(again.read_plan()?, &MOVABLE));
    let mut changes = heterodyne_report::changes(&then, &now);
    if then["seed"] != now["seed"] {
        changes.push(format!("`seed` was {} and is {}", then["seed"], now["seed"]));
    }
    if !changes.is_empty() {
        bail!(
            "{}: holds a run with another plan than {}:\n  {}\n  hint: name another folder with --out",
            again.path().display(),
            run.path().display(),
            changes.join("\n  ")
        );
    }
    Ok(())
}

/// Repeats the run in `out`, or continues its repetition there.
fn repeat(args: &Args, run: &RunFolder, summary: &Summary, out: &Path) -> Result<Status> {
    let mode = if summary.command == Mode::Train.name() { Mode::Train } else { Mode::Distill };
    let resumed = match RunFolder::is_one(out) {
        true => Some(RunFolder::resume(out)?),
        false => RunFolder::check_free(out).map(|()| None)?,
    };
    if let Some(again) = &resumed {
        check_plan(run, again)?;
    }
    let layered = plan::stored(&run.plan().display().to_string(), &run.read_plan()?)?;
    let mut session = ui::session(Plan::resolve(&layered.moved(&args.sets)?, mode)?, None)?;
    session.accept_changes = args.accept_changes;
    match Manifest::read(run)? {
        Some(manifest) => prepare(&manifest, &session, args)?,
        None => tell!(
            "note: {} is missing (the run is of an older version), so its images, teacher and machine are not compared",
            run.manifest().display()
        ),
    }
    let resume = resumed.is_some();
    let folder = resumed.map_or_else(|| RunFolder::create(out), Ok)?;
    if !resume {
        folder.write_plan(&serde_json::to_value(&session.plan.recipe)?)?;
    }
    let stop = ui::stop_flag()?;
    say_part!("{}", heading(&session, Some(&out.display().to_string())));
    let mut progress = Progress::new(session.plan.recipe.train.epochs);
    Ok(fit(&session, &folder, resume, &stop, &mut progress)?.status)
}

/// Compares the inputs, names what else differs, and takes the run's number of threads.
fn prepare(manifest: &Manifest, session: &Session, args: &Args) -> Result<()> {
    let changes = manifest.changes(&Manifest::of(session)?);
    if !changes.is_empty() && !args.accept_changes {
        bail!(
            "{}: what the run was computed from has changed:\n  {}\n  hint: undo the change, or pass --accept-changes \
             to see what it does to the result",
            args.run.display(),
            changes.join("\n  ")
        );
    }
    changes.iter().for_each(|change| tell!("note: {change}"));
    let [first, later @ ..] = manifest.processes.as_slice() else { return Ok(()) };
    // The order of sums depends on the number of threads.
    if session.plan.recipe.threads == 0 {
        set_threads(first.machine.threads);
    }
    for process in later {
        let changed = first.differences(process);
        tell!("note: the run was continued at step {}{}", process.step, listed(&[changed, process.changes.clone()]));
    }
    for difference in first.differences(&Process::this(session, 0, Vec::new())) {
        tell!("note: {difference}");
    }
    Ok(())
}

fn set_threads(count: usize) {
    if let Ok(count @ 1..) = i32::try_from(count) {
        tch::set_num_threads(count);
    }
}

fn listed(lines: &[Vec<String>]) -> String {
    let lines = lines.concat();
    if lines.is_empty() { String::new() } else { format!(" ({})", lines.join("; ")) }
}

/// The command that continues.
fn command(args: &Args) -> String {
    let out = args.out.iter().map(|out| format!(" --out {}", quoted(out)));
    let sets = args.sets.iter().map(|set| format!(" --set {}", quoted(set)));
    let tolerance = args.tolerance.iter().map(|points| format!(" --tolerance {points}"));
    let accepted = args.accept_changes.then(|| " --accept-changes".to_owned());
    let options: String = out.chain(sets).chain(tolerance).chain(accepted).collect();
    format!("heterodyne reproduce {}{options}", quoted(&args.run))
}

/// The comparison, one line for measurements, accuracy and each file of weights.
fn shown(found: &Repetition, run: &Path, out: &Path) -> String {
    let mut lines = vec![format!("compared  {} with its repetition {}", run.display(), out.display())];
    lines.push(match &found.first {
        None => format!("metrics   equal: {} windows of steps, {} evaluations", found.windows, found.evals),
        Some(Divergence { step, what, then, now }) => {
            let value = |value: &Option<f64>| value.map_or_else(|| "absent".to_owned(), |value| value.to_string());
            format!("metrics   equal before step {step}; there {what} was {} and is {}", value(then), value(now))
        }
    });
    if let Some((then, now)) = &found.last {
        lines.push(format!(
            "accuracy  {}: top-1 {:.2} % then, {:.2} % now ({:+.2} points)",
            now.split,
            then.top1,
            now.top1,
            found.change()
        ));
    }
    for Compared { name, tensors, different, largest } in &found.weights {
        lines.push(match different {
            0 => format!("weights   {name}: all {tensors} tensors equal, bit for bit"),
            _ => format!("weights   {name}: {different} of {tensors} tensors differ, by {largest:.3e} at most"),
        });
    }
    if found.weights.is_empty() {
        lines.push(format!("weights   {} has none to compare", run.display()));
    }
    lines.join("\n") + "\n"
}

fn verdict(found: &Repetition, tolerance: Option<f64>) -> Result<Outcome> {
    let change = found.change().abs();
    match tolerance {
        _ if found.is_identical() => say!("the run is reproduced exactly"),
        Some(points) if change <= points => say!("the run is reproduced within {points} points"),
        Some(points) => {
            bail!("the run is not reproduced: its accuracy differs by {change:.2} points, more than {points}")
        }
        None => bail!(
            "the run is not reproduced exactly\n  hint: equal bits need the same program, kind of processor and number \
             of threads, and on a GPU operations that add in a fixed order; --tolerance 0.5 accepts 0.5 points of \
             accuracy"
        ),
    }
    Ok(Outcome::Done)
}
