//! Every recipe and every layer that is shipped can be used.
use std::path::{Path, PathBuf};

use heterodyne::{
    run::recipe::Layered,
    train::{Command, Plan},
};

fn folder(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes")).join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder(name)).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect();
    files.sort();
    assert!(!files.is_empty(), "{name}");
    files
}

fn plan(path: &Path, sets: &[&str]) -> Plan {
    let layered = Layered::read(path, &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{e}"));
    let command = if layered.recipe().unwrap().teacher.is_some() { Command::Distill } else { Command::Train };
    Plan::resolve(&layered, command).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_recipe_resolves() {
    for name in ["cifar100", "digits", "studies"] {
        for path in files(name) {
            match path.file_stem().unwrap().to_str().unwrap() {
                // Layers without a method.
                "pair" | "short" => continue,
                _ if name == "digits" && !["student", "teacher"].iter().any(|s| path.ends_with(format!("{s}.toml"))) => {
                    plan(&path, &["teacher.weights=x.safetensors"])
                }
                _ => plan(&path, &[]),
            };
        }
    }
}

#[test]
fn every_method_has_a_recipe_and_it_is_what_the_name_says() {
    for def in heterodyne::methods::all() {
        let plan = plan(&folder("cifar100").join(format!("{}.toml", def.name)), &[]);
        assert_eq!(plan.methods.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), [def.name]);
        assert!(plan.recipe.name.ends_with(def.name));
    }
}

/// The values of PROTOCOL's table, where a slip would cost somebody 300 epochs.
#[test]
fn the_protocols_layers_hold_the_published_values() {
    let base = |name: &str| plan(&folder("base").join(name), &["student.model=resnet18", "data.name=folder", "data.path=x"]).recipe;
    let lr = |name: &str| (base(name).optim.lr, base(name).schedule.min_lr, base(name).optim.weight_decay);
    assert_eq!(lr("hetero-cifar100-conv.toml"), (0.05, 1e-3, 2e-3));
    assert_eq!(lr("hetero-cifar100-token.toml"), (5e-4, 1e-5, 0.05));
    assert_eq!(lr("hetero-imagenet-conv.toml"), (0.1, 0.0, 1e-4));
    assert_eq!(lr("hetero-imagenet-token.toml"), (5e-4, 1e-6, 0.05));
    let length = |name: &str| (base(name).train.epochs, base(name).train.batch, base(name).schedule.warmup_epochs);
    assert_eq!(length("hetero-cifar100-conv.toml"), (300, 1024, 3.0));
    assert_eq!(length("hetero-cifar100-token.toml"), (300, 1024, 20.0));
    assert_eq!(length("hetero-imagenet-conv.toml"), (100, 512, 3.0));
    assert_eq!(length("hetero-imagenet-token.toml"), (300, 1024, 20.0));
    for name in ["hetero-cifar100-token.toml", "hetero-imagenet-token.toml"] {
        let plan = plan(&folder("base").join(name), &["student.model=resnet18", "data.path=x"]);
        let drawn = plan.augment.rand_augment.expect("RandAugment");
        assert_eq!((drawn.magnitude, drawn.std, drawn.ops, drawn.chance), (9.0, 0.5, 2, 0.5));
        assert!(plan.mix.is_on() && plan.augment.erase == 0.25 && plan.augment.flip == 0.5 && plan.recipe.train.clip == Some(5.0));
    }
    let cifar32 = base("cifar32.toml");
    assert_eq!((cifar32.train.epochs, cifar32.train.batch, cifar32.optim.lr, cifar32.optim.weight_decay), (240, 64, 0.05, 5e-4));
}

/// A method's layer over a pair, as the guide says.
#[test]
fn every_layer_of_a_method_can_be_laid_over_a_pair() {
    for protocol in ["cifar32", "hetero"] {
        for layer in files(&format!("methods/{protocol}")) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("own.toml");
            let pair = folder("cifar100").join("pair.toml");
            std::fs::write(&path, format!("base = ['{}', '{}']", pair.display(), layer.display())).unwrap();
            assert_eq!(plan(&path, &[]).methods.len(), 1, "{}", layer.display());
        }
    }
    let weights = |name: &str| plan(&folder("cifar100").join(name), &[]).recipe;
    let kd = weights("kd.toml");
    assert_eq!(
        (kd.loss.ce, kd.methods["kd"]["weight"].as_float(), kd.methods["kd"]["temperature"].as_float()),
        (0.1, Some(0.9), Some(4.0))
    );
    for (name, weight) in [("fitnet", 100.0), ("at", 1000.0), ("sp", 3000.0), ("cc", 0.02), ("crd", 0.8)] {
        assert_eq!(weights(&format!("{name}.toml")).methods[name]["weight"].as_float(), Some(weight), "{name}");
    }
    let dkd = &weights("dkd.toml").methods["dkd"];
    assert_eq!(
        (dkd["beta"].as_float(), dkd["temperature"].as_float(), dkd["warmup_epochs"].as_float()),
        (Some(8.0), Some(4.0), Some(20.0))
    );
}
