//! Weights with other libraries' parameter names (goldens/foreign.py).
use std::collections::HashMap;

use heterodyne_models::{Checkpoint, Model, Selection, classifier, find};
use heterodyne_nn::{LoadReport, Pass, Result, Tensors, file, shim::NoGrad};
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
        // The authors' names are applied to a timm state dict, so its values follow timm's names.
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
        let head = classifier(def, &toml::Table::new(), &tensors, &Selection::default()).unwrap();
        assert_eq!(head.len(), 2, "{}", foreign.case.key);
        assert!(head.iter().all(|(name, _)| tensors[name].size()[0] == CLASSES), "{}", foreign.case.key);
        let report = model.load_strict(&tensors, &foreign.case.key, false).unwrap();
        let renamed = report.adapted.iter().any(|how| how.starts_with("names: those of"));
        assert_eq!(renamed, foreign.case.model != "resnet18", "{}: {report}", foreign.case.key);
        let _guard = NoGrad::new();
        let logits = model.net.forward(&images(2, foreign.case.img), Pass::EVAL).logits;
        let d = difference(&logits, &foreign.logits);
        assert!(d < 1e-4, "{}: {d:.1e}", foreign.case.key);
    }
}

fn nano() -> Model {
    build("vit_nano", 8, &toml::Table::new())
}

/// The tensors of a filled network, each name changed by `rename`.
fn renamed(rename: impl Fn(&str) -> String) -> Tensors {
    let own = nano();
    fill(&own.store);
    own.store.tensors().into_iter().map(|(name, t)| (rename(&name), t)).collect()
}

fn one() -> Tensor {
    Tensor::from_slice(&[1f32, 2.0])
}

fn load(tensors: &Tensors, prefix: Option<&str>, ignore: &[&str]) -> (Model, Result<LoadReport>) {
    let selection =
        Selection { prefix: prefix.map(str::to_owned), ignore: ignore.iter().map(|name| (*name).to_owned()).collect() };
    let model = nano();
    let report =
        model.load_checkpoint(&Checkpoint { tensors, from: "the file", adapt_head: false, selection: &selection });
    (model, report)
}

/// Loads weights that must fit, and checks that every value has arrived.
fn loaded(tensors: &Tensors, prefix: Option<&str>, ignore: &[&str]) -> LoadReport {
    let (model, report) = load(tensors, prefix, ignore);
    let report = report.unwrap();
    let own = renamed(str::to_owned);
    for (name, t) in model.store.tensors() {
        assert_eq!(t, own[&name], "{name}");
    }
    report
}

fn refused(tensors: &Tensors, prefix: Option<&str>, ignore: &[&str], parts: &[&str]) {
    let text = load(tensors, prefix, ignore).1.unwrap_err().to_string();
    for part in parts.iter().chain(&["the file"]) {
        assert!(text.contains(part), "{part} not in: {text}");
    }
}

#[test]
fn prefixes_of_wrappers_are_taken_away() {
    for (prefix, notes) in [
        ("module.", &["names: prefix `module.` removed"][..]),
        ("_orig_mod.", &["names: `_orig_mod.` removed"]),
        ("model.module.", &["names: prefix `model.module.` removed"]),
        ("backbone._orig_mod.", &["names: `_orig_mod.` removed", "names: prefix `backbone.` removed"]),
        ("a.b.c.d.", &["names: prefix `a.b.c.d.` removed"]),
        // A wrapper may use one of the network's own names.
        ("blocks.", &["names: prefix `blocks.` removed"]),
    ] {
        let mut wrapped = renamed(|name| format!("{prefix}{name}"));
        // torch.optim.swa_utils.AveragedModel adds a counter.
        wrapped.insert("n_averaged".to_owned(), Tensor::from(3i64));
        let report = loaded(&wrapped, None, &[]);
        assert_eq!(report.adapted, notes, "{prefix}");
        assert!(report.left_out.is_empty(), "{report}");
    }
    // A wrapper around parts of the network.
    let inner = renamed(|name| {
        name.replace("blocks.1.", "blocks.1._checkpoint_wrapped_module.").replace("head.", "head._orig_mod.")
    });
    assert_eq!(loaded(&inner, None, &[]).adapted.len(), 2);
}

#[test]
fn a_prefix_before_some_names_only_is_left_and_reported() {
    let own = nano();
    let mut tensors = own.store.tensors();
    let head = tensors.shift_remove("head.weight").unwrap();
    tensors.insert("module.head.weight".to_owned(), head);
    let report = own.load(&tensors, false).unwrap();
    assert_eq!(
        (report.missing, report.unexpected),
        (vec!["head.weight".to_owned()], vec!["module.head.weight".to_owned()])
    );
}

#[test]
fn what_lies_outside_of_the_prefix_is_left_out_and_told() {
    for (prefix, others, told) in [
        ("model.", &["criterion.weight"][..], "outside `model.`: `criterion.` (1 tensor)"),
        (
            "backbone.",
            &["head.mlp.0.weight", "head.last_layer.weight_g", "queue"],
            "outside `backbone.`: `head.` (2 tensors), `queue`",
        ),
        (
            "model.backbone.",
            &["model.neck.weight", "ema_decay"],
            "outside `model.backbone.`: `model.` (1 tensor), `ema_decay`",
        ),
    ] {
        let mut tensors = renamed(|name| format!("{prefix}{name}"));
        tensors.extend(others.iter().map(|name| ((*name).to_owned(), one())));
        let report = loaded(&tensors, None, &[]);
        assert_eq!(report.left_out, [told]);
        assert_eq!(report.adapted, [format!("names: prefix `{prefix}` removed")]);
        // The classifier is searched for under the same prefix.
        let head = classifier(find("vit_nano").unwrap(), &toml::Table::new(), &tensors, &Selection::default()).unwrap();
        let expected = ["weight", "bias"].map(|leaf| (format!("{prefix}head.{leaf}"), format!("head.{leaf}")));
        assert_eq!(head, expected);
    }
}

