//! What a comparison ends with: the table, the report and `summary.json`.
use anyhow::{Result, bail};
use heterodyne_report::{Board, Group, Loaded};
use heterodyne_run::folder;
use serde_json::{Value, json};

use super::{
    comparison::Comparison,
    inputs,
    pool::{Failure, Jobs},
};
use crate::print::{say, tell};

/// Prints the table of the runs that exist.
pub fn show(comparison: &Comparison) -> Result<()> {
    say!("{}", heterodyne_report::table(&load(&comparison.groups())?).trim_end());
    note(&inputs::replaced(comparison)?);
    Ok(())
}

/// Writes `report.html` and `summary.json`; prints the table and where they are.
pub fn write(comparison: &Comparison, title: &str, command: &str, jobs: Jobs, failures: &[Failure]) -> Result<()> {
    let groups = comparison.groups();
    let loaded = load(&groups)?;
    let [report, summary] = ["report.html", "summary.json"].map(|name| comparison.out.join(name));
    let replaced = inputs::replaced(comparison)?;
    heterodyne_report::write(&report, title, &replaced.join("\n\n"), &groups)?;
    let board = Board::of(&loaded);
    let mut json = board.json();
    // The board's rows are in the order of their accuracy.
    for (standing, row) in board.rows.iter().zip(json["rows"].as_array_mut().into_iter().flatten()) {
        let about = &comparison.rows[standing.position];
        row["position"] = standing.position.into();
        row["group"] = about.group.into();
        row["method"] = about.method.as_str().into();
        row["variant"] = about.variant.as_str().into();
        row["variant_of"] = about.variant_of.clone().into();
        row["folder"] = about.folder.as_str().into();
    }
    let failed: Vec<Value> = failures.iter().map(|f| json!({"run": f.run, "reason": f.reason})).collect();
    let about = json!({
        "command": command, "seeds": comparison.seeds, "jobs": jobs.count, "threads": jobs.threads,
        "teachers": json["teachers"], "rows": json["rows"], "failures": failed, "replaced": replaced,
    });
    folder::write_json_atomic(&summary, &about)?;
    say!("\n{}", heterodyne_report::table(&loaded));
    say!("report   {}", report.display());
    say!("summary  {}", summary.display());
    note(&replaced);
    Ok(())
}

fn note(replaced: &[String]) {
    replaced.iter().for_each(|line| tell!("note: {line}"));
    if !replaced.is_empty() {
        tell!("hint: remove the folders of the runs with the former files; the same command runs them again");
    }
}

/// An error that lists the failed runs; nothing if there are none.
pub fn failed(failures: &[Failure], total: usize) -> Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    let indented = |text: &str| text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n");
    let lines = failures.iter().map(|f| format!("  {}\n{}", f.run, indented(&f.reason)));
    bail!("{} of {total} runs failed\n{}", failures.len(), lines.collect::<Vec<_>>().join("\n"));
}

fn load(groups: &[Group]) -> Result<Vec<Loaded>> {
    Ok(groups.iter().map(Group::load).collect::<Result<_, _>>()?)
}
