//! Published results for the same networks, for context.
use indexmap::IndexSet;

use super::section as titled;
use crate::{
    Loaded,
    markup::{escape, table},
    published::{Pair, Trust, published},
    stats,
};

/// A table of the published results for the pairs of these runs. Empty if there are none, or if the data is not
/// CIFAR-100.
pub fn section(groups: &[Loaded]) -> String {
    let mut pairs: Vec<(&'static Pair, Vec<&Loaded>)> = Vec::new();
    for group in groups {
        let Some(run) = group.runs.first().filter(|r| r.data().is_none_or(|data| data == "cifar100")) else { continue };
        let Some(pair) = run.summary.teacher.as_ref().and_then(|teacher| published(teacher, &run.summary.student))
        else {
            continue;
        };
        match pairs.iter_mut().find(|(known, _)| *known == pair) {
            Some((_, groups)) => groups.push(group),
            None => pairs.push((pair, vec![group])),
        }
    }
    let columns: IndexSet<&str> = pairs.iter().flat_map(|(pair, _)| pair.numbers).map(|(name, _)| *name).collect();
    if pairs.is_empty() {
        return String::new();
    }
    let mut head = vec!["networks".to_owned(), "source".to_owned()];
    head.extend(columns.iter().map(escape));
    let mut rows = Vec::new();
    for (pair, groups) in &pairs {
        let mut row =
            vec![escape(format!("{} → {}", pair.teacher, pair.student)), format!("published, {} px", pair.img)];
        row.extend(columns.iter().map(|column| {
            pair.numbers.iter().find(|(name, _)| name == column).map_or_else(String::new, |(_, n)| {
                let mark = match n.trust {
                    Trust::Read => "",
                    Trust::Recalled => "<sup>a</sup>",
                    Trust::Secondary => "<sup>b</sup>",
                    Trust::Low => "<sup>c</sup>",
                };
                format!("{:.2}{mark}", n.top1)
            })
        }));
        rows.push(row);
        // The row of these runs follows, with each group under the published method of the same name.
        let own = |column: &str| {
            groups
                .iter()
                .find(|g| g.name.eq_ignore_ascii_case(column))
                .map_or_else(String::new, |g| stats::spread(&g.results()))
        };
        let cells: Vec<String> = columns.iter().map(|column| own(column)).collect();
        if cells.iter().any(|c| !c.is_empty()) {
            let mut row = vec![String::new(), "these runs".to_owned()];
            row.extend(cells);
            rows.push(row);
        }
    }
    let note = "<p class=\"note\">Top-1 on CIFAR-100 in percent, for context only: the published numbers come from \
        other code and other recipes (300 epochs at 224 px, 240 at 32 px), mostly from one seed, and often from the \
        best of all test evaluations. <sup>a</sup> not checked against a source; the column reproduces a published \
        average. <sup>b</sup> quoted by a third party. <sup>c</sup> quoted by an unreliable third party.</p>\n";
    titled("Published results, for context", &format!("{}{note}", table(&head, &rows, &[0, 1])))
}
