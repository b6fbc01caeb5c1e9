//! The traits that a method implements: its settings, their constraints, and the loss. Everything that the methods of
//! one shape share is in this file.
use heterodyne_nn::{FeatureMap, Labels, Output, Result, Scope, TapSpec, Terms};
use heterodyne_settings::{Checked, KeyError, Settings};
use tch::{Kind, Tensor};

use crate::{
    BuildContext, Configured, Context, Method, MethodDef, Signal,
    parts::{
        Levels, StagePair, TensorExt, autocast_off, check_batch, check_classes, embedding, embedding_signal,
        embeddings, float, observe_embedding, part_input, signal, stage, stage_pairs,
    },
};

/// A method of any shape.
pub trait MethodSettings: Settings {
    /// Name in recipes.
    const NAME: &str;
    /// The publication, with the arXiv number.
    const SOURCE: &str;
    /// See [`Configured::compares_logits`].
    const COMPARES_LOGITS: bool = false;

    /// Rejects inconsistent settings.
    fn demands(&self) -> Checked {
        Ok(())
    }

    /// See [`Configured::check`].
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()>;

    /// See [`Configured::build`]. The pair has been checked.
    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>>;
}

impl<T: MethodSettings> Configured for T {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        MethodSettings::check(self, student, teacher, batch)
    }

    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>> {
        MethodSettings::build(self, pair)
    }

    fn compares_logits(&self) -> bool {
        T::COMPARES_LOGITS
    }

    fn resolved(&self) -> toml::Table {
        self.table()
    }
}

/// A method that reads only the logits of both networks and has no learnable parts.
pub trait LogitLoss: Settings {
    /// Name in recipes.
    const NAME: &str;
    /// The publication, with the arXiv number.
    const SOURCE: &str;
    /// See [`Configured::compares_logits`].
    const COMPARES_LOGITS: bool = true;
    /// Whether it compares images with each other, so that it must see the whole batch, of all processes.
    const RELATES_IMAGES: bool = false;

    /// Rejects inconsistent settings.
    fn demands(&self) -> Checked {
        Ok(())
    }

    /// Rejects an unsupported number of classes (at least 2, equal on both sides) or batch size.
    fn check(&self, _classes: i64, _batch: usize) -> Result<()> {
        Ok(())
    }

    /// The loss of logits (B,C), both in float32 (or float64 if they already are); the teacher's without a graph.
    fn loss(&self, z_s: &Tensor, z_t: &Tensor, labels: &Labels) -> Terms;
}

/// The settings of a [`LogitLoss`], which also serve as the built method.
#[derive(Clone, Debug)]
struct Logits<T>(T);

impl<T: LogitLoss> Configured for Logits<T> {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        check_classes(T::NAME, student, teacher)?;
        self.0.check(student.classes, batch)
    }

    fn build(&self, _: &BuildContext) -> Result<Box<dyn Method>> {
        Ok(Box::new(self.clone()))
    }

    fn compares_logits(&self) -> bool {
        T::COMPARES_LOGITS
    }

    fn resolved(&self) -> toml::Table {
        self.0.table()
    }
}

impl<T: LogitLoss> Method for Logits<T> {
    fn is_recordable(&self) -> bool {
        true
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let (z_s, z_t) = (&step.student.logits, step.teacher.logits);
        let _float32 = autocast_off(z_s.device())?;
        let (z_s, z_t) = (float(z_s), float(z_t).detach());
        if !T::RELATES_IMAGES {
            return Ok(self.0.loss(&z_s, &z_t, step.labels));
        }
        let labels = match step.labels {
            Labels::Hard(labels) => Labels::Hard(step.ranks.gather(labels)?),
            Labels::Soft(labels) => Labels::Soft(step.ranks.gather(labels)?),
        };
        Ok(self.0.loss(&step.ranks.gather(&z_s)?, &step.ranks.gather(&z_t)?, &labels))
    }
}

/// A method that compares the pooled embeddings of a batch, f_s (B,D_s) and f_t (B,D_t), possibly through learnable
/// parts.
pub trait EmbeddingLoss: Settings {
    /// Name in recipes.
    const NAME: &str;
    /// The publication, with the arXiv number.
    const SOURCE: &str;
    /// Its learnable parts.
    type Parts: 'static;

    /// Rejects inconsistent settings.
    fn demands(&self) -> Checked {
        Ok(())
    }

