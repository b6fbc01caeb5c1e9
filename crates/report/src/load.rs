//! Reads run folders.
use std::{
    cmp::Ordering,
    path::{Path, PathBuf},
};

use heterodyne_run::{Eval, Metric, Result, RunFolder, Similarity, Status, Summary, Versions, metrics};
use serde_json::Value;

use crate::{
    plan::comparable,
    stats::{self, Seeds},
};

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its folder.
    pub path: PathBuf,
    /// How it ended; reconstructed from the plan and the metrics if there is no summary (see [`Run::ended`]).
    pub summary: Summary,
    /// Whether there is a summary: false during a run, and after it was killed.
    pub ended: bool,
    /// The measurements.
    pub metrics: Vec<Metric>,
    /// The resolved recipe.
    pub plan: Value,
    /// The similarity of the networks' features, if it was measured.
    pub similarity: Option<Similarity>,
}

/// A group with its runs.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The group's name.
    pub name: String,
    /// Its runs.
    pub runs: Vec<Run>,
    /// The group that this one is a variant of.
    pub variant_of: Option<String>,
}

impl Run {
    /// Reads a run folder. Absent metrics count as no measurements; a damaged file is an error.
    pub fn load(path: &Path) -> Result<Self> {
        let folder = RunFolder::open(path)?;
        let plan = folder.read_plan()?;
        let summary = folder.summary().exists().then(|| folder.read_summary()).transpose()?;
        let metrics = match summary.as_ref().and_then(|summary| summary.metrics) {
            _ if !folder.metrics().exists() => Vec::new(),
            Some(extent) => metrics::read_ended(&folder.metrics(), extent)?,
            None => metrics::read(&folder.metrics())?,
        };
        let ended = summary.is_some();
        let summary = summary.unwrap_or_else(|| unfinished(&plan, &metrics));
        let similarity =
            folder.similarity().exists().then(|| heterodyne_run::read_json(&folder.similarity())).transpose()?;
        Ok(Self { path: path.to_owned(), summary, ended, metrics, plan, similarity })
    }

    /// The result: top-1 (0..100) on the test images after the last epoch of a finished run.
    #[must_use]
    pub fn result(&self) -> Option<f64> {
        self.summary.last.as_ref().filter(|last| self.finished() && last.split == "test").map(|last| last.top1)
    }

    /// Top-1 (0..100) on the held-out images at the end of a finished run.
    #[must_use]
    pub fn held_out(&self) -> Option<f64> {
        let weights = self.summary.last.as_ref().map(|last| last.weights.as_str());
        let fits = |eval: &&Eval| eval.split == "validation" && weights.is_none_or(|kind| kind == eval.weights);
        let mut evals = self.metrics.iter().rev().filter_map(|metric| match metric {
            Metric::Eval(eval) => Some(eval),
            Metric::Train { .. } => None,
        });
        evals.find(fits).filter(|_| self.finished()).map(|eval| eval.top1)
    }

    /// Whether it completed all epochs.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.ended && self.summary.status == Status::Finished
    }

    /// The accuracy of the best epoch on the test images, however it was selected.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.result().and(self.summary.best.as_ref()).map(|best| best.top1)
    }

    /// Whether it was trained from labels alone.
    #[must_use]
    pub fn untaught(&self) -> bool {
        self.summary.teacher.is_none() && self.summary.methods.is_empty()
    }

    /// How it ended, as text.
    #[must_use]
    pub fn state(&self) -> String {
        match (self.ended, self.summary.status, &self.summary.error) {
            (false, ..) => "no summary: still running, or killed".to_owned(),
            (true, Status::Failed, Some(error)) => format!("failed: {error}"),
            (true, status, _) => status.name().to_owned(),
        }
    }

    /// The test evaluations, in order, of the kind of weights with which the result was measured.
    pub fn evals(&self) -> impl Iterator<Item = &Eval> {
        let weights = self.summary.last.as_ref().map_or("live", |last| last.weights.as_str());
        self.metrics.iter().filter_map(move |metric| match metric {
            Metric::Eval(eval) if eval.split == "test" && eval.weights == weights => Some(eval),
            _ => None,
        })
    }

    /// The dataset's name.
    #[must_use]
    pub fn data(&self) -> Option<&str> {
        self.plan.pointer("/data/name").and_then(Value::as_str)
    }

    /// Mean fraction (0..1) of the training time spent waiting for data.
    #[must_use]
    pub fn data_wait(&self) -> Option<f64> {
        let waits: Vec<f64> = self
            .metrics
            .iter()
            .filter_map(|metric| match metric {
                Metric::Train { data_wait, .. } => Some(*data_wait),
                Metric::Eval(_) => None,
            })
            .collect();
        stats::mean(&waits)
    }
}

