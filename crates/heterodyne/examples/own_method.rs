//! A method of one's own with the whole command line around it:
//! `cargo run --release --example own_method -- distill recipes/cifar100/pair.toml --set methods.cosine.weight=2.0`
use std::process::ExitCode;

use heterodyne::{
    methods::{BuildContext, Context, Method, MethodDef, MethodSettings, Signal, parts::pair},
    nn::{Error, Init, Output, Result, TapSpec, Terms, layers::Linear},
    settings::settings,
};
use tch::{Kind, Tensor};

settings! {
    struct Cosine {
        /// Adds a bias to W f_s.
        bias: bool = true, Ours;
    }
}

struct CosineLoss {
    project: Linear,
    width: i64,
}

impl MethodSettings for Cosine {
    const NAME: &str = "cosine";
    const TITLE: &str = "Directions of the embeddings: 1 - cos(W f_s, f_t)";
    const SOURCE: &str = "an example";
    fn check(&self, student: &TapSpec, teacher: &TapSpec, _batch: usize) -> Result<()> {
        pair::embeddings(Self::NAME, student, teacher).map(drop)
    }

    fn build(&self, pair: &BuildContext) -> Result<Box<dyn Method>> {
        let BuildContext { scope, student, teacher, .. } = *pair;
        let (d_s, width) = pair::embeddings(Self::NAME, student, teacher)?;
        let bias = self.bias.then_some(Init::Const(0.0));
        let project = Linear::with(&scope.sub("project"), d_s, width, Init::TorchDefault, bias)?;
        Ok(Box::new(CosineLoss { project, width }))
    }
}

impl Method for CosineLoss {
    fn signals(&self) -> Vec<Signal> {
        vec![Signal { name: "embedding".to_owned(), shape: vec![self.width] }]
    }

    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        Ok(vec![pair::embedding(teacher, "teacher")?.to_kind(Kind::Float)])
    }

    fn loss(&self, step: &Context) -> Result<Terms> {
        let f_s = self.project.forward(pair::embedding(step.student, "student")?).to_kind(Kind::Float);
        let cosine_b = Tensor::f_cosine_similarity(&f_s, &step.teacher.signals[0], 1, 1e-8)?;
        Ok(Terms::one("cosine", 1.0 - cosine_b.mean(Kind::Float)))
    }
}

static COSINE: MethodDef = MethodDef::of::<Cosine>();
fn main() -> ExitCode {
    heterodyne::methods::register(&COSINE).map_or_else(|e: Error| panic!("{e}"), |()| heterodyne::cli::main())
}
