//! The formula behind weights and images, the golden file, and comparisons.
use std::{collections::HashMap, path::PathBuf};

use heterodyne_models::{Model, Request, find};
use heterodyne_nn::{ParamStore, Tensors, file, shim::NoGrad};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

pub const CLASSES: i64 = 10;

/// `count` values in [-1,1): `noise` of goldens/make.py.
pub fn noise(seed: u32, count: usize) -> impl Iterator<Item = f64> {
    let start = seed.wrapping_mul(0x85EB_CA77);
    let mix = move |h: u32, shift: u32, factor: u32| (h ^ (h >> shift)).wrapping_mul(factor);
    let value = move |i: u32| {
        let h = mix(mix(i.wrapping_mul(0x9E37_79B1).wrapping_add(start), 15, 0x2C1B_3C6D), 12, 0x297A_2D39);
        f64::from(h ^ (h >> 15)) / 2f64.powi(31) - 1.0
    };
    (0..count as u32).map(value)
}

pub fn tensor(values: impl IntoIterator<Item = f64>, shape: &[i64]) -> Tensor {
    Tensor::from_slice(&values.into_iter().map(|v| v as f32).collect::<Vec<_>>()).reshape(shape)
}

pub fn images(batch: i64, img: i64) -> Tensor {
    let shape = [batch, 3, img, img];
    tensor(noise(0, shape.iter().product::<i64>() as usize).map(|u| 2.0 * u), &shape)
}

/// The values that `fill` of goldens/make.py gives the tensor `name`, the `index`th of its state dict.
pub fn filled(index: usize, name: &str, shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>();
    let (a, b) = match name.rsplit('.').next().unwrap() {
        "running_var" => (1.0, 0.3),
        "running_mean" | "bias" | "beta" => (0.0, 0.1),
        "cls_token" | "pos_embed" => (0.0, 0.5),
        _ if count == shape[shape.len() - 1] => (0.8, 0.3),
        _ => (0.0, (3.0 / shape[1..].iter().product::<i64>() as f64).sqrt()),
    };
    tensor(noise(index as u32 + 1, count as usize).map(|u| if a == 0.0 { u * b } else { a + b * u }), shape)
}

/// `fill` of goldens/make.py.
pub fn fill(store: &ParamStore) {
    let _guard = NoGrad::new();
    for (index, (name, mut t, _)) in store.entries().into_iter().enumerate() {
        t.copy_(&filled(index, &name, &t.size()));
    }
}

/// `sample` of goldens/make.py.
pub fn sample(t: &Tensor, count: usize) -> Tensor {
    let flat = t.detach().reshape([-1]).to_kind(Kind::Double);
    let at: Vec<i64> = (0..count).map(|j| (j * flat.numel() / count) as i64).collect();
    Tensor::cat(&[flat.index_select(0, &Tensor::from_slice(&at)), flat.norm().reshape([1])], 0).to_kind(Kind::Float)
}

/// The largest difference, each relative to the larger of the value and the root mean square of all.
pub fn difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    let theirs = theirs.to_kind(Kind::Double);
    let rms = theirs.square().mean(Kind::Double).sqrt();
    ((ours.detach().to_kind(Kind::Double) - &theirs).abs() / theirs.abs().maximum(&rms)).max().double_value(&[])
}

pub fn build(name: &str, img: i64, options: &toml::Table) -> Model {
    Model::build(find(name).unwrap(), CLASSES, Some(img), options, Device::Cpu, 0).unwrap()
}

#[derive(Deserialize)]
pub struct Case {
    pub key: String,
    pub model: String,
    pub img: i64,
    pub options: toml::Table,
}

impl Case {
    pub fn build(&self) -> Model {
        build(&self.model, self.img, &self.options)
    }

    /// Builds without drawing the weights, which takes time; they must be written before they are read.
    pub fn uninitialised(&self) -> Model {
        self.in_store(ParamStore::new(Device::Cpu, 0).deferred())
    }

    pub fn in_store(&self, store: ParamStore) -> Model {
        let def = find(&self.model).unwrap();
        let net = (def.build)(&store.root(), &Request { def, classes: CLASSES, img: self.img, options: &self.options })
            .unwrap();
        Model { net, store, def, img: self.img, loaded: None }
    }
}

pub struct Goldens {
    pub cases: Vec<Case>,
    tensors: Tensors,
}

impl Goldens {
    pub fn read() -> Self {
        let (tensors, metadata): (_, HashMap<_, _>) = file::read(&goldens().join("timm.safetensors")).unwrap();
        Self { tensors, cases: serde_json::from_str(&metadata["cases"]).unwrap() }
    }

    pub fn get(&self, case: &Case, what: &str) -> Option<&Tensor> {
        self.tensors.get(&format!("{}/{what}", case.key))
    }

    pub fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }
}

pub fn goldens() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens"))
}

pub fn table(text: &str) -> toml::Table {
    text.parse().unwrap()
}
