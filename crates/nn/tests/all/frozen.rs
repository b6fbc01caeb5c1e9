//! Layers with frozen parameters, and a block on its first tokens.
use heterodyne_nn::{
    ParamStore,
    layers::{Block, BlockStyle, Conv, Conv2d, Linear, Mlp, Post},
    shim::{Autocast, NoGrad, Rng, cpu::fast_bf16, lerp},
};
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

thread_local! {
    /// Every test has its own thread, and thus the same numbers in every run.
    static RNG: Rng = Rng::new(0);
}

fn randn(shape: &[i64]) -> Tensor {
    let x = Tensor::zeros(shape, F32);
    RNG.with(|rng| rng.normal(&x, 0.0, 1.0)).unwrap();
    x
}

fn off(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

fn frozen(seed: u64) -> (ParamStore, Linear) {
    let store = ParamStore::new(Device::Cpu, seed);
    let fc = Linear::new(&store.root(), 12, 40).unwrap();
    store.freeze();
    (store, fc)
}

#[test]
fn every_write_to_a_weight_is_noticed() {
    let (store, fc) = frozen(0);
    let weights = store.tensors();
    let x = randn(&[5, 12]);
    let exact = || x.linear(&weights["weight"], Some(&weights["bias"]));
    let _guard = NoGrad::new();
    let check = |what: &str| assert!(off(&fc.forward(&x), &exact()) < 1e-5, "{what}");
    check("as built");
    let (other, _) = frozen(1);
    store.load(&other.tensors()).unwrap().strict("a copy").unwrap();
    check("a load");
    lerp(&[weights["weight"].shallow_clone()], &[randn(&[40, 12])], 0.5).unwrap();
    check("an average");
    let _ = weights["weight"].get(3).fill_(7.0);
    check("a row");
    let _ = weights["bias"].detach().fill_(-2.0);
    check("the bias");
}

#[test]
fn a_layer_that_is_trained_again_records_a_graph() {
    let (store, fc) = frozen(0);
    let x = randn(&[5, 12]);
    {
        let _guard = NoGrad::new();
        let _ = fc.forward(&x);
    }
    let input = x.copy().set_requires_grad(true);
    fc.forward(&input).sum(Kind::Float).backward();
    assert!(input.grad().defined(), "a frozen layer passes gradients on if a graph is recorded");
    for (_, t, _) in store.parameters() {
        let _ = t.set_requires_grad(true);
    }
    fc.forward(&x).sum(Kind::Float).backward();
    assert!(store.parameters().iter().all(|(_, t, _)| t.grad().defined()));
}

#[test]
fn precision_follows_autocast_unless_float32_is_faster() {
    let (_, fc) = frozen(0);
    let x = randn(&[5, 12]);
    let _guard = NoGrad::new();
    let full = fc.forward(&x);
    {
        let _on = Autocast::new(Device::Cpu, true).unwrap();
        let half = fc.forward(&x);
        assert_eq!(half.kind(), if fast_bf16(Device::Cpu) { Kind::BFloat16 } else { Kind::Float });
        assert!(off(&half, &full) < 0.02);
    }
    assert_eq!(fc.forward(&x), full);
}

#[test]
fn convolutions_and_mlps_are_the_same_frozen_and_not() {
    let store = ParamStore::new(Device::Cpu, 0);
    let root = store.root();
    let conv = Conv2d::new(&root.sub("a"), 6, 10, Conv::same(3).stride(2).bias()).unwrap();
    let grouped = Conv2d::new(&root.sub("b"), 6, 6, Conv::same(3).groups(6)).unwrap();
    let mlp =
        Mlp::new(&root.sub("c"), 12, 50, heterodyne_nn::Init::TorchDefault, heterodyne_nn::Init::Const(0.1)).unwrap();
    let (image, x) = (randn(&[2, 6, 9, 8]), randn(&[2, 12, 12]));
    let _guard = NoGrad::new();
    let all = || {
        vec![
            conv.forward(&image),
            grouped.forward(&image),
            mlp.forward(&x),
            mlp.forward_post(&x, Post::Add(&x)),
            mlp.mix_add(&x, &x),
        ]
    };
    let plain = all();
    store.freeze();
    for (a, b) in all().iter().zip(&plain) {
        assert!(off(a, b) < 1e-5);
    }
}

/// Values, and gradients of the input and of every parameter.
#[test]
fn the_first_tokens_of_a_block_are_those_of_the_whole() {
    let store = ParamStore::with_kind(Device::Cpu, Kind::Double, 0);
    let block = Block::new(&store.root(), 24, 3, BlockStyle::VIT).unwrap();
    let x = randn(&[2, 7, 24]).to_kind(Kind::Double).set_requires_grad(true);
    let outcome = |y: Tensor| {
        let inputs: Vec<_> =
            [x.shallow_clone()].into_iter().chain(store.parameters().into_iter().map(|(_, t, _)| t)).collect();
        let mut all = Tensor::run_backward(&[y.sin().sum(Kind::Double)], &inputs, false, false);
        all.push(y);
        all
    };
    for first in [1, 3, 7] {
        let (whole, part) = (outcome(block.forward(&x).narrow(1, 0, first)), outcome(block.forward_first(&x, first)));
        for (a, b) in part.iter().zip(&whole) {
            assert!(off(a, b) < 1e-12, "{first}");
        }
    }
}

#[test]
fn a_frozen_block_is_the_block() {
    let store = ParamStore::new(Device::Cpu, 0);
    for (d, heads) in [(48, 3), (64, 4), (96, 2)] {
        let block = Block::new(&store.root().sub(d), d, heads, BlockStyle::VIT).unwrap();
        let x = randn(&[2, 17, d]);
        let _guard = NoGrad::new();
        let all = || [1, 17].map(|first| block.forward_first(&x, first));
        for (_, t, _) in store.parameters() {
            let _ = t.set_requires_grad(true);
        }
        let plain = all();
        store.freeze();
        for (a, b) in all().iter().zip(&plain) {
            assert!(off(a, b) < 1e-5, "{d}");
        }
    }
}
