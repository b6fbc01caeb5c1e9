//! The command line.
use std::process::ExitCode;

fn main() -> ExitCode {
    heterodyne::cli::main()
}
