//! The table for a terminal.
use crate::{Board, Loaded, stats};

/// The leaderboard: teachers, then the rows from the best to the worst. Columns: mean ± sample standard deviation of
/// the test top-1 after the last epoch, the same on held-out images if there are any, the number of seeds,
/// training time of one run, the differences paired by seed with their 95 % interval. Below it, the runs that did not
/// finish.
#[must_use]
pub fn table(groups: &[Loaded]) -> String {
    let board = Board::of(groups);
    let mut head = vec!["method".to_owned(), "test top-1 %".to_owned()];
    if board.holds_out {
        head.push("held-out %".to_owned());
    }
    head.extend(["seeds", "s per run"].map(str::to_owned));
    head.extend(board.references.iter().map(|r| format!("vs {} [95 %]", r.name())));
    let mut rows = vec![head];
    for teacher in &board.teachers {
        let mut row = vec![String::new(); rows[0].len()];
        row[0] = format!("teacher ({})", teacher.about());
        row[if teacher.split == "test" || !board.holds_out { 1 } else { 2 }] = format!("{:.2}", teacher.top1);
        rows.push(row);
    }
    for row in &board.rows {
        let group = row.group;
        let finished = group.runs.iter().filter(|run| run.finished()).count();
        let seeds = if finished == group.runs.len() { String::new() } else { format!(" of {}", group.runs.len()) };
        let mut cells = vec![group.name.clone(), spread(&group.test())];
        if board.holds_out {
            cells.push(spread(&group.held_out()));
        }
        cells.push(format!("{finished}{seeds}"));
        cells.push(group.seconds().map_or_else(|| "–".to_owned(), |s| format!("{s:.1}")));
        cells.extend(board.shown(row).iter().map(|d| d.as_ref().map_or_else(|| "–".to_owned(), ToString::to_string)));
        rows.push(cells);
    }
    let mut out = aligned(&rows);
    for group in groups {
        for run in group.runs.iter().filter(|r| r.result().is_none() && r.held_out().is_none()) {
            out.push_str(&format!("{}, seed {}: not counted ({})\n", group.name, run.summary.seed, why_not(run)));
        }
    }
    out
}

fn spread(seeds: &stats::Seeds) -> String {
    stats::spread(&seeds.values().copied().collect::<Vec<_>>())
}

/// Columns under their heads: names left-aligned, numbers right-aligned.
fn aligned(rows: &[Vec<String>]) -> String {
    let width = |c: usize| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(c, cell)| {
            let pad = " ".repeat(widths[c] - cell.chars().count());
            if c == 0 { format!("{cell}{pad}") } else { format!("{pad}{cell}") }
        });
        out.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        out.push('\n');
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
