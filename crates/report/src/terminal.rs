//! The table for a terminal.
use crate::{Loaded, load, stats};

/// Method, mean ± sample standard deviation of the test top-1 after the last epoch, the value of each seed, training
/// time of one run, and the difference from the baseline if there is one. Below the table: the teachers, and the runs
/// that did not finish.
#[must_use]
pub fn table(groups: &[Loaded]) -> String {
    let compared = groups.iter().any(|group| load::baseline(groups, group).is_some());
    let mut rows = vec![["method", "test top-1 %", "each seed", "s per run"].map(str::to_owned).to_vec()];
    if compared {
        rows[0].push("vs scratch".to_owned());
    }
    for group in groups {
        let results = group.results();
        let seeds: Vec<String> = results.iter().map(|r| format!("{r:.2}")).collect();
        let seconds = group.seconds().map_or_else(|| "–".to_owned(), |s| format!("{s:.1}"));
        let mut row = vec![group.name.clone(), stats::spread(&results), seeds.join("  "), seconds];
        if compared {
            row.push(difference(groups, group));
        }
        rows.push(row);
    }
    let columns = rows[0].len();
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        // Names and seeds are left-aligned, numbers right-aligned.
        let cells = row.iter().enumerate().map(|(c, cell)| {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            if matches!(c, 0 | 2) { format!("{cell}{pad}") } else { format!("{pad}{cell}") }
        });
        out.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        out.push('\n');
    }
    for teacher in load::teachers(groups) {
        out.push_str(&teacher);
        out.push('\n');
    }
    for group in groups {
        for run in group.runs.iter().filter(|r| r.result().is_none()) {
            out.push_str(&format!("{}, seed {}: not counted ({})\n", group.name, run.summary.seed, why_not(run)));
        }
    }
    out
}

/// Why a run has no result, in one line.
pub fn why_not(run: &crate::Run) -> String {
    let state = run.state();
    match (state.lines().next().unwrap_or_default().trim_end_matches('.'), run.summary.epochs) {
        ("finished", _) => "finished without an evaluation on test images".to_owned(),
        (state, 0) => state.to_owned(),
        (state, 1) => format!("{state}, after 1 epoch"),
        (state, epochs) => format!("{state}, after {epochs} epochs"),
    }
}

/// The difference from the group's baseline in points, such as `+1.25`; a dash without one.
pub fn difference(groups: &[Loaded], group: &Loaded) -> String {
    let base = load::baseline(groups, group).and_then(Loaded::mean);
    group.mean().zip(base).map_or_else(|| "–".to_owned(), |(own, base)| format!("{:+.2}", own - base))
}
