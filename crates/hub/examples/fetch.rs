//! Fetches models by name, with the settings of the environment, and prints their paths: `cargo run -p heterodyne-hub
//! --example fetch hf-hub:owner/name`.
use std::process::ExitCode;

use heterodyne_hub::{Error, Files, Name, fetch};

fn main() -> ExitCode {
    for name in std::env::args().skip(1) {
        match get(&name) {
            Ok(files) => {
                println!("commit {}", files.commit);
                println!("config {}", files.config.map_or_else(|| "none".into(), |path| path.display().to_string()));
                println!("weights {}", files.weights.display());
            }
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn get(name: &str) -> Result<Files, Error> {
    fetch(&name.parse::<Name>()?, |progress| eprintln!("{} {}/{}", progress.file, progress.done, progress.total))
}
