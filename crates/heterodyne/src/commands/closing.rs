//! The result of a run, printed at its end.
use std::path::Path;

use heterodyne_report::{Run, scratch_runs};
use heterodyne_run::{
    folder::RunFolder,
    summary::{Status, Summary, TeacherScore},
};

use crate::ui;

/// The last and the best epoch, the teacher, the same student without a teacher, and the time. `scratch` is the command
/// that trains that student.
pub fn closing(summary: &Summary, folder: &RunFolder, scratch: &str) -> String {
    let mut lines = Vec::new();
    let finished = summary.status == Status::Finished;
    if let Some(last) = &summary.last {
        let when = if finished { "last epoch".to_owned() } else { format!("epoch {:<4}", last.epoch) };
        lines.push(format!("{when}  {}", ui::show(last)));
    }
    if let Some(best) = &summary.best {
        lines.push(format!(
            "best epoch  {} (epoch {}, chosen on the {} images)",
            ui::show(best),
            best.epoch,
            summary.selected_on
        ));
    }
    if let Some(TeacherScore { split, top1, images }) = &summary.teacher_score {
        lines.push(format!("teacher     {split}: top-1 {top1:.2} %  {images} images"));
    }
    if finished && summary.teacher.is_some() {
        let found = compare(folder.path());
        lines.push(format!("scratch     {}", found.unwrap_or_else(|| format!("no run to compare with: {scratch}"))));
    }
    lines.push(format!(
        "{:.1} s of training, {:.0} img/s; weights and summary in {}",
        summary.seconds,
        summary.images_per_second,
        folder.path().display()
    ));
    if summary.status == Status::Interrupted {
        lines.push(format!("to continue: heterodyne {} --resume {}", summary.command, folder.path().display()));
    }
    lines.join("\n")
}

/// Compares the run with those beside it that trained the same student from labels alone: with the one of its seed, or
/// else with their mean.
fn compare(path: &Path) -> Option<String> {
    let run = Run::load(path).ok()?;
    let own = run.result()?;
    let scratch = scratch_runs(&run);
    let of_seed = scratch.iter().find(|other| other.summary.seed == run.summary.seed);
    let (mean, which) = match (of_seed, &scratch[..]) {
        (Some(other), _) => (other.result()?, other.path.display().to_string()),
        (None, []) => return None,
        (None, others) => {
            let results: Vec<f64> = others.iter().filter_map(Run::result).collect();
            (results.iter().sum::<f64>() / results.len() as f64, format!("{} runs of other seeds", results.len()))
        }
    };
    Some(format!("{}: top-1 {mean:.2} %, the distilled student has {:+.2} points ({which})", split(&run), own - mean))
}

fn split(run: &Run) -> &str {
    run.summary.last.as_ref().map_or("test", |last| last.split.as_str())
}
