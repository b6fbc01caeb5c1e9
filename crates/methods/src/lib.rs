//! Distillation methods, one file per paper. Each file begins with its equations; adding a method is one file and one word in
//! the list below.
//!
//! All losses are computed in float32 (float64 where the inputs are), whatever precision the networks ran in. The teacher's
//! output carries no gradient.

use heterodyne_nn::{Labels, Output, Progress, Result, Scope, TapSpec, Terms, config::KeyError};

pub mod parts;

/// What a method sees of one step.
#[derive(Debug)]
pub struct Context<'a> {
    /// The student's output, with its graph.
    pub student: &'a Output,
    /// The teacher's output on the same images, without a graph.
    pub teacher: &'a Output,
    /// The targets.
    pub labels: &'a Labels,
    /// Label smoothing of the run, for methods that have a cross-entropy of their own.
    pub smoothing: f64,
    /// How far training has come.
    pub progress: Progress,
}

/// A method built for one pair of networks.
pub trait Method {
    /// The method's loss as terms; their weights are the method's own factors (its alpha and beta).
    fn loss(&self, step: &Context) -> Result<Terms>;
}

/// A method's settings, read and checked for themselves.
pub trait Settings: std::fmt::Debug {
    /// Refuses, before any data is read, a pair or a batch size that the method cannot work on; the message names both sides.
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()>;

    /// Builds the learnable parts in `scope` for the pair.
    fn build(&self, scope: &Scope, student: &TapSpec, teacher: &TapSpec) -> Result<Box<dyn Method>>;

    /// Every key with the value in force, as a recipe table.
    fn resolved(&self) -> toml::Table;
}

/// One key of a method's table, for help and reference pages.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in `[methods.NAME]`.
    pub name: &'static str,
    /// The default, as TOML text.
    pub default: &'static str,
    /// What it does, one sentence; says whether the default is published or our decision.
    pub doc: &'static str,
}

/// One entry of the registry.
#[derive(Clone, Copy, Debug)]
pub struct MethodDef {
    /// Name in recipes.
    pub name: &'static str,
    /// Full name.
    pub title: &'static str,
    /// Where it is from, with the arXiv number.
    pub source: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Reads its table.
    pub configure: fn(&toml::Table) -> std::result::Result<Box<dyn Settings>, KeyError>,
}
