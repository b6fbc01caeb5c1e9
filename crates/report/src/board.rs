//! The leaderboard: each teacher's accuracy, then the rows from the best to the worst, with their differences.
use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::{
    Loaded, Reference,
    stats::{self, Difference, Seeds},
};

/// A teacher's accuracy before the runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Teacher {
    /// Its model.
    pub model: String,
    /// `test` or `validation`.
    pub split: String,
    /// Top-1 accuracy, 0..100.
    pub top1: f64,
    /// Number of images.
    pub images: u64,
}

/// A row with its differences.
#[derive(Debug)]
pub struct Standing<'g> {
    /// The runs.
    pub group: &'g Loaded,
    /// Its place among the groups that were given.
    pub position: usize,
    /// The differences in test accuracy, in the order of the board's references.
    pub test: Vec<Option<Difference>>,
    /// The differences on the held-out images.
    pub held_out: Vec<Option<Difference>>,
}

/// The rows of a table in their order.
#[derive(Debug)]
pub struct Board<'g> {
    /// Each teacher once.
    pub teachers: Vec<Teacher>,
    /// What at least one row is compared with.
    pub references: Vec<Reference>,
    /// The best first: by test accuracy, or by held-out accuracy if nothing was measured on test images.
    pub rows: Vec<Standing<'g>>,
    /// Whether a run has test images.
    pub tested: bool,
    /// Whether a run has held-out images.
    pub holds_out: bool,
}

impl<'g> Board<'g> {
    /// The board of some rows.
    #[must_use]
    pub fn of(groups: &'g [Loaded]) -> Self {
        let tested = groups.iter().any(|group| !group.test().is_empty());
        let holds_out = groups.iter().any(|group| !group.held_out().is_empty());
        let compared = |reference: &Reference| groups.iter().any(|group| reference.of(groups, group).is_some());
        let references: Vec<Reference> = Reference::ALL.into_iter().filter(compared).collect();
        let rows = groups.iter().enumerate().map(|(position, group)| {
            let differences = |values: fn(&Loaded) -> Seeds| {
                let one = |r: &Reference| Difference::paired(&values(group), &r.of(groups, group).map(values)?);
                references.iter().map(one).collect()
            };
            Standing { group, position, test: differences(Loaded::test), held_out: differences(Loaded::held_out) }
        });
        let mut rows: Vec<Standing> = rows.collect();
        rows.sort_by(|a, b| a.group.better(b.group));
        Self { teachers: teachers(groups), references, rows, tested, holds_out }
    }

    /// The differences that the table shows: on the test images, if there are any.
    #[must_use]
    pub fn shown<'r>(&self, row: &'r Standing) -> &'r [Option<Difference>] {
        if self.tested { &row.test } else { &row.held_out }
    }

    /// The board for a file: `teachers` and `rows`.
    #[must_use]
    pub fn json(&self) -> Value {
        let row = |row: &Standing| {
            let group = row.group;
            let differences = |all: &[Option<Difference>]| -> serde_json::Map<String, Value> {
                let named = self.references.iter().zip(all);
                named.filter_map(|(r, d)| Some((r.name().to_owned(), difference(d.as_ref()?)))).collect()
            };
            let seconds: IndexMap<u64, f64> =
                group.runs.iter().filter(|r| r.finished()).map(|r| (r.summary.seed, r.summary.seconds)).collect();
            json!({
                "name": group.name,
                "test": spread(&group.test()),
                "held_out": spread(&group.held_out()),
                "differences": {"test": differences(&row.test), "held_out": differences(&row.held_out)},
                "seconds": spread(&seconds),
            })
        };
        let teacher = |t: &Teacher| json!({"model": t.model, "split": t.split, "top1": t.top1, "images": t.images});
        json!({
            "teachers": self.teachers.iter().map(teacher).collect::<Vec<_>>(),
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

fn numbers(seeds: &Seeds) -> Vec<f64> {
    seeds.values().copied().collect()
}

/// Mean, sample standard deviation and each seed's value; null without values.
fn spread(seeds: &Seeds) -> Value {
    let values = numbers(seeds);
    stats::mean(&values).map_or(Value::Null, |mean| json!({"mean": mean, "std": stats::std(&values), "each": seeds}))
}

fn difference(d: &Difference) -> Value {
    json!({"mean": d.mean, "interval": d.interval, "each": d.each})
}

fn teachers(groups: &[Loaded]) -> Vec<Teacher> {
    let mut found: Vec<Teacher> = Vec::new();
    for run in groups.iter().flat_map(|group| &group.runs) {
        let (Some(model), Some(score)) = (&run.summary.teacher, &run.summary.teacher_score) else { continue };
        let teacher =
            Teacher { model: model.clone(), split: score.split.clone(), top1: score.top1, images: score.images };
        if !found.contains(&teacher) {
            found.push(teacher);
        }
    }
    found
}

impl Teacher {
    /// `vit_nano, 500 test images`.
    #[must_use]
    pub fn about(&self) -> String {
        let split = if self.split == "test" { "test" } else { "held-out" };
        format!("{}, {} {split} images", self.model, self.images)
    }
}
