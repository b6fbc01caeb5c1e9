//! Reads run folders.
use std::path::{Path, PathBuf};

use heterodyne_run::{Eval, Metric, Result, RunFolder, Similarity, Status, Summary, Versions, metrics};
use indexmap::IndexSet;
use serde_json::Value;

use crate::{plan::comparable, stats};

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
        let finished = self.ended && self.summary.status == Status::Finished;
        self.summary.last.as_ref().filter(|last| finished && last.split == "test").map(|last| last.top1)
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
        stats::mean(&self.runs.iter().filter(|r| r.result().is_some()).map(|r| r.summary.seconds).collect::<Vec<_>>())
    }

    /// The runs whose curves are drawn: the finished ones, or all if none has finished.
    #[must_use]
    pub fn shown(&self) -> Vec<&Run> {
        let finished: Vec<&Run> = self.runs.iter().filter(|r| r.result().is_some()).collect();
        if finished.is_empty() { self.runs.iter().collect() } else { finished }
    }

    fn untaught(&self) -> bool {
        !self.runs.is_empty() && self.runs.iter().all(Run::untaught)
    }
}

/// The baseline of a group: a group `scratch`, or else one without a teacher, of the same student, data and epochs. It
/// must have a result and be the only one.
pub fn baseline<'a>(groups: &'a [Loaded], group: &Loaded) -> Option<&'a Loaded> {
    let fits = |base: &&Loaded| {
        !std::ptr::eq::<Loaded>(*base, group)
            && base.mean().is_some()
            && base.runs.first().zip(group.runs.first()).is_some_and(|(a, b)| comparable(a, b))
    };
    let named = groups.iter().find(|g| g.name.eq_ignore_ascii_case("scratch"));
    let mut untaught = groups.iter().filter(|g| g.untaught()).filter(fits);
    let only = || untaught.next().filter(|_| untaught.next().is_none());
    if group.untaught() { None } else { named.filter(fits).or_else(only) }
}

/// The finished runs in the folders beside `run` that trained the same student on the same data for as many epochs, from
/// labels alone. Folders that cannot be read are left out.
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

/// The baseline that all groups share that have one.
pub fn shared_baseline(groups: &[Loaded]) -> Option<&Loaded> {
    let mut all = groups.iter().filter_map(|group| baseline(groups, group));
    let first = all.next()?;
    all.all(|base| std::ptr::eq(base, first)).then_some(first)
}

/// Each teacher with its accuracy before the runs, such as `teacher vit_nano: 98.40 % on 500 test images`.
pub fn teachers(groups: &[Loaded]) -> IndexSet<String> {
    let line = |run: &Run| {
        let (name, score) = (run.summary.teacher.as_ref()?, run.summary.teacher_score.as_ref()?);
        let split = if score.split == "test" { "test" } else { "held-out" };
        Some(format!("teacher {name}: {:.2} % on {} {split} images", score.top1, score.images))
    };
    groups.iter().flat_map(|group| &group.runs).filter_map(line).collect()
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
        best: None,
        selected_on: "none".to_owned(),
        seconds,
        images_per_second: speed,
        device: text("/device").unwrap_or_default(),
        precision: text("/train/precision").unwrap_or_default(),
        metrics: None,
        versions: Versions::default(),
    }
}
