//! `heterodyne train` and `heterodyne distill`.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use heterodyne_nn::TapSpec;
use heterodyne_run::{
    folder::RunFolder,
    recipe::{Layered, schema::DeviceChoice},
    summary::{Status, Summary, TeacherScore},
};
use heterodyne_train::{Mode, Plan, Session, device::cuda_problem, fit, network::Network, plan};

use super::Outcome;
use crate::{
    print::{say, say_part},
    ui::{self, Progress},
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipe (TOML)
    #[arg(required_unless_present = "resume")]
    recipe: Option<PathBuf>,
    /// Override a key of the recipe, for example --set optim.lr=0.1 or --set methods.uhkd.k=5; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Run folder [default: runs/NAME-sSEED]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Resume the interrupted run in this folder exactly where it stopped
    #[arg(long, value_name = "DIR", conflicts_with_all = ["recipe", "sets"])]
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
            if !folder.checkpoint().is_file() && !folder.is_fresh()? {
                bail!("{}: the run has finished, and there is no checkpoint to resume from", path.display());
            }
            (ui::session(Plan::resolve(&layered, mode)?)?, folder)
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
    say_part!("{}", heading(&session, &folder));
    let mut progress = Progress::new(session.plan.recipe.train.epochs);
    let summary = fit(&session, &folder, args.resume.is_some(), &stop, &mut progress)?;
    drop(progress);
    say!("{}", closing(&summary, &folder));
    Ok(if summary.status == Status::Interrupted { Outcome::Interrupted } else { Outcome::Done })
}

/// The description of a run, printed at its start.
fn heading(s: &Session, folder: &RunFolder) -> String {
    let net = |n: &Network| match n.store.num_parameters() {
        0 => format!("{} at {} px, a package with {}", n.name, n.view.img, offer(n.taps())),
        count => format!("{} at {} px, {:.2} M parameters", n.name, n.view.img, count as f64 / 1e6),
    };
    let mut lines = vec![format!("data     {} ({} to train on), {} classes", s.data, s.train_images, s.card.classes)];
    if let Some(t) = &s.learner.teacher {
        lines.push(format!("teacher  {}", net(t)));
        lines.extend(t.loaded.as_ref().map(|r| format!("         {}", ui::loaded(r))));
    }
    lines.push(format!("student  {}", net(&s.learner.student)));
    lines.extend(s.learner.student.loaded.as_ref().map(|r| format!("         {}", ui::loaded(r))));
    for m in &s.learner.loss.methods {
        lines.push(format!("method   {} ({})", m.name, m.weight));
    }
    if s.plan.baseline {
        lines.push("note     the recipe's teacher and methods are left out: its baseline from labels alone".to_owned());
    }
    if s.learner.loss.heads.num_parameters() > 0 {
        lines.push(format!(
            "heads    {:.2} M parameters, for training only",
            s.learner.loss.heads.num_parameters() as f64 / 1e6
        ));
    }
    lines.push(format!(
        "run      {} on {:?}, {} epochs of {} steps",
        folder.path().display(),
        s.learner.student.device(),
        s.plan.recipe.train.epochs,
        s.train.batches_per_epoch()
    ));
    if let (DeviceChoice::Auto, Some(problem)) = (s.plan.recipe.device, cuda_problem()) {
        lines.push(format!("note     the GPU is not used: {problem}"));
    }
    lines.join("\n") + "\n"
}

/// The outputs of a network, in words.
fn offer(taps: &TapSpec) -> String {
    let embedding = if taps.embedding.is_some() { ", an embedding" } else { "" };
    match taps.stages.len() {
        0 => format!("logits{embedding}"),
        n => format!("logits{embedding} and {n} stages"),
    }
}

fn closing(summary: &Summary, folder: &RunFolder) -> String {
    let mut lines = Vec::new();
    if let Some(last) = &summary.last {
        let done = summary.status == Status::Finished;
        let when = if done { "last epoch".to_owned() } else { format!("epoch {:<4}", last.epoch) };
        lines.push(format!("{when}  {}", ui::show(last)));
    }
    if let Some(best) = &summary.best {
        lines.push(format!(
            "best epoch  {} (epoch {}, chosen on the {} images)",
            ui::show(best),
            best.epoch,
            summary.selected_on
        ));
    }
    if let Some(TeacherScore { split, top1, images }) = &summary.teacher_score {
        lines.push(format!("teacher     {split}: top-1 {top1:.2} %  {images} images"));
    }
    lines.push(format!(
        "{:.1} s of training, {:.0} img/s; weights and summary in {}",
        summary.seconds,
        summary.images_per_second,
        folder.path().display()
    ));
    if summary.status == Status::Interrupted {
        lines.push(format!("to continue: heterodyne {} --resume {}", summary.command, folder.path().display()));
    }
    lines.join("\n")
}
