//! Draws tensors and compares them.
use heterodyne_shim::{Rng, channels_last};
use tch::{Device, Kind, Tensor};

/// Rounding to bfloat16 changes a value by at most this share.
pub const BF16: f64 = 1.0 / 256.0;

pub struct Draw(Rng);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    pub fn normal(&self, shape: &[i64], mean: f64, std: f64) -> Tensor {
        let t = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        self.0.normal(&t, mean, std).unwrap();
        t
    }

    pub fn image(&self, shape: [i64; 4], mean: f64, std: f64, kind: Kind) -> Tensor {
        channels_last(&self.normal(&shape, mean, std).to_kind(kind)).unwrap()
    }
}

pub fn leaf(t: &Tensor) -> Tensor {
    t.detach().set_requires_grad(true)
}

pub fn double_leaf(t: &Tensor) -> Tensor {
    leaf(&t.to_kind(Kind::Double).contiguous())
}

/// The largest |a - b|, minus the rounding of `b` by `share` of its value, relative to the largest |b|.
pub fn distance(a: &Tensor, b: &Tensor, share: f64) -> f64 {
    assert_eq!(a.size(), b.size());
    let off = (a.to_kind(Kind::Double) - b).abs() - share * b.abs();
    off.max().double_value(&[]) / b.abs().max().double_value(&[]).max(1e-3)
}

pub fn assert_near(what: &str, a: &Tensor, b: &Tensor, share: f64, tolerance: f64) {
    let d = distance(a, b, share);
    assert!(d <= tolerance, "{what} of {:?} is off by {d:.2e}", a.size());
}

/// N(0,1) in float32.
pub fn normal(rng: &Rng, shape: &[i64]) -> Tensor {
    let t = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    rng.normal(&t, 0.0, 1.0).unwrap();
    t
}

/// The gradients of a scalar in the leaves.
pub fn gradients(loss: &Tensor, leaves: &[&Tensor]) -> Vec<Tensor> {
    Tensor::run_backward(&[loss], leaves, false, false)
}

/// The largest |a - b| relative to the largest |b|.
pub fn off(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Double) - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
}
