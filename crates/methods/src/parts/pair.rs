//! Checks and accessors for a pair of networks.
use heterodyne_nn::{Error, FeatureMap, Output, Result, StageKind, StageSpec, TapSpec};
use tch::{Kind, Tensor};

use super::levels::Levels;
use crate::{Signal, TeacherSignals};

/// One stage of the student and the teacher's stage of the same relative depth.
#[derive(Clone, Copy, Debug)]
pub struct StagePair {
    /// 1 for the shallowest.
    pub level: usize,
    /// The student's side.
    pub student: StageSpec,
    /// The teacher's side.
    pub teacher: StageSpec,
}

impl StagePair {
    /// Name of the level's scope for learnable parts.
    #[must_use]
    pub fn scope(&self) -> String {
        format!("level{}", self.level)
    }

    /// The smaller of the two grids along each axis, on which both can be compared without interpolation.
    #[must_use]
    pub fn common_grid(&self) -> (i64, i64) {
        let (s, t) = (self.student.grid, self.teacher.grid);
        (s.0.min(t.0), s.1.min(t.1))
    }
}

/// Averages (B,C,H,W) to a grid that is not larger; unchanged if the grid is its own.
pub fn averaged(x_bchw: &Tensor, (h, w): (i64, i64)) -> Tensor {
    if x_bchw.size()[2..] == [h, w] { x_bchw.shallow_clone() } else { x_bchw.adaptive_avg_pool2d([h, w]) }
}

/// Rejects a batch of one, in which an image has nothing to be compared with.
pub fn check_batch(method: &str, batch: usize) -> Result<()> {
    if batch >= 2 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{method} compares the images of a batch, but the batch has {batch}: use a batch of at least 2"
    )))
}

/// Rejects logits that cannot be compared class by class.
pub fn check_classes(method: &str, student: &TapSpec, teacher: &TapSpec) -> Result<()> {
    if student.classes != teacher.classes {
        return Err(Error::invalid(format!(
            "{method} compares logits class by class, but the student has (B,{}) and the teacher (B,{}): fine-tune \
             the teacher on the student's classes, or give the student the teacher's",
            student.classes, teacher.classes
        )));
    }
    if student.classes < 2 {
        return Err(Error::invalid(format!(
            "{method} needs at least 2 classes, but student and teacher have logits (B,{})",
            student.classes
        )));
    }
    Ok(())
}

/// The pairs of stages at `levels`; rejects levels that one of the networks does not have.
pub fn stage_pairs(method: &str, levels: &Levels, student: &TapSpec, teacher: &TapSpec) -> Result<Vec<StagePair>> {
    levels
        .of(student, teacher)
        .into_iter()
        .map(|level| {
            Ok(StagePair {
                level,
                student: stage_spec(method, "student", level, student, teacher)?,
                teacher: stage_spec(method, "teacher", level, teacher, student)?,
            })
        })
        .collect()
}

/// The spec of stage `level` of `own`, one side of the pair.
pub fn stage_spec(method: &str, side: &str, level: usize, own: &TapSpec, other: &TapSpec) -> Result<StageSpec> {
    let spec = level.checked_sub(1).and_then(|i| own.stages.get(i)).copied().ok_or_else(|| {
        let advice = match (own.stages.is_empty(), side) {
            (true, "teacher") => "use a method that reads logits only (kd), or a teacher that provides stages",
            _ => "choose other `levels`",
        };
        Error::invalid(format!(
            "{method} reads stage {level} of the {side}, which offers {} (the other side offers {}): {advice}",
            describe(own),
            describe(other)
        ))
    })?;
    if spec.channels < 1 || spec.grid.0 < 1 || spec.grid.1 < 1 {
        return Err(Error::invalid(format!(
            "{method}: stage {level} of the {side} is empty, {}: use larger images",
            shape(&spec)
        )));
    }
    Ok(spec)
}

/// The widths of both embeddings, the student's first; rejects a pair if one is missing.
pub fn embeddings(method: &str, student: &TapSpec, teacher: &TapSpec) -> Result<(i64, i64)> {
    match (student.embedding, teacher.embedding) {
        (Some(student), Some(teacher)) => Ok((student, teacher)),
        (own, _) => {
            let side = if own.is_none() { "student" } else { "teacher" };
            Err(Error::invalid(format!(
                "{method} reads the pooled embeddings of both networks, but the {side} offers none (student: {}; \
                 teacher: {}): use a network that provides its embedding, or a method that reads logits only (kd)",
                describe(student),
                describe(teacher)
            )))
        }
    }
}

/// Rejects a batch norm with a single value per channel, whose variance is undefined.
pub fn check_norm(method: &str, what: &str, batch: usize, grid: (i64, i64)) -> Result<()> {
    if batch as i64 * grid.0 * grid.1 > 1 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{method}: the batch norm of {what} would see one value per channel (batch {batch}, grid {}x{}): use a batch \
         of at least 2",
        grid.0, grid.1
    )))
}

/// Stage `level` of an output; an error if the network ran without taps.
pub fn stage<'a>(output: &'a Output, level: usize, side: &str) -> Result<&'a FeatureMap> {
    output.stages.get(level - 1).ok_or_else(|| {
        Error::invalid(format!(
            "stage {level} of the {side} is needed, but its output has {} stages: run it with taps",
            output.stages.len()
        ))
    })
}

/// The embedding of an output; an error if the network ran without taps.
pub fn embedding<'a>(output: &'a Output, side: &str) -> Result<&'a Tensor> {
    output.embedding.as_ref().ok_or_else(|| {
        Error::invalid(format!("the {side}'s embedding is needed, but its output has none: run it with taps"))
    })
}

/// The signal for the teacher's embedding of this width.
#[must_use]
pub fn embedding_signal(width: i64) -> Signal {
    Signal { name: "embedding".to_owned(), shape: vec![width] }
}

/// The value of [`embedding_signal`], (B,width) in `kind`.
pub fn observe_embedding(teacher: &Output, kind: Kind) -> Result<Tensor> {
    Ok(embedding(teacher, "teacher")?.detach().to_kind(kind))
}

/// Signal `i` of a method, converted to `kind`; an error if the step lacks it.
pub fn signal(taught: TeacherSignals, i: usize, kind: Kind) -> Result<Tensor> {
    let found = taught.signals.get(i).map(|s| s.to_kind(kind));
    found.ok_or_else(|| {
        Error::invalid(format!(
            "signal {i} of the teacher is needed, but the step has {} signals",
            taught.signals.len()
        ))
    })
}

/// A stage's shape as text.
#[must_use]
pub fn shape(spec: &StageSpec) -> String {
    let StageSpec { kind, channels, grid: (h, w) } = spec;
    match kind {
        StageKind::Map => format!("a map ({channels},{h},{w})"),
        StageKind::Tokens { prefix } => format!("tokens ({prefix}+{h}x{w},{channels})"),
    }
}

fn describe(spec: &TapSpec) -> String {
    let embedding = spec.embedding.map_or_else(|| "no embedding".to_owned(), |d| format!("an embedding ({d})"));
    let stages = if spec.stages.is_empty() {
        "no stages".to_owned()
    } else {
        spec.stages.iter().map(shape).collect::<Vec<_>>().join(", ")
    };
    format!("{stages}, {embedding}, {} classes", spec.classes)
}
