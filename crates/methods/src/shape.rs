//! What a method's author writes: its settings, what they demand, and the loss. Everything that all methods of one
//! shape share stands here.
use heterodyne_nn::{Labels, Output, Result, Scope, TapSpec, Terms};
use heterodyne_settings::{Checked, KeyError, Settings};
use tch::{Kind, Tensor};

use crate::{
    Configured, Context, Method, MethodDef, Ranks, Signal,
    parts::{
        mode::{exact, float, part_input},
        pair::{check_batch, check_classes, embedding, embedding_signal, embeddings, observe_embedding, signal},
    },
};

/// A method of any shape.
pub trait MethodSettings: Settings {
    /// Name in recipes.
    const NAME: &str;
    /// Full name.
    const TITLE: &str;
    /// Where it is from, with the arXiv number.
    const SOURCE: &str;
    /// See [`Configured::compares_logits`].
    const COMPARES_LOGITS: bool = false;

    /// Refuses settings that contradict each other.
    fn demands(&self) -> Checked {
        Ok(())
    }

    /// See [`Configured::check`].
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()>;

    /// See [`Configured::build`]. The pair was checked.
    fn build(
        &self,
        scope: &Scope,
        student: &TapSpec,
        teacher: &TapSpec,
        sample_classes: &[i64],
    ) -> Result<Box<dyn Method>>;
}

impl<T: MethodSettings> Configured for T {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        MethodSettings::check(self, student, teacher, batch)
    }

    fn build(
        &self,
        scope: &Scope,
        student: &TapSpec,
        teacher: &TapSpec,
        sample_classes: &[i64],
    ) -> Result<Box<dyn Method>> {
        MethodSettings::build(self, scope, student, teacher, sample_classes)
    }

    fn compares_logits(&self) -> bool {
        T::COMPARES_LOGITS
    }

    fn resolved(&self) -> toml::Table {
        self.table()
    }
}

/// A method that reads nothing but the logits of both networks and learns nothing of its own.
pub trait LogitLoss: Settings {
    /// Name in recipes.
    const NAME: &str;
    /// Full name.
    const TITLE: &str;
    /// Where it is from, with the arXiv number.
    const SOURCE: &str;
    /// See [`Configured::compares_logits`].
    const COMPARES_LOGITS: bool = true;

    /// Refuses settings that contradict each other.
    fn demands(&self) -> Checked {
        Ok(())
    }

    /// Refuses a number of classes (at least 2, equal on both sides) or a batch size that it cannot work on.
    fn check(&self, _classes: i64, _batch: usize) -> Result<()> {
        Ok(())
    }

    /// The loss of logits (B,C), both in float32 (float64 where they are); the teacher's without a graph.
    fn loss(&self, z_s: &Tensor, z_t: &Tensor, labels: &Labels) -> Terms;
}

/// The settings of a [`LogitLoss`], and the built method at once.
#[derive(Clone, Debug)]
struct Logits<T>(T);

impl<T: LogitLoss> Configured for Logits<T> {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        check_classes(T::NAME, student, teacher)?;
        self.0.check(student.classes, batch)
    }

    fn build(&self, _: &Scope, _: &TapSpec, _: &TapSpec, _: &[i64]) -> Result<Box<dyn Method>> {
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
    fn loss(&self, step: &Context) -> Result<Terms> {
        let (z_s, z_t) = (&step.student.logits, step.teacher.logits);
        let _exact = exact(z_s.device())?;
        Ok(self.0.loss(&float(z_s), &float(z_t).detach(), step.labels))
    }
}

/// A method that compares the pooled embeddings of a batch's images, f_s (B,D_s) and f_t (B,D_t), or what learnable
/// parts make of them.
pub trait EmbeddingLoss: Settings {
    /// Name in recipes.
    const NAME: &str;
    /// Full name.
    const TITLE: &str;
    /// Where it is from, with the arXiv number.
    const SOURCE: &str;
    /// Its learnable parts.
    type Parts: 'static;

    /// Refuses settings that contradict each other.
    fn demands(&self) -> Checked {
        Ok(())
    }