    /// Creates the learnable parts for embeddings of these widths.
    fn parts(&self, scope: &Scope, d_s: i64, d_t: i64) -> Result<Self::Parts>;

    /// The student's side of the comparison, computed under the run's autocast.
    fn student(_: &Self::Parts, f_s: &Tensor) -> Tensor {
        f_s.shallow_clone()
    }

    /// The teacher's side of the comparison, computed under the run's autocast.
    fn teacher(_: &Self::Parts, f_t: &Tensor) -> Tensor {
        f_t.shallow_clone()
    }

    /// The loss of both sides, in the kind of the parameters and without autocast. The rows are those of the whole
    /// batch, of all processes: these methods compare images with each other.
    fn loss(&self, e_s: &Tensor, e_t: &Tensor) -> Result<Terms>;
}

/// The settings of an [`EmbeddingLoss`].
#[derive(Debug)]
struct Embeddings<T>(T);

/// An [`EmbeddingLoss`] with its parts.
struct EmbeddingMethod<T: EmbeddingLoss> {
    settings: T,
    parts: T::Parts,
    /// Width of the teacher's embedding.
    width: i64,
    kind: Kind,
}

impl<T: EmbeddingLoss> Configured for Embeddings<T> {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        embeddings(T::NAME, student, teacher)?;
        check_batch(T::NAME, batch)
    }

    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>> {
        let BuildContext { scope, student, teacher, .. } = *pair;
        let (d_s, width) = embeddings(T::NAME, student, teacher)?;
        let (settings, parts) = (self.0.clone(), self.0.parts(scope, d_s, width)?);
        Ok(Box::new(EmbeddingMethod { settings, parts, width, kind: scope.kind() }))
    }

    fn compares_logits(&self) -> bool {
        false
    }

    fn resolved(&self) -> toml::Table {
        self.0.table()
    }
}

impl<T: EmbeddingLoss> Method for EmbeddingMethod<T> {
    fn signals(&self) -> Vec<Signal> {
        vec![embedding_signal(self.width)]
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        Ok(vec![observe_embedding(teacher, self.kind)?])
    }

    fn is_recordable(&self) -> bool {
        true
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let e_s = T::student(&self.parts, &part_input(embedding(step.student, "student")?, self.kind)?);
        let e_t = T::teacher(&self.parts, &part_input(&signal(step.teacher, 0, self.kind)?, self.kind)?);
        let _float32 = autocast_off(e_s.device())?;
        let all = |e: &Tensor| step.ranks.gather(&e.to_kind(self.kind));
        self.settings.loss(&all(&e_s)?, &all(&e_t)?)
    }
}

/// A method that compares stages of both networks, level by level.
pub trait StageLoss: Settings {
    /// Name in recipes.
    const NAME: &str;
    /// The publication, with the arXiv number.
    const SOURCE: &str;
    /// Name of its term.
    const TERM: &str;
    /// Whether it compares images with each other, so that it must see the whole batch, of all processes.
    const RELATES_IMAGES: bool = false;
    /// The learnable parts of one level.
    type Parts: 'static;

    /// Rejects inconsistent settings.
    fn demands(&self) -> Checked {
        Ok(())
    }

    /// The stages to compare.
    fn levels(&self) -> &Levels;

    /// Rejects an unsupported pair of stages or batch size.
    fn check(&self, _pair: &StagePair, _batch: usize) -> Result<()> {
        Ok(())
    }

    /// Creates the learnable parts of one level.
    fn parts(&self, scope: &Scope, pair: &StagePair) -> Result<Self::Parts>;

    /// The signal read from the teacher at one level.
    fn signal(pair: &StagePair) -> Signal;

    /// A stage as a tensor.
    fn features(x: &FeatureMap) -> Tensor {
        x.to_map()
    }

    /// The value of [`StageLoss::signal`] from the teacher's features, in the kind of the parameters.
    fn observe(pair: &StagePair, x_t: &Tensor) -> Tensor;

    /// The student's side of the comparison, computed under the run's autocast.
    fn student(_: &StagePair, _: &Self::Parts, x_s: &Tensor) -> Tensor {
        x_s.shallow_clone()
    }

    /// The loss between [`StageLoss::student`] and the signal at one level, in the kind of the parameters and without
    /// autocast.
    fn loss(&self, pair: &StagePair, parts: &Self::Parts, x_s: &Tensor, observed: &Tensor) -> Tensor;

