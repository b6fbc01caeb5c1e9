//! Distillation methods, one file per paper. Each file begins with its equations. To add a method, add one file and one
//! line in the list below.
//!
//! # Precision
//! The teacher's output carries no gradient. All losses are computed in float32 (float64 if the method's parameters are
//! float64), whatever the precision of the networks. A trainer that runs the student under autocast must call
//! [`Method::loss`] under the same autocast. A method's heavy learnable parts (projectors, heads) then run in bfloat16,
//! like the student. Before its loss arithmetic, the method switches autocast off with a guard
//! ([`parts::mode::autocast_off`]). Without autocast, everything runs in the parameters' own kind, and inputs of a
//! lower precision are converted.
//!
//! # Batch norms
//! The batch norms of learnable parts use and update batch statistics while a graph is recorded. Without a graph they
//! use their running statistics, so a validation loss changes nothing.

use heterodyne_nn::{Error, Labels, Output, Progress, Result, Scope, TapSpec, Terms};
use heterodyne_settings::{Key, KeyError, Named, Registry};
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
static METHODS: Registry<MethodDef> = Registry::new("method", &[ENTRIES]);

const ENTRIES: &[MethodDef] = &[
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

/// A target for the student: a fixed function of the teacher's output on one view of an image. It can be stored and
/// read back instead of running the teacher again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Names everything that the values depend on besides the teacher and the view: equal names mean equal values.
    pub name: String,
    /// Shape for one image.
    pub shape: Vec<i64>,
}

/// The teacher's data for one step.
#[derive(Clone, Copy, Debug)]
pub struct TeacherSignals<'a> {
    /// (B,classes), before any softmax, without a graph.
    pub logits: &'a Tensor,
    /// The results of [`Method::observe`] on the same images, possibly stored and read back in a lower precision.
    pub signals: &'a [Tensor],
}

/// The data of one training step.
#[derive(Debug)]
pub struct Context<'a> {
    /// The student's output, with its graph.
    pub student: &'a Output,
    /// The teacher's logits and signals.
    pub teacher: TeacherSignals<'a>,
    /// The targets.
    pub labels: &'a Labels,
    /// Index of each image in the training set.
    pub samples: &'a [usize],
    /// Label smoothing of the run, for methods with their own cross-entropy.
    pub smoothing: f64,
    /// Progress of the training.
    pub progress: Progress,
    /// The processes that share the batch.
    pub ranks: &'a dyn Ranks,
}

/// A method built for one pair of networks.
pub trait Method {
    /// The signals that it reads from the teacher in addition to the logits, in the order of
    /// [`TeacherSignals::signals`].
    fn signals(&self) -> Vec<Signal> {
        Vec::new()
    }

    /// Whether it reads the student's stages or embedding. Defaults to true for a method with signals.
    fn reads_stages(&self) -> bool {
        !self.signals().is_empty()
    }

    /// The values of [`Method::signals`], each (B, shape..), in float32 (float64 if the method's parameters are
    /// float64) and without a graph. The teacher may have run under any autocast.
    fn observe(&self, _teacher: &Output) -> Result<Vec<Tensor>> {
        Ok(Vec::new())
    }

    /// Whether the loss depends on nothing else than the networks' outputs, the labels and its learnable parts: not on
    /// [`Context::samples`] or [`Context::progress`], and on no value on the host. Only then can a step be recorded and
    /// repeated.
    fn is_recordable(&self) -> bool {
        false
    }

    /// The method's loss as terms. Their weights are the method's own factors (its alpha and beta); a term with weight
    /// 0 is omitted.
    fn loss(&self, step: &Context) -> Result<Terms>;
}

/// The pair of networks and the data for which a method is built.
#[derive(Clone, Copy)]
pub struct BuildContext<'a> {
    /// The scope for its learnable parts.
    pub scope: &'a Scope<'a>,
    /// The student's taps.
    pub student: &'a TapSpec,
    /// The teacher's taps.
    pub teacher: &'a TapSpec,
    /// The class of every training image, by the index that [`Context::samples`] uses.
    pub sample_classes: &'a [i64],
    /// The processes that will train together.
    pub ranks: &'a dyn Ranks,
}

/// A method with its settings, read and checked, but not yet built for a pair of networks.
pub trait Configured: std::fmt::Debug {
    /// Rejects a pair or a batch size that the method does not support, before any data is read. The message names both
    /// sides.
    fn check(&self, student: &TapSpec, teacher: &TapSpec, batch: usize) -> Result<()>;

    /// Builds the learnable parts for a pair that has passed [`Configured::check`].
    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>>;

    /// Whether it only compares the logits of both networks, so they may be standardised first ([`standardise`]).
    fn compares_logits(&self) -> bool;

    /// Every key with the value in force, as a recipe table.
    fn resolved(&self) -> toml::Table;
}

/// One entry of the registry; [`MethodDef::of`] and its siblings make them.
#[derive(Clone, Copy, Debug)]
pub struct MethodDef {
    /// Name in recipes.
    pub name: &'static str,
    about: &'static str,
    /// The publication, with the arXiv number.
    pub source: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Every key with its default.
    pub defaults: fn() -> toml::Table,
    /// Reads its table.
    pub configure: fn(&toml::Table) -> std::result::Result<Box<dyn Configured>, KeyError>,
}

/// Registers your own method, for use in recipes, commands and lists. Call it before anything else.
///
/// # Errors
/// A method of this name already exists.
pub fn register(def: &'static MethodDef) -> Result<()> {
    METHODS.register(def).map_err(Error::invalid)
}

/// All methods, in the order of the reference pages.
#[must_use]
pub fn all() -> Vec<&'static MethodDef> {
    METHODS.all()
}

/// The method of that name. The error for an unknown name has the nearest name and the whole list.
pub fn find(name: &str) -> Result<&'static MethodDef> {
    METHODS.find(name).map_err(Error::invalid)
}

impl MethodDef {
    /// Its full name: the text of its settings.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.about.trim().trim_end_matches('.')
    }
}

impl Named for MethodDef {
    fn name(&self) -> &'static str {
        self.name
    }
}
