//! Pairs of networks' outputs, weights by formula, and losses as numbers.
use std::cell::RefCell;

use heterodyne_methods::{BuildContext, Context, Method, Ranks, TeacherSignals, find, ranks::Alone};
use heterodyne_nn::{
    FeatureMap, Labels, Output, ParamStore, Progress, Result, StageKind, StageSpec, TapSpec, Terms, shim::Rng,
};
use tch::{Device, Kind, Tensor};

pub const CPU: Device = Device::Cpu;

pub fn table(text: &str) -> toml::Table {
    text.parse().unwrap()
}

pub fn map(channels: i64, h: i64, w: i64) -> StageSpec {
    StageSpec { kind: StageKind::Map, channels, grid: (h, w) }
}

pub fn tokens(prefix: i64, channels: i64, h: i64, w: i64) -> StageSpec {
    StageSpec { kind: StageKind::Tokens { prefix }, channels, grid: (h, w) }
}

pub fn taps(stages: &[StageSpec], embedding: i64, classes: i64) -> TapSpec {
    TapSpec { stages: stages.to_vec(), stem: false, embedding: Some(embedding), classes }
}

/// A tensor as a feature map of its stage.
pub fn feature(spec: &StageSpec, tensor: Tensor) -> FeatureMap {
    match spec.kind {
        StageKind::Map => FeatureMap::Map(tensor),
        StageKind::Tokens { prefix } => FeatureMap::Tokens { tokens: tensor, prefix, grid: spec.grid },
    }
}

pub fn tensor_of(feature: &FeatureMap) -> &Tensor {
    match feature {
        FeatureMap::Map(x) | FeatureMap::Tokens { tokens: x, .. } => x,
    }
}

thread_local! {
    /// Not libtorch's generator, which is shared by tests that run at the same time.
    static DRAWS: RefCell<Rng> = RefCell::new(Rng::new(0));
}

/// Seeds what [`output`] draws from now on, on this thread.
pub fn seed(seed: u64) {
    DRAWS.set(Rng::new(seed));
}

/// A random output of the given shapes.
pub fn output(spec: &TapSpec, batch: i64, kind: Kind) -> Output {
    let random = |shape: &[i64]| {
        let x = Tensor::zeros(shape, (Kind::Double, CPU));
        DRAWS.with_borrow(|rng| rng.normal(&x, 0.0, 1.0)).unwrap();
        x.to_kind(kind)
    };
    let stage = |s: &StageSpec| {
        let (h, w) = s.grid;
        let shape = match s.kind {
            StageKind::Map => vec![batch, s.channels, h, w],
            StageKind::Tokens { prefix } => vec![batch, prefix + h * w, s.channels],
        };
        feature(s, random(&shape))
    };
    Output {
        logits: random(&[batch, spec.classes]),
        embedding: spec.embedding.map(|d| random(&[batch, d])),
        stages: spec.stages.iter().map(stage).collect(),
    }
}

/// The same values as leaves of a new graph.
pub fn leaves(output: &Output) -> Output {
    let leaf = |x: &Tensor| x.detach().copy().set_requires_grad(true);
    let stage = |f: &FeatureMap| match f {
        FeatureMap::Map(x) => FeatureMap::Map(leaf(x)),
        FeatureMap::Tokens { tokens, prefix, grid } => {
            FeatureMap::Tokens { tokens: leaf(tokens), prefix: *prefix, grid: *grid }
        }
    };
    Output {
        logits: leaf(&output.logits),
        embedding: output.embedding.as_ref().map(leaf),
        stages: output.stages.iter().map(stage).collect(),
    }
}

/// The leaves of an output by name.
pub fn tensors(output: &Output) -> Vec<(String, Tensor)> {
    let stages =
        output.stages.iter().enumerate().map(|(i, f)| (format!("stage{}", i + 1), tensor_of(f).shallow_clone()));
    let embedding = output.embedding.iter().map(|x| ("embedding".to_owned(), x.shallow_clone()));
    std::iter::once(("logits".to_owned(), output.logits.shallow_clone())).chain(embedding).chain(stages).collect()
}

/// Fills every parameter by the formula of tests/goldens/make.py.
pub fn fill(store: &ParamStore) {
    let _guard = heterodyne_nn::shim::NoGrad::new();
    for (name, mut tensor, _) in store.parameters() {
        let salt = 0.1 * name.bytes().map(f64::from).sum::<f64>();
        let values: Vec<f64> = (0..tensor.numel()).map(|i| 0.4 * (1.3 * i as f64 + salt).sin()).collect();
        tensor.copy_(&Tensor::from_slice(&values).reshape(tensor.size()));
    }
}

