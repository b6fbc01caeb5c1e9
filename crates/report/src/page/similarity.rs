//! The similarity of the networks' features, as measured by `heterodyne inspect --similarity`.
use heterodyne_run::{
    Similarity,
    similarity::{Side, Stage},
};

use super::section;
use crate::{
    Loaded, Run,
    chart::{Heat, Lines, Series, Size, legend, lines::Point},
    markup::escape,
};

/// The section; empty if no run was inspected.
pub fn section_of(groups: &[Loaded]) -> String {
    let looked = |group: &Loaded| {
        let (run, view) = group.runs.iter().find_map(|run| Some((run.clone(), run.similarity.clone()?)))?;
        Some(one(&group.name, &run, &view))
    };
    let body: String = groups.iter().filter_map(looked).collect();
    if body.is_empty() {
        return body;
    }
    let note = "<p class=\"note\">Minibatch linear CKA with the unbiased HSIC estimator: 1 if the features of the two \
        networks are equal up to rotation and scale, 0 if they have nothing in common. Energy: squared magnitudes of \
        the 2-D Fourier transform of each channel, by distance from the zero frequency in cycles per image, as a \
        share of their sum.</p>\n";
    section("Feature similarity by stage", &format!("{body}{note}"))
}

fn one(group: &str, run: &Run, view: &Similarity) -> String {
    let names = |side: &Side| (1..=side.stages.len()).map(|i| format!("stage {i}")).collect();
    let heat = Heat {
        label: format!("Linear CKA between the stages of {} and {}", view.teacher.model, view.student.model),
        rows: (&view.teacher.model, names(&view.teacher)),
        columns: (&view.student.model, names(&view.student)),
        values: &view.cka.teacher_student,
    };
    let levels = view.teacher.stages.iter().zip(&view.student.stages);
    let energies: String = (1..).zip(levels).map(|(i, (t, s))| energy(i, view, t, s)).collect();
    format!(
        "<h3>{}</h3>\n<p class=\"note\">Seed {}, {} test images in minibatches of {}, the student's {} \
         weights.</p>\n<div class=\"panels\">\n<figure>\n<h4>Linear CKA</h4>\n{}</figure>\n{energies}</div>\n",
        escape(group),
        run.summary.seed,
        view.images,
        view.batch,
        escape(&view.weights),
        heat.svg(Size { w: 420.0, h: 260.0 })
    )
}

/// The energy spectra of both networks at one level.
fn energy(level: usize, view: &Similarity, teacher: &Stage, student: &Stage) -> String {
    let series = |look: usize, model: &str, stage: &Stage| {
        let point = |(cycles, share): (usize, &f64)| Point {
            x: cycles as f64,
            mean: 100.0 * share,
            lo: 100.0 * share,
            hi: 100.0 * share,
        };
        let [h, w] = stage.grid;
        Series {
            name: format!("{model} ({h}x{w})"),
            look,
            points: stage.energy.iter().enumerate().map(point).collect(),
        }
    };
    let lines = Lines {
        label: format!("Energy of stage {level} by frequency"),
        x: "cycles per image",
        y: "share of the energy, %",
        log: true,
        series: vec![series(0, &view.teacher.model, teacher), series(1, &view.student.model, student)],
        percent: true,
    };
    format!(
        "<figure>\n<h4>Energy of stage {level}</h4>\n{}{}</figure>\n",
        lines.svg(Size { w: 420.0, h: 260.0 }),
        legend(lines.series.iter().map(|s| (s.look, s.name.as_str())))
    )
}
