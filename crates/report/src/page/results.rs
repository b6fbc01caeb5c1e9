//! The main results as a table and a dot plot, and the cost of the runs.
use indexmap::IndexSet;

use super::{both, section as titled};
use crate::{
    Board, Loaded, Reference, Run, Standing, Teacher,
    chart::{Dots, Row},
    markup::{escape, table},
    stats,
    terminal::why_not,
};

/// The results table and the dot plot.
pub fn section(groups: &[Loaded]) -> String {
    let board = Board::of(groups);
    let pairs = pairs(groups);
    let columns = Columns {
        with_pair: pairs.len() > 1,
        with_best: groups.iter().flat_map(|g| &g.runs).any(|r| r.best().is_some()),
        board: &board,
    };
    let (head, left) = columns.head();
    let teachers = board.teachers.iter().map(|teacher| columns.teacher(teacher, head.len()));
    let rows: Vec<Vec<String>> = teachers.chain(board.rows.iter().map(|row| columns.row(row))).collect();
    let mut body = summary_line(groups, &pairs);
    body.push_str(&table(&head, &rows, &left));
    body.push_str(
        "<p class=\"note\">Accuracy on the test images after the last epoch: mean ± sample standard deviation over \
         seeds.",
    );
    if !board.references.is_empty() {
        body.push_str(
            " Differences are paired by seed: their mean, and in brackets its 95 % interval over seeds (Student&#39;s \
             t, from two seeds on).",
        );
    }
    if board.references.contains(&Reference::First) {
        body.push_str(" A row that varies another is also compared with it (vs first).");
    }
    if groups.iter().flat_map(|g| &g.runs).any(|r| r.best().is_some() && r.summary.selected_on == "test") {
        body.push_str(
            " A best epoch selected on the test images themselves is optimistically biased; do not report it as a \
             result.",
        );
    }
    body.push_str("</p>\n");
    body.push_str(&uncounted(groups));
    body.push_str(&dots(groups, Reference::Scratch.shared(groups)));
    titled("Results", &body)
}

/// The columns of the results table. Accuracy comes second, so a narrow window shows it beside the name.
struct Columns<'b> {
    board: &'b Board<'b>,
    /// Whether each row names its networks.
    with_pair: bool,
    with_best: bool,
}

impl Columns<'_> {
    /// The heads, and which columns are text.
    fn head(&self) -> (Vec<String>, Vec<usize>) {
        let mut head = vec!["method".to_owned(), "test top-1, last epoch, %".to_owned()];
        if self.board.holds_out {
            head.push("held-out top-1, %".to_owned());
        }
        head.extend(self.board.references.iter().map(|r| format!("vs {}", r.name())));
        let mut left = vec![0, head.len()];
        head.push("each seed".to_owned());
        if self.with_best {
            left.push(head.len() + 1);
            head.extend(["best epoch, %".to_owned(), "best epoch selected on".to_owned()]);
        }
        head.push("seconds per run".to_owned());
        (head, left)
    }

    fn teacher(&self, teacher: &Teacher, columns: usize) -> Vec<String> {
        let mut row = vec![String::new(); columns];
        row[0] = format!("<strong>teacher</strong><br><small>{}</small>", escape(teacher.about()));
        row[if teacher.split == "test" || !self.board.holds_out { 1 } else { 2 }] = format!("{:.2}", teacher.top1);
        row
    }

    fn row(&self, row: &Standing) -> Vec<String> {
        let group = row.group;
        let networks =
            if self.with_pair { format!("<br><small>{}</small>", escape(pair(group))) } else { String::new() };
        let mut cells = vec![format!("<strong>{}</strong>{networks}", escape(&group.name))];
        cells.push(format!("<strong>{}</strong>", stats::spread(&group.results())));
        if self.board.holds_out {
            cells.push(stats::spread(&group.held_out().into_values().collect::<Vec<_>>()));
        }
        cells.extend(self.board.shown(row).iter().map(|d| match d {
            None => "–".to_owned(),
            Some(d) => match d.interval {
                None => format!("{:+.2}", d.mean),
                Some((low, high)) => format!("{:+.2}<br><small>[{low:+.2}, {high:+.2}]</small>", d.mean),
            },
        }));
        cells.push(seeds(group));
        if self.with_best {
            let best: Vec<f64> = group.runs.iter().filter_map(Run::best).collect();
            cells.extend([stats::spread(&best), chosen_on(group)]);
        }
        cells.push(group.seconds().map_or_else(|| "–".to_owned(), |s| format!("{s:.1}")));
        cells
    }
}

/// `teacher → student`, or the student alone.
fn pair(group: &Loaded) -> String {
    let Some(run) = group.runs.first() else { return String::new() };
    match &run.summary.teacher {
        Some(teacher) => format!("{teacher} → {}", run.summary.student),
        None => run.summary.student.clone(),
    }
}

/// The distinct pairs. A student without a teacher is listed only if no pair has the same student: a scratch row needs
/// no entry.
fn pairs(groups: &[Loaded]) -> IndexSet<String> {
    let taught = |g: &&Loaded| g.runs.first().is_some_and(|r| r.summary.teacher.is_some());
    let mut out: IndexSet<String> = groups.iter().filter(taught).map(pair).collect();
    let pupils: Vec<String> = out.iter().cloned().collect();
    let alone = groups.iter().filter(|g| !g.runs.is_empty() && !taught(g)).map(pair);
    out.extend(alone.filter(|student| !pupils.iter().any(|p| p.ends_with(&format!("→ {student}")))));
    out
}

