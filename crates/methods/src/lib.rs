//! Distillation methods, one file per paper. Each file begins with its equations; adding a method is one file and one
//! line in the list below.
//!
//! # Precision
//! The teacher's output carries no gradient, and all losses are computed in float32 (float64 where the method's
//! parameters are), whatever precision the networks ran in. A trainer that runs the student under autocast calls
//! [`Method::loss`] under the same autocast: a method's heavy learnable parts (projectors, heads) then run in bfloat16
//! like the student itself, and the method opens a guard that switches autocast off ([`parts::mode::exact`]) where its
//! loss arithmetic begins. Without autocast everything runs in the parameters' own kind, and features of a lower
//! precision are converted on the way in.
//!
//! # Batch norms
//! The batch norms of learnable parts use (and update) batch statistics where a graph is recorded, and their running
//! statistics where none is, so that a validation loss leaves no trace.

use std::sync::{PoisonError, RwLock};

use heterodyne_nn::{Error, Labels, Output, Progress, Result, Scope, TapSpec, Terms};
use heterodyne_settings::{Key, KeyError, unknown};
use tch::Tensor;

pub mod parts;
pub mod ranks;
pub mod shape;
pub mod standardise;

pub mod at;
pub mod bkd;
pub mod cc;
pub mod crd;
pub mod dist;
pub mod dkd;
pub mod fitnet;
pub mod hard;
pub mod hcd;
pub mod kd;
pub mod lfcc;
pub mod nst;
pub mod ofa;
pub mod pkt;
pub mod reviewkd;
pub mod rkd;
pub mod rsd;
pub mod sp;
pub mod uhkd;
pub mod vid;

pub use ranks::Ranks;
pub use shape::{EmbeddingLoss, LogitLoss, MethodSettings, StageLoss};

/// In the order of the reference pages.
static METHODS: &[MethodDef] = &[
    MethodDef::logits::<kd::Kd>(),
    MethodDef::logits::<bkd::Bkd>(),
    MethodDef::logits::<dkd::Dkd>(),
    MethodDef::logits::<dist::Dist>(),
    MethodDef::logits::<hard::Hard>(),
    MethodDef::stages::<fitnet::FitNet>(),
    MethodDef::stages::<vid::Vid>(),
    MethodDef::of::<reviewkd::Review>(),
    MethodDef::stages::<at::At>(),
    MethodDef::stages::<sp::Sp>(),
    MethodDef::embeddings::<cc::Cc>(),
    MethodDef::embeddings::<rkd::Rkd>(),
    MethodDef::embeddings::<pkt::Pkt>(),
    MethodDef::stages::<nst::Nst>(),
    MethodDef::of::<crd::Crd>(),
    MethodDef::embeddings::<rsd::Rsd>(),
    MethodDef::of::<ofa::Ofa>(),
    MethodDef::of::<uhkd::Uhkd>(),
    MethodDef::of::<lfcc::Lfcc>(),
    MethodDef::of::<hcd::Hcd>(),
];

/// Something that a method compares the student with: a fixed function of the teacher's output on one view of an image,
/// so that it may be stored and read back instead of running the teacher again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Says all that the values depend on besides the teacher and the view; equal names are equal values.
    pub name: String,
    /// Shape for one image.
    pub shape: Vec<i64>,
}

/// What a method sees of the teacher.
#[derive(Clone, Copy, Debug)]
pub struct TeacherSignals<'a> {
    /// (B,classes), before any softmax, without a graph.
    pub logits: &'a Tensor,
    /// What [`Method::observe`] gave on the same images, or the same read back in a lower precision.
    pub signals: &'a [Tensor],
}

/// What a method sees of one step.
#[derive(Debug)]
pub struct Context<'a> {
    /// The student's output, with its graph.
    pub student: &'a Output,
    /// The teacher's part.
    pub teacher: TeacherSignals<'a>,
    /// The targets.
    pub labels: &'a Labels,
    /// The number of each image among the training images.
    pub samples: &'a [usize],
    /// Label smoothing of the run, for methods that have a cross-entropy of their own.
    pub smoothing: f64,
    /// How far training has come.
    pub progress: Progress,
    /// The processes among which the batch is shared.
    pub ranks: &'a dyn Ranks,
}

/// A method built for one pair of networks.
pub trait Method {
    /// What it reads of the teacher besides the logits, in the order in which [`TeacherSignals::signals`] holds it.
    fn signals(&self) -> Vec<Signal> {
        Vec::new()
    }

    /// Whether it reads the student's stages or embedding: what is compared with signals is, and a method without
    /// signals may.
    fn reads_stages(&self) -> bool {
        !self.signals().is_empty()
    }

    /// The values of [`Method::signals`], each (B, shape..), in float32 (float64 where the method's parameters are) and
    /// without a graph. The teacher may have run under any autocast.
    fn observe(&self, _teacher: &Output) -> Result<Vec<Tensor>> {
        Ok(Vec::new())
    }

    /// The method's loss as terms; their weights are the method's own factors (its alpha and beta). A term whose weight
    /// is 0 is left out.
    fn loss(&self, step: &Context) -> Result<Terms>;
}

/// What a method is built for.
#[derive(Clone, Copy)]
pub struct BuildContext<'a> {
    /// Where its learnable parts go.
    pub scope: &'a Scope<'a>,
    /// The student's taps.
    pub student: &'a TapSpec,
    /// The teacher's taps.
    pub teacher: &'a TapSpec,
    /// The class of every training image, under the number that [`Context::samples`] gives it.
    pub sample_classes: &'a [i64],
}

/// A method with its settings, read and checked, for any pair.
pub trait Configured: std::fmt::Debug {
    /// Refuses, before any data is read, a pair or a batch size that the method cannot work on; the message names both
    /// sides.
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()>;

    /// Builds the learnable parts for a pair that was checked.
    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>>;

    /// Whether all that it does with the logits of both networks is to compare them, so that they may be standardised
    /// first ([`standardise`]).
    fn compares_logits(&self) -> bool;

    /// Every key with the value in force, as a recipe table.
    fn resolved(&self) -> toml::Table;
}

/// One entry of the registry; [`MethodDef::of`] and its siblings make them.
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
    /// Every key with its default.
    pub defaults: fn() -> toml::Table,
    /// Reads its table.
    pub configure: fn(&toml::Table) -> std::result::Result<Box<dyn Configured>, KeyError>,
}

/// Methods of a program that uses this library, after those of the library.
static OWN: RwLock<Vec<&'static MethodDef>> = RwLock::new(Vec::new());

/// Adds a method of one's own to the registry, so that recipes, commands and lists know it. To be called before
/// anything else.
///
/// # Errors
/// The name is taken.
pub fn register(def: &'static MethodDef) -> Result<()> {
    if all().iter().any(|known| known.name == def.name) {
        return Err(Error::invalid(format!("there is a method `{}` already: choose another name", def.name)));
    }
    OWN.write().unwrap_or_else(PoisonError::into_inner).push(def);
    Ok(())
}

/// All methods, in the order of the reference pages.
#[must_use]
pub fn all() -> Vec<&'static MethodDef> {
    let own = OWN.read().unwrap_or_else(PoisonError::into_inner);
    METHODS.iter().chain(own.iter().copied()).collect()
}

/// The method of that name; an unknown name is an error with the nearest one and the whole list.
pub fn find(name: &str) -> Result<&'static MethodDef> {
    let all = all();
    let names = || all.iter().map(|method| method.name).collect::<Vec<_>>();
    let found = all.iter().find(|method| method.name == name);
    found.copied().ok_or_else(|| Error::invalid(unknown("method", name, &names())))
}
