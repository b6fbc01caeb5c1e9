//! What lies behind the accuracies: weak classes, calibration, agreement with the teacher.
use heterodyne_run::summary::{ClassScore, Detail};
use indexmap::IndexMap;

use super::section as titled;
use crate::{Loaded, Run, markup::escape, stats};

/// Number of classes that are named.
const SHOWN: usize = 5;

/// A row for each group with finished runs; nothing if no run has details.
pub fn section(groups: &[Loaded]) -> String {
    let rows: String = groups.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let body = format!(
        "<p>Means over the seeds, after the last epoch. The calibration error is the expected one with 15 bins: how \
         far confidence is from accuracy. Agreement is the share of images for which student and teacher predict the \
         same class.</p>\n<div class=\"scroll\">\n<table>\n<thead><tr><th class=\"left\">Method</th>\
         <th>Calibration error</th><th>Agreement</th><th class=\"left\">Weakest classes</th></tr></thead>\n<tbody>\n\
         {rows}</tbody>\n</table>\n</div>\n"
    );
    titled("Classes and calibration", &body)
}

fn row(group: &Loaded) -> Option<String> {
    let finished = group.runs.iter().filter(|run| run.result().is_some());
    let details: Vec<&Detail> = finished.filter_map(|run: &Run| run.summary.detail.as_ref()).collect();
    let mean = |values: Vec<f64>| stats::mean(&values).map_or_else(|| "–".to_owned(), |mean| format!("{mean:.1} %"));
    if details.is_empty() {
        return None;
    }
    Some(format!(
        "<tr><td class=\"left\">{}</td><td>{}</td><td>{}</td><td class=\"left\">{}</td></tr>\n",
        escape(&group.name),
        mean(details.iter().map(|d| d.calibration_error).collect()),
        mean(details.iter().filter_map(|d| Some(d.agreement?.percent)).collect()),
        escape(weakest(&details))
    ))
}

/// The classes with the lowest accuracy over all runs, such as `ash 61 %, elm 64 %`.
fn weakest(details: &[&Detail]) -> String {
    let mut classes: IndexMap<&str, (u64, u64)> = IndexMap::new();
    for ClassScore { class, images, correct } in details.iter().flat_map(|d| &d.classes) {
        let (all, right) = classes.entry(class).or_default();
        *all += images;
        *right += correct;
    }
    let measured = classes.into_iter().filter(|(_, (all, _))| *all > 0);
    let mut by_accuracy: Vec<(&str, f64)> =
        measured.map(|(class, (all, right))| (class, 100.0 * right as f64 / all as f64)).collect();
    by_accuracy.sort_by(|a, b| a.1.total_cmp(&b.1));
    by_accuracy.iter().take(SHOWN).map(|(class, top1)| format!("{class} {top1:.0} %")).collect::<Vec<_>>().join(", ")
}
