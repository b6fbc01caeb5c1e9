//! Your own method with the whole command line around it:
//! `cargo run --release --example own_method -- distill recipes/cifar100/pair.toml --set methods.cosine.weight=2.0`
use std::process::ExitCode;

use heterodyne::{
    methods::{EmbeddingLoss, MethodDef},
    nn::{Error, Init, Result, Scope, Terms, layers::Linear},
    settings::settings,
};
use tch::{Kind, Tensor};

settings! {
    /// Directions of the embeddings: 1 - cos(W f_s, f_t).
    struct Cosine {
        /// Adds a bias to W f_s.
        bias: bool = true, Ours;
    }
}

impl EmbeddingLoss for Cosine {
    const NAME: &str = "cosine";
    const SOURCE: &str = "an example";
    type Parts = Linear;

    fn parts(&self, scope: &Scope, d_s: i64, d_t: i64) -> Result<Linear> {
        let bias = self.bias.then_some(Init::Const(0.0));
        Linear::with(&scope.sub("project"), d_s, d_t, Init::TorchDefault, bias)
    }

    fn student(project: &Linear, f_s: &Tensor) -> Tensor {
        project.forward(f_s)
    }

    fn loss(&self, e_s: &Tensor, e_t: &Tensor) -> Result<Terms> {
        let cosine_b = Tensor::f_cosine_similarity(e_s, e_t, 1, 1e-8)?;
        Ok(Terms::one("cosine", 1.0 - cosine_b.mean(Kind::Float)))
    }
}

static COSINE: MethodDef = MethodDef::embeddings::<Cosine>();
fn main() -> ExitCode {
    heterodyne::methods::register(&COSINE).map_or_else(|e: Error| panic!("{e}"), |()| heterodyne::cli::main())
}
