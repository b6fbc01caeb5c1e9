//! The `heterodyne` command.
use std::process::ExitCode;

fn main() -> ExitCode {
    heterodyne::cli::main()
}
