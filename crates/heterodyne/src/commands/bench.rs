//! `heterodyne bench`: times a recipe's training step, part by part.
use std::path::PathBuf;

use anyhow::{Result, bail};
use heterodyne_run::recipe::Layered;
use heterodyne_train::{Mode, Plan, analysis::bench};

use super::Outcome;
use crate::{print::say, ui};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipe (TOML), with or without a teacher
    recipe: PathBuf,
    /// Override a key of the recipe, for example --set train.batch=128; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Number of timed steps
    #[arg(long, default_value_t = 20, value_name = "N")]
    steps: usize,
    /// Number of untimed steps before them
    #[arg(long, default_value_t = 3, value_name = "N")]
    warm_up: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Also list the N slowest operators
    #[arg(long, default_value_t = 0, value_name = "N")]
    operators: usize,
    /// Use only libtorch's operators, none of this project's kernels
    #[arg(long)]
    plain: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    if args.steps == 0 {
        bail!("--steps 0 times nothing: give at least 1");
    }
    heterodyne_shim::flops::set_plain(args.plain);
    let layered = Layered::read(&args.recipe, &args.sets)?;
    let mode = if layered.recipe()?.teacher.is_some() { Mode::Distill } else { Mode::Train };
    let session = ui::session(Plan::resolve(&layered, mode)?, None)?;
    let m = bench::measure(&session, args.steps, args.warm_up, args.json || args.operators > 0)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&m)?);
        return Ok(Outcome::Done);
    }
    say!("{} on {}, {} threads, batch {}, {} steps", session.data, m.device, m.threads, m.batch, m.steps);
    say!(
        "step        {:9.2} ms   ({:.2} to {:.2}), {:.0} img/s",
        m.step_ms,
        m.step_range_ms[0],
        m.step_range_ms[1],
        m.images_per_second
    );
    let total: f64 = m.split_ms.values().sum();
    for (part, ms) in &m.split_ms {
        say!("  {part:10}{ms:9.2} ms   {:5.1} %", 100.0 * ms / total);
    }
    say!(
        "arithmetic  {:9.2} GFLOP per step, {:.0} GFLOP/s; peaks {:.0} (matmul) and {:.0} (3x3 convolution): {:.0} % \
         of the step",
        m.gflop,
        m.gflops,
        m.peak_gflops.matmul,
        m.peak_gflops.convolution,
        100.0 * m.flops_ratio
    );
    let show = |mb: Option<f64>| mb.map_or_else(|| "unknown".to_owned(), |mb| format!("{mb:.0} MB"));
    say!(
        "memory      {:>9} at peak{}",
        show(m.peak_rss_mb),
        m.peak_device_mb.map_or_else(String::new, |mb| format!(", {mb:.0} MB on the GPU"))
    );
    for bench::Operator { name, calls, ms } in m.operators.iter().take(args.operators) {
        say!("{ms:12.2} ms {calls:7.1} x  {name}");
    }
    Ok(Outcome::Done)
}