pub fn build(
    name: &str,
    settings: &toml::Table,
    store: &ParamStore,
    student: &TapSpec,
    teacher: &TapSpec,
    batch: usize,
) -> Result<Box<dyn Method>> {
    let settings = (find(name)?.configure)(settings).unwrap_or_else(|e| panic!("{name}: {e}"));
    settings.check(student, teacher, batch)?;
    settings.build(&BuildContext {
        scope: &store.root(),
        student,
        teacher,
        sample_classes: &sample_classes(),
        ranks: &Alone,
    })
}

/// Training images of two classes in turn.
pub fn sample_classes() -> Vec<i64> {
    (0..60).map(|i| i % 2).collect()
}

/// The numbers of a batch's images among them.
pub fn samples(batch: usize) -> Vec<usize> {
    (1..=batch).map(|i| 7 * i % 60).collect()
}

pub fn loss(method: &dyn Method, student: &Output, teacher: &Output, labels: &Labels, smoothing: f64) -> Result<Terms> {
    loss_among(&Alone, method, student, teacher, labels, smoothing)
}

pub fn loss_among(
    ranks: &dyn Ranks,
    method: &dyn Method,
    student: &Output,
    teacher: &Output,
    labels: &Labels,
    smoothing: f64,
) -> Result<Terms> {
    let signals = method.observe(teacher)?;
    let shapes: Vec<_> = signals.iter().map(|s| s.size()[1..].to_vec()).collect();
    assert_eq!(shapes, method.signals().into_iter().map(|s| s.shape).collect::<Vec<_>>());
    let teacher = TeacherSignals { logits: &teacher.logits, signals: &signals };
    let samples = samples(labels.len() as usize);
    method.loss(&Context {
        student,
        teacher,
        labels,
        samples: &samples,
        smoothing,
        progress: Progress::default(),
        ranks,
    })
}

/// The largest absolute value.
pub fn max(x: &Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

pub fn number(x: &Tensor) -> f64 {
    x.double_value(&[])
}

pub fn value(terms: &Terms, name: &str) -> f64 {
    terms.iter().find(|t| t.name == name).map(|t| number(&t.value)).unwrap_or_else(|| panic!("no term {name}"))
}

/// Four conv stages.
pub fn conv(embedding: i64, classes: i64) -> TapSpec {
    taps(&[map(2, 8, 8), map(3, 6, 7), map(4, 4, 4), map(6, 2, 2)], embedding, classes)
}

/// Four token stages on one grid.
pub fn vit(prefix: i64, embedding: i64, classes: i64) -> TapSpec {
    taps(&[tokens(prefix, 4, 5, 5); 4], embedding, classes)
}

pub fn hard(classes: &[i64]) -> Labels {
    Labels::Hard(Tensor::from_slice(classes))
}

/// One of two simulated processes. Each records its rows in a first round; the other receives them in a second round,
/// with their graph.
#[derive(Debug)]
pub struct Player {
    pub rank: i64,
    pub said: RefCell<Vec<Tensor>>,
    /// Rows from the other process; empty in the first round.
    pub heard: Vec<Tensor>,
}

impl Ranks for Player {
    fn size(&self) -> i64 {
        2
    }

    fn rank(&self) -> i64 {
        self.rank
    }

    fn gather(&self, rows: &Tensor) -> Result<Tensor> {
        let mut said = self.said.borrow_mut();
        let theirs = self.heard.get(said.len()).unwrap_or(rows);
        said.push(rows.shallow_clone());
        Ok(if self.rank == 0 { Tensor::cat(&[rows, theirs], 0) } else { Tensor::cat(&[theirs, rows], 0) })
    }

    fn sum(&self, _: &Tensor) -> Result<Tensor> {
        Err(heterodyne_nn::Error::invalid("nothing is summed here"))
    }
}

/// Some rows of an output.
pub fn rows(output: &Output, index: &[i64]) -> Output {
    let index = Tensor::from_slice(index);
    let taken = |x: &Tensor| x.index_select(0, &index);
    let stage = |s: &FeatureMap| match s {
        FeatureMap::Map(x) => FeatureMap::Map(taken(x)),
        FeatureMap::Tokens { tokens, prefix, grid } => {
            FeatureMap::Tokens { tokens: taken(tokens), prefix: *prefix, grid: *grid }
        }
    };
    Output {
        logits: taken(&output.logits),
        embedding: output.embedding.as_ref().map(taken),
        stages: output.stages.iter().map(stage).collect(),
    }
}
