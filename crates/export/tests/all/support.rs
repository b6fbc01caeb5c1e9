use std::{collections::HashMap, path::Path};

use heterodyne_export::{Export, Programs, Subject, export};
use heterodyne_models::{Model, ModelDef, all};
use heterodyne_nn::{InputSpec, Result, shim::NoGrad};
use tch::{Device, Kind, Tensor};

/// Every network, with large ones at a smaller size: the operators are the same. One Swin pads its windows and rolls an
/// odd grid.
pub fn networks() -> impl Iterator<Item = (&'static ModelDef, i64, &'static str)> {
    let small = |def: &'static ModelDef| match (def.family, def.input.img) {
        (_, img @ ..=32) => (def, img, ""),
        ("vit", _) => (def, 32, "depth = 4\ndim = 96"),
        ("mixer" | "resmlp", _) => (def, 32, "depth = 4\ndim = 96"),
        ("swin" | "convnext", _) if def.name.contains("small") => (def, 60, "dim = 24\ndepths = [2, 2, 2, 2]"),
        ("swin" | "convnext", _) => (def, 56, "dim = 24\ndepths = [2, 2, 2, 2]"),
        _ => (def, 64, ""),
    };
    all().map(small)
}

/// A network whose statistics and classifier are not at their initial values, so everything affects the logits.
pub fn network(def: &'static ModelDef, img: i64, options: &toml::Table) -> Model {
    let model = Model::build(def, 7, Some(img), options, Device::Cpu, 3).unwrap();
    let _guard = NoGrad::new();
    let rng = heterodyne_nn::shim::Rng::new(5);
    for (name, mut t, _) in model.store.entries() {
        let noise = Tensor::empty(t.size(), (Kind::Float, Device::Cpu));
        rng.normal(&noise, 0.0, 1.0).unwrap();
        let scale = if name.ends_with("running_var") { noise.abs() * 0.2 } else { noise * 0.05 };
        t.copy_(&(&t + scale));
    }
    model.store.freeze();
    model
}

pub fn write(model: &Model, options: &toml::Table, programs: Programs, folder: &Path) -> Result<Export> {
    let subject = Subject {
        model,
        options,
        input: InputSpec { crop_pct: 0.9, ..InputSpec::whole(model.img, [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]) },
        class_names: &[],
        metadata: HashMap::new(),
        about: "{}".to_owned(),
    };
    export(&subject, programs, folder)
}

pub const ALL: Programs = Programs { torchscript: true, onnx: true };