#[test]
fn two_networks_in_one_file_are_not_guessed_between() {
    let both = |a: &str, b: &str| {
        let mut tensors = renamed(|name| format!("{a}{name}"));
        tensors.extend(renamed(|name| format!("{b}{name}")).into_iter().map(|(name, t)| (name, t.zeros_like())));
        tensors
    };
    for (a, b) in [
        ("teacher.", "student."),
        ("student.backbone.", "teacher.backbone."),
        ("module.encoder_q.", "module.encoder_k."),
    ] {
        let mut tensors = both(a, b);
        refused(
            &tensors,
            None,
            &[],
            &["several networks", &format!("`{a}`"), &format!("`{b}`"), "`prefix`", "`ignore`"],
        );
        loaded(&tensors, Some(a), &[]);
        loaded(&tensors, Some(a.trim_end_matches('.')), &[]);
        let report = loaded(&tensors, None, &[b]);
        assert_eq!(report.left_out.len(), 1, "{report}");
        // A second network without its classifier still counts.
        tensors.retain(|name, _| !name.starts_with(b) || !name.contains("head"));
        refused(&tensors, None, &[], &["several networks"]);
    }
    // A copy next to the network itself.
    let tensors = both("", "ema.");
    refused(&tensors, None, &[], &["without a prefix", "`ema.`", "\"ema\""]);
    assert_eq!(loaded(&tensors, None, &["ema"]).left_out[0].split(':').next(), Some("ignored"));
    refused(&tensors, Some(""), &[], &["unknown to the network", "ignore = [\"ema\"]"]);
    // With another depth, it matches less than half.
    let mut tensors = both("teacher.", "student.");
    tensors.retain(|name, _| !name.starts_with("student.blocks"));
    assert_eq!(loaded(&tensors, None, &[]).left_out, ["outside `teacher.`: `student.` (8 tensors)"]);
}

#[test]
fn a_prefix_or_a_name_that_is_not_there_is_refused_with_those_that_are() {
    let tensors = renamed(|name| format!("model.{name}"));
    refused(&tensors, Some("teacher"), &[], &["\"teacher\"", "`model` ("]);
    refused(&tensors, Some("mod"), &[], &["under the `prefix` \"mod\""]);
    refused(&tensors, None, &["heads"], &["`ignore` lists `heads`", "nearest"]);
    let flat = renamed(|name| name.replace('.', "_"));
    refused(&flat, Some("x"), &[], &["none of its names has a prefix"]);
    let mut twice = renamed(str::to_owned);
    twice.insert("vit.embeddings.cls_token".to_owned(), one());
    twice.insert("vit.embeddings.position_embeddings".to_owned(), one());
    refused(&twice, None, &[], &["unknown to the network"]);
}

#[test]
fn what_is_ignored_is_left_out_and_told_and_proposed_where_it_is_not() {
    let mut mae = renamed(str::to_owned);
    let extra = ["decoder_embed.weight", "decoder_blocks.0.norm1.weight", "decoder_pred.bias", "mask_token"];
    mae.extend(extra.iter().map(|name| ((*name).to_owned(), one())));
    refused(&mae, None, &[], &["ignore = [\"decoder_*\", \"mask_token\"]"]);
    let report = loaded(&mae, None, &["decoder_*", "mask_token"]);
    assert_eq!(
        report.left_out,
        ["ignored: `decoder_embed.` (1 tensor), `decoder_blocks.` (1 tensor), `decoder_pred.` (1 tensor), \
             `mask_token`"]
    );
    // Patterns match the names in the file and those without the prefix.
    let wrapped: Tensors = mae.into_iter().map(|(name, t)| (format!("module.{name}"), t)).collect();
    loaded(&wrapped, None, &["decoder_*", "mask_token"]);
    loaded(&wrapped, None, &["module.decoder_*", "module.mask_token"]);
    loaded(&wrapped, Some("module"), &["decoder_*", "mask_token"]);
    // Then tensors that the network needs are missing.
    refused(&wrapped, None, &["decoder_*", "mask_token", "norm.*"], &["2 missing", "norm.weight"]);
}

/// MAE's fine-tuned networks average their patches.
#[test]
fn a_norm_behind_the_pooling_is_recognised() {
    let average = "pool = \"avg\"".parse().unwrap();
    let own = build("vit_nano", 8, &average);
    let text = nano().load_strict(&own.store.tensors(), "the file", false).unwrap_err().to_string();
    assert!(text.contains("`pool = \"avg\"`"), "{text}");
    assert!(own.load_strict(&own.store.tensors(), "the file", false).unwrap().is_clean());
    let text = own.load_strict(&nano().store.tensors(), "the file", false).unwrap_err().to_string();
    assert!(text.contains("`fc_norm = false`"), "{text}");
}