    /// The loss of all levels.
    fn total(values: &[Tensor]) -> Tensor {
        Tensor::stack(values, 0).sum_all()
    }
}

/// The settings of a [`StageLoss`].
#[derive(Debug)]
struct Stages<T>(T);

/// A [`StageLoss`] with the parts of each level.
struct StageMethod<T: StageLoss> {
    settings: T,
    levels: Vec<(StagePair, T::Parts)>,
    kind: Kind,
}

impl<T: StageLoss> Configured for Stages<T> {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        let pairs = stage_pairs(T::NAME, self.0.levels(), student, teacher)?;
        pairs.iter().try_for_each(|pair| self.0.check(pair, batch))
    }

    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>> {
        let BuildContext { scope, student, teacher, .. } = *pair;
        let pairs = stage_pairs(T::NAME, self.0.levels(), student, teacher)?;
        let level = |pair: StagePair| Ok((pair, self.0.parts(&scope.sub(pair.scope()), &pair)?));
        let levels = pairs.into_iter().map(level).collect::<Result<_>>()?;
        Ok(Box::new(StageMethod { settings: self.0.clone(), levels, kind: scope.kind() }))
    }

    fn compares_logits(&self) -> bool {
        false
    }

    fn resolved(&self) -> toml::Table {
        self.0.table()
    }
}

impl<T: StageLoss> Method for StageMethod<T> {
    fn signals(&self) -> Vec<Signal> {
        self.levels.iter().map(|(pair, _)| T::signal(pair)).collect()
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        let of = |(pair, _): &(StagePair, T::Parts)| {
            let x_t = T::features(&stage(teacher, pair.level, "teacher")?.detach()).to_kind(self.kind);
            Ok(T::observe(pair, &x_t))
        };
        self.levels.iter().map(of).collect()
    }

    fn is_recordable(&self) -> bool {
        true
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let value = |(i, (pair, parts)): (usize, &(StagePair, T::Parts))| {
            let x_s = T::features(stage(step.student, pair.level, "student")?);
            let x_s = T::student(pair, parts, &part_input(&x_s, self.kind)?);
            let _float32 = autocast_off(x_s.device())?;
            let observed = signal(step.teacher, i, self.kind)?;
            let all = |x: &Tensor| match T::RELATES_IMAGES {
                true => step.ranks.gather(x),
                false => Ok(x.shallow_clone()),
            };
            Ok(self.settings.loss(pair, parts, &all(&x_s.to_kind(self.kind))?, &all(&observed)?))
        };
        let values: Vec<Tensor> = self.levels.iter().enumerate().map(value).collect::<Result<_>>()?;
        let mut terms = Terms::default();
        terms.push(T::TERM, 1.0, T::total(&values));
        Ok(terms)
    }
}

/// Reads a table as settings and checks that they are consistent.
fn read<T: Settings>(table: &toml::Table, demands: impl FnOnce(&T) -> Checked) -> Result<T, KeyError> {
    let settings = T::read(table)?;
    demands(&settings)?;
    Ok(settings)
}

impl MethodDef {
    const fn entry<T: Settings>(
        [name, source]: [&'static str; 2],
        configure: fn(&toml::Table) -> Result<Box<dyn Configured>, KeyError>,
    ) -> Self {
        Self { name, about: T::ABOUT, source, keys: T::KEYS, defaults: T::defaults, configure }
    }

    /// The entry of a method of any shape.
    #[must_use]
    pub const fn of<T: MethodSettings>() -> Self {
        Self::entry::<T>([T::NAME, T::SOURCE], |table| Ok(Box::new(read(table, T::demands)?)))
    }

    /// The entry of a method that compares logits.
    #[must_use]
    pub const fn logits<T: LogitLoss>() -> Self {
        Self::entry::<T>([T::NAME, T::SOURCE], |table| Ok(Box::new(Logits(read(table, T::demands)?))))
    }

    /// The entry of a method that compares embeddings.
    #[must_use]
    pub const fn embeddings<T: EmbeddingLoss>() -> Self {
        Self::entry::<T>([T::NAME, T::SOURCE], |table| Ok(Box::new(Embeddings(read(table, T::demands)?))))
    }

    /// The entry of a method that compares stages.
    #[must_use]
    pub const fn stages<T: StageLoss>() -> Self {
        Self::entry::<T>([T::NAME, T::SOURCE], |table| Ok(Box::new(Stages(read(table, T::demands)?))))
    }
}
