//! Training curves.
use heterodyne_run::Metric;
use indexmap::IndexSet;

use super::{full_width, section};
use crate::{
    Loaded,
    chart::{Lines, Series, Size, legend, lines::bundle},
    markup::escape,
};

/// Test accuracy over epochs.
pub fn accuracy(groups: &[Loaded]) -> String {
    let series = groups.iter().enumerate().map(|(look, group)| {
        let runs: Vec<Vec<(f64, f64)>> =
            group.shown().iter().map(|r| r.evals().map(|e| (e.epoch, e.top1)).collect()).collect();
        Series { name: group.name.clone(), look, points: bundle(&runs) }
    });
    let series: Vec<Series> = series.filter(|s| !s.points.is_empty()).collect();
    let lines = Lines {
        label: "Test accuracy over epochs".to_owned(),
        x: "epoch",
        y: "test top-1, %",
        series,
        log: false,
        percent: true,
    };
    let note = "<p class=\"note\">Mean over seeds; the band spans the lowest to the highest seed.</p>\n";
    section("Accuracy over epochs", &format!("{}{note}", full_width(&lines)))
}

/// The values of one training metric, per run, over steps.
fn over_steps(group: &Loaded, value: impl Fn(&Metric) -> Option<f64>) -> Vec<Vec<(f64, f64)>> {
    group
        .shown()
        .iter()
        .map(|r| r.metrics.iter().filter_map(|m| Some((m.step() as f64, value(m)?))).collect())
        .collect()
}

/// The loss terms, one small chart per method.
pub fn losses(groups: &[Loaded]) -> String {
    let mut names: IndexSet<String> = IndexSet::new();
    for metric in groups.iter().flat_map(|g| g.shown()).flat_map(|r| &r.metrics) {
        if let Metric::Train { terms, .. } = metric {
            names.extend(terms.keys().cloned());
        }
    }
    let mut charts = String::new();
    for group in groups {
        let mut series = Vec::new();
        for (look, name) in names.iter().enumerate() {
            let runs = over_steps(group, |m| match m {
                Metric::Train { terms, .. } => terms.get(name).copied(),
                Metric::Eval(_) => None,
            });
            let points = bundle(&runs);
            if !points.is_empty() {
                series.push(Series { name: name.clone(), look, points });
            }
        }
        let values = || series.iter().flat_map(|s| &s.points).flat_map(|p| [p.lo, p.hi]);
        let (lo, hi) = values().fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(v), hi.max(v)));
        let lines = Lines {
            label: format!("Loss terms of {}", group.name),
            x: "step",
            y: "loss",
            log: lo > 0.0 && hi / lo > 30.0,
            series,
            percent: false,
        };
        charts.push_str(&format!(
            "<figure>\n<h3>{}</h3>\n{}{}</figure>\n",
            escape(&group.name),
            lines.svg(Size { w: 420.0, h: 260.0 }),
            legend(lines.series.iter().map(|s| (s.look, s.name.as_str())))
        ));
    }
    let note = "<p class=\"note\">Terms are unweighted. The axis is logarithmic if terms differ by more than a factor \
        of 30.</p>\n";
    section("Loss terms", &format!("<div class=\"panels\">\n{charts}</div>\n{note}"))
}

/// Learning rate over steps; methods with the same curve share a line.
pub fn rates(groups: &[Loaded]) -> String {
    let mut series: Vec<Series> = Vec::new();
    for (look, group) in groups.iter().enumerate() {
        let points = bundle(&over_steps(group, |m| match m {
            Metric::Train { lr, .. } => Some(*lr),
            Metric::Eval(_) => None,
        }));
        match series.iter_mut().find(|s| s.points == points) {
            _ if points.is_empty() => {}
            Some(same) => same.name = format!("{}, {}", same.name, group.name),
            None => series.push(Series { name: group.name.clone(), look, points }),
        }
    }
    let lines = Lines {
        label: "Learning rate over steps".to_owned(),
        x: "step",
        y: "learning rate",
        series,
        log: false,
        percent: false,
    };
    section("Learning rate", &full_width(&lines))
}
