//! The command line, for this project's binary and for one with methods of one's own (`examples/own_method.rs`).
use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};
use heterodyne_run::recipe;

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
    /// Train a network from labels alone, from scratch or from weights
    Train(commands::fit::Args),
    /// Distil a teacher into a student
    Distill(commands::fit::Args),
    /// Precompute teacher outputs for the training set
    Cache(commands::cache::Args),
    /// Measure where the time of a training step goes
    Bench(commands::bench::Args),
    /// Measure the accuracy of weights on a dataset
    Eval(commands::eval::Args),
    /// Write a network's logits, embedding and stage features for images to a file
    Features(commands::features::Args),
    /// Show a network's taps, size and speed, and what the methods would build for a pair
    Inspect(commands::inspect::Args),
    /// Write a trained network for use elsewhere: timm, TorchScript, ONNX
    Export(commands::export::Args),
    /// Make one HTML page of runs
    Report(commands::report::Args),
    /// Distil a small ViT into a small CNN on the embedded digits with several methods; a few minutes
    Demo(commands::demo::Args),
    /// List the models, their default inputs and options
    Models(commands::list::Filter),
    /// List the methods and their keys
    Methods(commands::list::Filter),
    /// List the datasets, or look into one: its splits, classes, sizes, and whether every image can be read
    Data(commands::data::Args),
}

/// Reads the arguments of the process and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    heterodyne_shim::keep_freed_memory();
    ui::survive_size_limits();
    let command = Cli::parse_from(std::env::args_os().map(at_home)).command;
    // What these leave behind are files; the output of the others is what they were asked for.
    let writes_files =
        matches!(command, Command::Train(_) | Command::Distill(_) | Command::Cache(_) | Command::Demo(_));
    let result = heterodyne_shim::cpu::check().map_err(Into::into).and_then(|()| run(command));
    match (result, print::lost()) {
        (Ok(Outcome::Done), Some(e)) if !writes_files => {
            tell!("error: the output could not be written ({e})");
            ExitCode::FAILURE
        }
        (Ok(Outcome::Done), _) => ExitCode::SUCCESS,
        // The shell's code for a program that Ctrl-C ended.
        (Ok(Outcome::Interrupted), _) => ExitCode::from(130),
        (Err(e), _) => {
            let text = format!("{e:#}");
            let lines: Vec<_> = text.lines().map(heterodyne_run::recipe::shortened).collect();
            tell!("error: {}", lines.join("\n"));
            // Every relative name fails there, with a reason that would send its reader looking for the wrong thing.
            if std::env::current_dir().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
                tell!(
                    "note: the working folder was deleted, so relative names lead nowhere; change to a folder that \
                     exists"
                );
            }
            ExitCode::FAILURE
        }
    }
}

/// A word of the command line, a `~` at its start or behind `--option=` replaced; the shell does the first alone.
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
    match command {
        Command::Train(args) => commands::fit::run(&args, heterodyne_train::Mode::Train),
        Command::Distill(args) => commands::fit::run(&args, heterodyne_train::Mode::Distill),
        Command::Cache(args) => commands::cache::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Features(args) => commands::features::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Models(filter) => commands::list::models(&filter),
        Command::Methods(filter) => commands::list::methods(&filter),
        Command::Data(args) => commands::data::run(&args),
    }
}