impl Loaded {
    /// The results of the finished runs.
    #[must_use]
    pub fn results(&self) -> Vec<f64> {
        self.runs.iter().filter_map(Run::result).collect()
    }

    /// Their mean.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        stats::mean(&self.results())
    }

    /// Their sample standard deviation; `None` for fewer than two.
    #[must_use]
    pub fn std(&self) -> Option<f64> {
        stats::std(&self.results())
    }

    /// Mean wall time of training of the finished runs, in seconds.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        stats::mean(&self.runs.iter().filter(|r| r.finished()).map(|r| r.summary.seconds).collect::<Vec<_>>())
    }

    /// The runs whose curves are drawn: the finished ones, or all if none has finished.
    #[must_use]
    pub fn shown(&self) -> Vec<&Run> {
        let finished: Vec<&Run> = self.runs.iter().filter(|r| r.result().is_some()).collect();
        if finished.is_empty() { self.runs.iter().collect() } else { finished }
    }

    /// Top-1 on the test images by seed.
    #[must_use]
    pub fn test(&self) -> Seeds {
        self.by_seed(Run::result)
    }

    /// Top-1 on the held-out images by seed.
    #[must_use]
    pub fn held_out(&self) -> Seeds {
        self.by_seed(Run::held_out)
    }

    /// Orders rows from the best to the worst: by test accuracy, then by held-out accuracy.
    #[must_use]
    pub fn better(&self, other: &Self) -> Ordering {
        let score = |group: &Self| {
            [group.test(), group.held_out()]
                .map(|seeds| stats::mean(&seeds.into_values().collect::<Vec<_>>()).unwrap_or(f64::NEG_INFINITY))
        };
        let ([test, held_out], [other_test, other_held_out]) = (score(self), score(other));
        other_test.total_cmp(&test).then(other_held_out.total_cmp(&held_out))
    }

    fn by_seed(&self, value: impl Fn(&Run) -> Option<f64>) -> Seeds {
        self.runs.iter().filter_map(|run| Some((run.summary.seed, value(run)?))).collect()
    }
}

/// The finished runs in the folders beside `run` that trained the same student on the same data for as many epochs,
/// from labels alone. Folders that cannot be read are left out.
#[must_use]
pub fn scratch_runs(run: &Run) -> Vec<Run> {
    let beside = run.path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let folders = beside.and_then(|beside| std::fs::read_dir(beside).ok()).into_iter().flatten().flatten();
    let mut found: Vec<Run> = folders
        .map(|entry| entry.path())
        .filter(|path| RunFolder::is_one(path))
        .filter_map(|path| Run::load(&path).ok())
        .filter(|other| other.untaught() && other.result().is_some() && comparable(other, run))
        .collect();
    found.sort_by_key(|run| run.summary.seed);
    found
}

/// A provisional summary of a run that has not written one.
fn unfinished(plan: &Value, metrics: &[Metric]) -> Summary {
    let text = |pointer: &str| plan.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let last = metrics.iter().rev().find_map(|metric| match metric {
        Metric::Eval(eval) if eval.split == "test" => Some(eval.clone()),
        _ => None,
    });
    let (epochs, seconds, speed) = metrics
        .iter()
        .rev()
        .find_map(|metric| match metric {
            Metric::Train { epoch, seconds, images_per_second, .. } => Some((*epoch, *seconds, *images_per_second)),
            Metric::Eval(_) => None,
        })
        .unwrap_or_default();
    Summary {
        name: text("/name").unwrap_or_default(),
        command: if plan.get("teacher").is_some() { "distill" } else { "train" }.to_owned(),
        status: Status::Interrupted,
        error: None,
        student: text("/student/model").unwrap_or_default(),
        teacher: text("/teacher/model"),
        teacher_score: None,
        methods: plan.get("methods").and_then(Value::as_object).map_or_else(Vec::new, |m| m.keys().cloned().collect()),
        seed: plan.get("seed").and_then(Value::as_u64).unwrap_or_default(),
        epochs: epochs as u32,
        steps: metrics.last().map_or(0, Metric::step),
        parameters: 0,
        train_images: 0,
        last,
        detail: None,
        best: None,
        selected_on: "none".to_owned(),
        seconds,
        images_per_second: speed,
        device: text("/device").unwrap_or_default(),
        precision: text("/train/precision").unwrap_or_default(),
        metrics: None,
        versions: Versions::default(),
        machine: None,
    }
}
