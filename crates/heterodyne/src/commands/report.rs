//! `heterodyne report`: writes an HTML report of run folders.
use std::path::PathBuf;

use anyhow::Result;
use heterodyne_report::Group;

use super::Outcome;
use crate::print::say;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folders; runs that differ only in their seed form one row
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// HTML file to write
    #[arg(long, default_value = "report.html")]
    out: PathBuf,
    /// Title of the page
    #[arg(long, default_value = "heterodyne runs")]
    title: String,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let groups = heterodyne_report::groups(&args.runs)?;
    heterodyne_report::write(&args.out, &args.title, "", &groups)?;
    let loaded = groups.iter().map(Group::load).collect::<Result<Vec<_>, _>>()?;
    say!("{}\n{}", heterodyne_report::table(&loaded), args.out.display());
    Ok(Outcome::Done)
}