fn summary_line(groups: &[Loaded], pairs: &IndexSet<String>) -> String {
    let runs: Vec<&Run> = groups.iter().flat_map(|g| &g.runs).collect();
    let data: IndexSet<&str> = runs.iter().filter_map(|r| r.data()).collect();
    let images: IndexSet<u64> = runs.iter().filter_map(|r| r.summary.last.as_ref()).map(|last| last.images).collect();
    let mut parts = vec![format!("{} {}", runs.len(), if runs.len() == 1 { "run" } else { "runs" })];
    if !data.is_empty() {
        parts.push(data.into_iter().collect::<Vec<_>>().join(", "));
    }
    if images.len() == 1 {
        parts.extend(images.first().map(|n| format!("{n} test images")));
    }
    if pairs.len() <= 3 {
        parts.extend(pairs.iter().cloned());
    }
    format!(
        "<p class=\"facts\">{}</p>\n",
        parts.iter().map(|p| format!("<span>{}</span>", escape(p))).collect::<Vec<_>>().join(" ")
    )
}

/// Each seed's result.
fn seeds(group: &Loaded) -> String {
    let one = |run: &Run| {
        run.result().map(|top1| format!("<span class=\"seed\" title=\"seed {}\">{top1:.2}</span>", run.summary.seed))
    };
    group.runs.iter().filter_map(one).collect::<Vec<_>>().join(" ")
}

fn chosen_on(group: &Loaded) -> String {
    let chosen: IndexSet<&str> =
        group.runs.iter().filter(|r| r.best().is_some()).map(|r| r.summary.selected_on.as_str()).collect();
    let word = |on: &str| match on {
        "validation" => "held-out images".to_owned(),
        "test" => "<em>test images</em>".to_owned(),
        other => escape(other),
    };
    if chosen.is_empty() { "–".to_owned() } else { chosen.into_iter().map(word).collect::<Vec<_>>().join(", ") }
}

/// The runs without a result, with the reason.
fn uncounted(groups: &[Loaded]) -> String {
    let items: String = groups
        .iter()
        .flat_map(|g| g.runs.iter().map(move |r| (g, r)))
        .filter(|(_, run)| run.result().is_none() && run.held_out().is_none())
        .map(|(group, run)| {
            format!(
                "<li><strong>{}</strong>, seed {}: {}</li>\n",
                escape(&group.name),
                run.summary.seed,
                escape(why_not(run))
            )
        })
        .collect();
    if items.is_empty() {
        items
    } else {
        format!("<div class=\"warning\"><p>Not counted above:</p>\n<ul>\n{items}</ul></div>\n")
    }
}

fn dots(groups: &[Loaded], scratch: Option<&Loaded>) -> String {
    let rows: Vec<Row> = groups
        .iter()
        .enumerate()
        .map(|(look, group)| Row {
            name: group.name.clone(),
            look,
            values: group.runs.iter().filter_map(|r| Some((r.result()?, r.summary.seed))).collect(),
            summary: stats::spread(&group.results()),
        })
        .collect();
    let reference = scratch.filter(|_| groups.len() > 1).and_then(|g| Some((g.mean()?, format!("{} mean", g.name))));
    let plot = Dots {
        label: "Test accuracy of each seed, by method".to_owned(),
        x: "test top-1, last epoch, %",
        rows,
        reference,
    };
    format!(
        "<figure>\n{}<figcaption>One mark per seed; the bar marks their mean.</figcaption>\n</figure>\n",
        both(&plot.svg(880.0), &plot.svg(360.0))
    )
}

/// The cost of the runs.
pub fn speed(groups: &[Loaded]) -> String {
    let head = [
        "method",
        "training images/s",
        "time waiting for data",
        "seconds per run",
        "seconds per evaluation",
        "device",
        "precision",
        "parameters",
    ];
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|group| {
            let runs = group.shown();
            let mean = |value: &dyn Fn(&Run) -> Option<f64>| {
                stats::mean(&runs.iter().filter_map(|r| value(r)).collect::<Vec<_>>())
            };
            let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
            let words = |value: &dyn Fn(&Run) -> String| {
                let all: IndexSet<String> = runs.iter().map(|r| value(r)).filter(|w| !w.is_empty()).collect();
                or_dash((!all.is_empty()).then(|| escape(all.into_iter().collect::<Vec<_>>().join(", "))))
            };
            vec![
                format!("<strong>{}</strong>", escape(&group.name)),
                or_dash(mean(&|r| Some(r.summary.images_per_second).filter(|v| *v > 0.0)).map(|v| format!("{v:.0}"))),
                or_dash(mean(&|r| r.data_wait()).map(|v| format!("{:.1} %", 100.0 * v))),
                or_dash(mean(&|r| Some(r.summary.seconds).filter(|v| *v > 0.0)).map(|v| format!("{v:.1}"))),
                or_dash(mean(&|r| r.summary.last.as_ref().map(|last| last.seconds)).map(|v| format!("{v:.2}"))),
                words(&|r| r.summary.device.clone()),
                words(&|r| r.summary.precision.clone()),
                words(&|r| {
                    if r.summary.parameters > 0 {
                        format!("{:.2} M", r.summary.parameters as f64 / 1e6)
                    } else {
                        String::new()
                    }
                }),
            ]
        })
        .collect();
    titled("Speed", &table(&head.map(str::to_owned), &rows, &[0, 5, 6]))
}