    /// Makes the learnable parts for embeddings of these widths.
    fn parts(&self, scope: &Scope, d_s: i64, d_t: i64) -> Result<Self::Parts>;

    /// What is compared of the student, under the run's autocast.
    fn student(_: &Self::Parts, f_s: &Tensor) -> Tensor {
        f_s.shallow_clone()
    }

    /// What is compared of the teacher, under the run's autocast.
    fn teacher(_: &Self::Parts, f_t: &Tensor) -> Tensor {
        f_t.shallow_clone()
    }

    /// The loss of both, in the kind of the parameters and without autocast.
    fn loss(&self, e_s: &Tensor, e_t: &Tensor, ranks: &dyn Ranks) -> Result<Terms>;
}

/// The settings of an [`EmbeddingLoss`].
#[derive(Debug)]
struct Embeddings<T>(T);

/// An [`EmbeddingLoss`] with its parts.
struct BuiltEmbeddings<T: EmbeddingLoss> {
    settings: T,
    parts: T::Parts,
    /// Of the teacher's embedding.
    width: i64,
    kind: Kind,
}

impl<T: EmbeddingLoss> Configured for Embeddings<T> {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()> {
        embeddings(T::NAME, student, teacher)?;
        check_batch(T::NAME, batch)
    }

    fn build(
        &self,
        scope: &Scope,
        student: &TapSpec,
        teacher: &TapSpec,
        _sample_classes: &[i64],
    ) -> Result<Box<dyn Method>> {
        let (d_s, width) = embeddings(T::NAME, student, teacher)?;
        let (settings, parts) = (self.0.clone(), self.0.parts(scope, d_s, width)?);
        Ok(Box::new(BuiltEmbeddings { settings, parts, width, kind: scope.kind() }))
    }

    fn compares_logits(&self) -> bool {
        false
    }

    fn resolved(&self) -> toml::Table {
        self.0.table()
    }
}

impl<T: EmbeddingLoss> Method for BuiltEmbeddings<T> {
    fn signals(&self) -> Vec<Signal> {
        vec![embedding_signal(self.width)]
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        Ok(vec![observe_embedding(teacher, self.kind)?])
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let e_s = T::student(&self.parts, &part_input(embedding(step.student, "student")?, self.kind)?);
        let e_t = T::teacher(&self.parts, &part_input(&signal(step.teacher, 0, self.kind)?, self.kind)?);
        let _exact = exact(e_s.device())?;
        self.settings.loss(&e_s.to_kind(self.kind), &e_t.to_kind(self.kind), step.ranks)
    }
}

/// Reads a table as settings that agree with each other.
fn read<T: Settings>(table: &toml::Table, demands: impl FnOnce(&T) -> Checked) -> Result<T, KeyError> {
    let settings = T::read(table)?;
    demands(&settings)?;
    Ok(settings)
}

impl MethodDef {
    const fn entry<T: Settings>(
        [name, title, source]: [&'static str; 3],
        configure: fn(&toml::Table) -> Result<Box<dyn Configured>, KeyError>,
    ) -> Self {
        Self { name, title, source, keys: T::KEYS, defaults: T::defaults, configure }
    }

    /// The entry of a method of any shape.
    #[must_use]
    pub const fn of<T: MethodSettings>() -> Self {
        Self::entry::<T>([T::NAME, T::TITLE, T::SOURCE], |table| Ok(Box::new(read(table, T::demands)?)))
    }

    /// The entry of a method that compares logits.
    #[must_use]
    pub const fn logits<T: LogitLoss>() -> Self {
        Self::entry::<T>([T::NAME, T::TITLE, T::SOURCE], |table| Ok(Box::new(Logits(read(table, T::demands)?))))
    }

    /// The entry of a method that compares embeddings.
    #[must_use]
    pub const fn embeddings<T: EmbeddingLoss>() -> Self {
        Self::entry::<T>([T::NAME, T::TITLE, T::SOURCE], |table| Ok(Box::new(Embeddings(read(table, T::demands)?))))
    }
}
