//! Equal seeds give PyTorch's weights.
use std::path::Path;

use heterodyne_nn::{
    Init, ParamStore, Tensors, file,
    layers::{Conv, Conv2d, Linear},
    shim::{Rng, cpu::Level},
};
use tch::{Device, Kind, Tensor};

const SEED: u64 = 1234;

fn goldens() -> Tensors {
    file::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/init.safetensors")).unwrap().0
}

/// Allowed difference from PyTorch, in float32 steps of a tensor's largest value. The goldens come from a processor
/// with FMA.
///
/// Uniform numbers are bitwise equal if libtorch scales them with one FMA; below AVX2 it multiplies and adds, and
/// rounds once more. Normal numbers pass through logarithms, cosines or an inverse error function, whose last bits
/// depend on the vector width.
#[derive(Clone, Copy)]
enum Drawn {
    Uniform,
    Normal,
}

impl Drawn {
    fn steps(self) -> f64 {
        match self {
            Self::Uniform if Level::current() >= Level::Avx2 => 0.0,
            Self::Uniform => 1.0,
            Self::Normal => 4.0,
        }
    }
}

fn same(ours: &Tensor, theirs: &Tensor, drawn: Drawn, what: &str) {
    assert_eq!(ours.size(), theirs.size(), "{what}");
    let off = (ours - theirs).abs().max() / theirs.abs().max() / f64::from(f32::EPSILON);
    let off = off.double_value(&[]);
    assert!(off <= drawn.steps(), "{what}: {off:.1} float32 steps");
}

#[test]
fn fills_equal_pytorchs_for_equal_seeds() {
    let goldens = goldens();
    for (name, init, drawn) in [
        ("normal", Init::Normal { std: 0.7 }, Drawn::Normal),
        ("uniform", Init::Uniform { bound: 0.3 }, Drawn::Uniform),
        ("trunc_normal", Init::TruncNormal { std: 0.02 }, Drawn::Normal),
        ("wide_trunc_normal", Init::TruncNormal { std: 1.0 }, Drawn::Normal),
        ("lecun_normal", Init::LecunNormal, Drawn::Normal),
        ("torch_default", Init::TorchDefault, Drawn::Uniform),
        ("kaiming_normal_fan_out", Init::KaimingNormalFanOut, Drawn::Normal),
        ("xavier_uniform", Init::XavierUniform, Drawn::Uniform),
    ] {
        let rng = Rng::new(SEED);
        for (i, shape) in [[16i64, 3, 3, 3].as_slice(), &[24, 10], &[5, 3], &[2, 3, 4]].into_iter().enumerate() {
            let x = Tensor::empty(shape, (Kind::Float, Device::Cpu));
            init.fill(&x, &rng).unwrap();
            same(&x, &goldens[&format!("{name}/{i}")], drawn, &format!("{name} {shape:?}"));
        }
    }
}

#[test]
fn layers_start_as_pytorch_builds_them() {
    let store = ParamStore::new(Device::Cpu, SEED);
    let _linear = Linear::new(&store.root().sub("linear"), 7, 5).unwrap();
    let _conv = Conv2d::new(&store.root().sub("conv"), 4, 6, Conv::same(3).groups(2).bias()).unwrap();
    let (goldens, tensors) = (goldens(), store.tensors());
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["linear.weight", "linear.bias", "conv.weight", "conv.bias"]);
    for (name, t) in &tensors {
        same(&t.detach(), &goldens[name], Drawn::Uniform, name);
    }
}

#[test]
fn a_constant_draws_nothing() {
    let (a, b) = (Rng::new(SEED), Rng::new(SEED));
    let x = Tensor::empty([3, 4], (Kind::Float, Device::Cpu));
    Init::Const(0.5).fill(&x, &a).unwrap();
    assert_eq!(x, Tensor::full([3, 4], 0.5, (Kind::Float, Device::Cpu)));
    assert_eq!(a.state().unwrap(), b.state().unwrap());
}
