//! Weights under other people's names (goldens/foreign.py).
use std::collections::HashMap;

use heterodyne_models::find;
use heterodyne_nn::{Pass, Tensors, file, shim::NoGrad};
use tch::Tensor;

use crate::support::{CLASSES, Case, build, difference, fill, filled, goldens, images};

struct Foreign {
    case: Case,
    /// Names and shapes in the order of the state dict.
    names: Vec<(String, Vec<i64>)>,
    logits: Tensor,
}

fn cases() -> Vec<Foreign> {
    let (mut logits, metadata): (_, HashMap<_, _>) = file::read(&goldens().join("foreign.safetensors")).unwrap();
    let text = std::fs::read_to_string(goldens().join("foreign.txt")).unwrap();
    let mut names: HashMap<String, Vec<(String, Vec<i64>)>> = HashMap::new();
    let mut section = String::new();
    for line in text.lines() {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(key) => section = key.to_owned(),
            None => {
                let (name, shape) = line.split_once(' ').unwrap();
                let shape = shape.split('x').map(|n| n.parse().unwrap()).collect();
                names.entry(section.clone()).or_default().push((name.to_owned(), shape));
            }
        }
    }
    let listed: Vec<serde_json::Value> = serde_json::from_str(&metadata["cases"]).unwrap();
    let of = |json: serde_json::Value| {
        let (key, model) = (json["key"].as_str().unwrap().to_owned(), json["model"].as_str().unwrap().to_owned());
        let case = Case { key, model, img: json["img"].as_i64().unwrap(), options: toml::Table::new() };
        Foreign { names: names.remove(&case.key).unwrap(), logits: logits.shift_remove(&case.key).unwrap(), case }
    };
    listed.into_iter().map(of).collect()
}

impl Foreign {
    fn tensors(&self) -> Tensors {
        let torchvision = self.case.key.starts_with("torchvision/");
        // The authors' names are given to a state dict of timm's, so its values follow timm's names.
        let own = self.case.build();
        fill(&own.store);
        let own = own.store.entries();
        assert!(torchvision || own.len() == self.names.len());
        let tensor = |(i, (name, shape)): (usize, &(String, Vec<i64>))| {
            let t = if torchvision { filled(i, name, shape) } else { own[i].1.detach().reshape(shape.as_slice()) };
            (name.clone(), t)
        };
        self.names.iter().enumerate().map(tensor).collect()
    }
}

#[test]
fn networks_with_foreign_names_give_what_their_own_code_gives() {
    let cases = cases();
    assert_eq!(cases.len(), 9);
    for foreign in cases {
        let model = build(&foreign.case.model, foreign.case.img, &toml::Table::new());
        let tensors = foreign.tensors();
        let def = find(&foreign.case.model).unwrap();
        assert_eq!(heterodyne_models::classes(def, &tensors).unwrap(), Some(CLASSES), "{}", foreign.case.key);
        let report = model.load_strict(&tensors, &foreign.case.key, false).unwrap();
        let renamed = report.adapted.iter().any(|how| how.starts_with("names: those of"));
        assert_eq!(renamed, foreign.case.model != "resnet18", "{}: {report}", foreign.case.key);
        let _guard = NoGrad::new();
        let logits = model.net.forward(&images(2, foreign.case.img), Pass::EVAL).logits;
        let d = difference(&logits, &foreign.logits);
        assert!(d < 1e-4, "{}: {d:.1e}", foreign.case.key);
    }
}

#[test]
fn prefixes_of_wrappers_are_taken_away() {
    let own = build("vit_nano", 8, &toml::Table::new());
    fill(&own.store);
    for prefix in ["module.", "_orig_mod.", "model.module.", "backbone._orig_mod."] {
        let mut wrapped: Tensors = own.store.tensors().into_iter().map(|(name, t)| (format!("{prefix}{name}"), t)).collect();
        // torch.optim.swa_utils.AveragedModel counts beside them.
        wrapped.insert("n_averaged".to_owned(), Tensor::from(3i64));
        let model = build("vit_nano", 8, &toml::Table::new());
        let report = model.load_strict(&wrapped, "wrapped", false).unwrap();
        assert_eq!(report.adapted, [format!("names: `{prefix}` taken away from the front")]);
        for (name, t) in model.store.tensors() {
            assert_eq!(t, own.store.tensors()[&name], "{name}");
        }
    }
}

#[test]
fn a_prefix_before_some_names_only_is_left_and_reported() {
    let own = build("vit_nano", 8, &toml::Table::new());
    let mut tensors = own.store.tensors();
    let head = tensors.shift_remove("head.weight").unwrap();
    tensors.insert("module.head.weight".to_owned(), head);
    let report = own.load(&tensors, false).unwrap();
    assert_eq!((report.missing, report.unexpected), (vec!["head.weight".to_owned()], vec!["module.head.weight".to_owned()]));
}
