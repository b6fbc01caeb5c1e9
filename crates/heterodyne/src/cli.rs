//! The command line, for this project's binary and for binaries with their own methods (`examples/own_method.rs`).
use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{
    CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use heterodyne_run::recipe;
use heterodyne_train::world::Launch;

use crate::{
    commands::{self, Outcome},
    print::{self, tell},
    ui,
};

/// Knowledge distillation between vision networks of different families.
#[derive(Parser)]
#[command(name = "heterodyne", version, about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look at a folder of pictures and write recipes for it: teacher, student, and the student from labels alone
    Init(commands::init::Args),
    /// Train a network from labels alone, from scratch or from weights
    Train(commands::fit::Args),
    /// Distil a teacher into a student
    Distill(commands::fit::Args),
    /// Check all of a recipe without training: networks, data, teacher, one batch with gradients, memory and time
    Check(commands::check::Args),
    /// Compare methods, settings and seeds: all runs, a leaderboard and a report
    Compare(commands::compare::Args),
    /// Precompute teacher outputs for the training set
    Cache(commands::cache::Args),
    /// Time a training step, part by part
    Bench(commands::bench::Args),
    /// Evaluate weights on a dataset
    Eval(commands::eval::Args),
    /// Name the classes of pictures with a trained network
    Predict(commands::predict::Args),
    /// Write a network's logits, embeddings and stage features for images to a file
    Features(commands::features::Args),
    /// Show a network's taps, size and speed; for a pair, also what each method builds
    Inspect(commands::inspect::Args),
    /// Export a trained network to timm's format, TorchScript and ONNX
    Export(commands::export::Args),
    /// Repeat a finished run from its manifest, and compare metrics, accuracy and weights
    Reproduce(commands::reproduce::Args),
    /// Write an HTML report of runs
    Report(commands::report::Args),
    /// Distil a small ViT into a small CNN on the embedded digits with several methods (a few minutes)
    Demo(commands::demo::Args),
    /// List the models, their default inputs and options
    Models(commands::list::Filter),
    /// List the methods and their keys
    Methods(commands::list::Filter),
    /// List the tables of a recipe and their keys
    Recipe(commands::list::Filter),
    /// List the datasets, or describe one: splits, classes, sizes; checks that every image can be read
    Data(commands::data::Args),
}

/// Parses the process's arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    heterodyne_shim::keep_freed_memory();
    ui::survive_size_limits();
    let command = parse().command;
    // These commands produce files; for all others, the printed output is the result.
    let writes_files = matches!(
        command,
        Command::Init(_)
            | Command::Train(_)
            | Command::Distill(_)
            | Command::Compare(_)
            | Command::Cache(_)
            | Command::Demo(_)
    );
    let result = heterodyne_shim::cpu::check().map_err(Into::into).and_then(|()| run(command));
    match (result, print::lost()) {
        (Ok(Outcome::Done), Some(e)) if !writes_files => {
            tell!("error: the output could not be written ({e})");
            ExitCode::FAILURE
        }
        (Ok(Outcome::Done), _) => ExitCode::SUCCESS,
        // The shell's exit code for a program ended by Ctrl-C.
        (Ok(Outcome::Interrupted), _) => ExitCode::from(130),
        (Err(e), _) => {
            let text = format!("{e:#}");
            let lines: Vec<_> = text.lines().map(heterodyne_run::recipe::shortened).collect();
            tell!("error: {}", lines.join("\n"));
            // Every relative path fails there, with a misleading reason.
            if std::env::current_dir().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
                tell!(
                    "note: the working folder was deleted, so relative paths do not resolve; change to an existing \
                     folder"
                );
            }
            ExitCode::FAILURE
        }
    }
}

/// Parses the process's arguments. `--lr 0.1` is answered with `--set optim.lr=..` where recipes are read.
fn parse() -> Cli {
    let words: Vec<OsString> = std::env::args_os().map(at_home).collect();
    let takes_keys = |name: &OsString| {
        let cli = Cli::command();
        let found = name.to_str().and_then(|name| cli.find_subcommand(name));
        found.is_some_and(|command| command.get_arguments().any(|arg| arg.get_long() == Some("set")))
    };
    Cli::try_parse_from(&words).unwrap_or_else(|mut e| {
        if let Some(ContextValue::String(flag)) = e.get(ContextKind::InvalidArg)
            && e.kind() == ErrorKind::UnknownArgument
            && words.get(1).is_some_and(takes_keys)
            && let Some(key) = recipe::key_for(flag.trim_start_matches('-'))
        {
            let tip = format!("a recipe's keys are set by `--set {key}=VALUE`");
            e.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        }
        e.exit()
    })
}

/// Expands a `~` at the start of an argument or after `--option=`; the shell only does the former.
fn at_home(word: OsString) -> OsString {
    let Some(text) = word.to_str() else { return word };
    let home = |path: &str| recipe::home::expand(Path::new(path)).into_os_string();
    match text.split_once('=') {
        Some((option, path)) if option.starts_with("--") && path.starts_with('~') => {
            let mut word = OsString::from(format!("{option}="));
            word.push(home(path));
            word
        }
        _ if text.starts_with('~') => home(text),
        _ => word,
    }
}

fn run(command: Command) -> anyhow::Result<Outcome> {
    let shared = matches!(command, Command::Train(_) | Command::Distill(_) | Command::Cache(_));
    if let Some(launch) = Launch::from_env().ok().flatten().filter(|_| !shared) {
        anyhow::bail!(
            "{} processes were launched (WORLD_SIZE), but only train, distill and cache work in several\n  hint: run \
             this command without the launcher",
            launch.size
        );
    }
    match command {
        Command::Init(args) => commands::init::run(&args),
        Command::Train(args) => commands::fit::run(&args, heterodyne_train::Mode::Train),
        Command::Distill(args) => commands::fit::run(&args, heterodyne_train::Mode::Distill),
        Command::Check(args) => commands::check::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Cache(args) => commands::cache::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Features(args) => commands::features::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Reproduce(args) => commands::reproduce::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Models(filter) => commands::list::models(&filter),
        Command::Methods(filter) => commands::list::methods(&filter),
        Command::Recipe(filter) => commands::list::recipe(&filter),
        Command::Data(args) => commands::data::run(&args),
    }
}
