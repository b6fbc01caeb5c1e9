//! A method of one's own with the whole command line around it:
//! `cargo run --release --example own_method -- distill recipes/cifar100/pair.toml --set methods.cosine.weight=2.0`
use std::process::ExitCode;

use heterodyne::methods::{Context, Key, Method, MethodDef, Settings, Signal, parts::pair};
use heterodyne::nn::{Error, Output, Result, Scope, TapSpec, Terms, config::KeyError, layers::Linear};
use tch::{Kind, Tensor};

static COSINE: MethodDef = MethodDef {
    name: "cosine",
    title: "Directions of the embeddings: 1 - cos(W f_s, f_t)",
    source: "an example",
    keys: &[Key { name: "bias", default: "true", doc: "Adds a bias to W f_s." }],
    configure: |table| match table.get("bias").map_or(Some(true), toml::Value::as_bool) {
        Some(bias) if table.keys().all(|key| key == "bias") => Ok(Box::new(Cosine { bias })),
        _ => Err(KeyError::new("", "`bias = true` or `bias = false` is all that it takes")),
    },
};

#[derive(Debug)]
struct Cosine {
    bias: bool,
}

struct Built(Linear, i64);

impl Settings for Cosine {
    fn check(&self, student: &TapSpec, teacher: &TapSpec, _batch: usize) -> Result<()> {
        pair::embeddings("cosine", student, teacher).map(drop)
    }
    fn build(&self, scope: &Scope, student: &TapSpec, teacher: &TapSpec, _: &[i64]) -> Result<Box<dyn Method>> {
        let (d_s, d_t) = pair::embeddings("cosine", student, teacher)?;
        let bias = self.bias.then_some(heterodyne::nn::Init::Const(0.0));
        Ok(Box::new(Built(Linear::with(&scope.sub("project"), d_s, d_t, heterodyne::nn::Init::TorchDefault, bias)?, d_t)))
    }
    fn resolved(&self) -> toml::Table {
        toml::Table::from_iter([("bias".to_owned(), self.bias.into())])
    }
}

impl Method for Built {
    fn signals(&self) -> Vec<Signal> {
        vec![Signal { name: "embedding".to_owned(), shape: vec![self.1] }]
    }
    fn observe(&self, teacher: &Output) -> Result<Vec<Tensor>> {
        Ok(vec![pair::embedding(teacher, "teacher")?.to_kind(Kind::Float)])
    }
    fn loss(&self, step: &Context) -> Result<Terms> {
        let f_s = self.0.forward(pair::embedding(step.student, "student")?).to_kind(Kind::Float);
        let mut terms = Terms::default();
        terms.push("cosine", 1.0, 1.0 - Tensor::f_cosine_similarity(&f_s, &step.teacher.signals[0], 1, 1e-8)?.mean(Kind::Float));
        Ok(terms)
    }
}

fn main() -> ExitCode {
    heterodyne::methods::register(&COSINE).map_or_else(|e: Error| panic!("{e}"), |()| heterodyne::cli::main())
}
