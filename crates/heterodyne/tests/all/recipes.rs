//! Every recipe and every layer in `recipes/` is usable.
use std::path::{Path, PathBuf};

use heterodyne::{
    methods,
    models::{self, Model},
    nn::TapSpec,
    run::recipe::{
        Layered,
        schema::{CosineFrom, ScheduleName},
    },
    train::{Mode, Plan},
};

fn folder(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes")).join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder(name)).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect();
    files.sort();
    assert!(!files.is_empty(), "{name}");
    files
}

fn plan(path: &Path, sets: &[&str]) -> Plan {
    let layered = Layered::read(path, &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
        .unwrap_or_else(|e| panic!("{e}"));
    let command = if layered.recipe().unwrap().teacher.is_some() { Mode::Distill } else { Mode::Train };
    Plan::resolve(&layered, command).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_recipe_resolves() {
    for name in ["cifar100", "digits", "photos", "studies"] {
        for path in files(name) {
            match path.file_stem().unwrap().to_str().unwrap() {
                // Layers without methods.
                "pair" | "short" => continue,
                _ if name == "digits"
                    && !["student", "teacher"].iter().any(|s| path.ends_with(format!("{s}.toml"))) =>
                {
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

/// The values of the published protocols, where a mistake would cost 300 epochs.
#[test]
fn the_protocols_layers_hold_the_published_values() {
    let base = |name: &str| {
        plan(&folder("base").join(name), &["student.model=resnet18", "data.name=folder", "data.path=x"]).recipe
    };
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
        assert!(
            plan.mix.is_on()
                && plan.augment.erase == 0.25
                && plan.augment.flip == 0.5
                && plan.recipe.train.clip_grad == Some(5.0)
        );
    }
    assert_eq!(base("hetero-imagenet-token.toml").train.ema_decay, Some(0.99996));
    for name in ["hetero-cifar100-conv.toml", "hetero-cifar100-token.toml", "hetero-imagenet-token.toml"] {
        assert_eq!(base(name).schedule.cosine_from, CosineFrom::Start, "{name}: timm counts the cosine from the start");
    }
    let multistep = base("cifar-b128-multistep.toml");
    assert_eq!(
        (multistep.train.epochs, multistep.train.batch, multistep.train.label_smoothing, multistep.train.ema_decay),
        (300, 128, 0.1, None)
    );
    assert_eq!((multistep.optim.lr, multistep.optim.weight_decay, multistep.schedule.warmup_epochs), (0.05, 5e-4, 3.0));
    assert_eq!(
        (multistep.schedule.name, multistep.schedule.milestones),
        (ScheduleName::Step, vec![150.0, 200.0, 250.0])
    );
    let light = base("cifar32-light.toml");
    assert_eq!((light.optim.lr, light.train.epochs, light.train.batch), (0.01, 240, 64));
    let cifar32 = base("cifar32.toml");
    assert_eq!(
        (cifar32.train.epochs, cifar32.train.batch, cifar32.optim.lr, cifar32.optim.weight_decay),
        (240, 64, 0.05, 5e-4)
    );
}

/// A method's layer on top of a pair, as in the guide.
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

/// A method's layer as (weight, cross-entropy weight, the method's table).
fn method(layer: &str) -> (f64, f64, toml::Table) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recipe.toml");
    let bases = ["cifar100/pair.toml".to_owned(), format!("methods/{layer}.toml")]
        .map(|name| folder(&name).canonicalize().unwrap());
    std::fs::write(&path, format!("base = [{:?}, {:?}]\nname = \"x\"\n", bases[0], bases[1])).unwrap();
    let mut recipe = plan(&path, &[]).recipe;
    assert_eq!(recipe.methods.len(), 1, "{layer}");
    let (_, mut table) = recipe.methods.pop().unwrap();
    let weight = table.remove("weight").map_or(1.0, |w| w.as_float().unwrap());
    (weight, recipe.loss.ce, table)
}

#[test]
fn the_methods_layers_hold_the_published_weights() {
    for (layer, weight, ce) in [
        ("cifar32/kd", 0.9, 0.1),
        ("cifar32/logit_std", 9.0, 0.1),
        ("cifar32/at", 1000.0, 1.0),
        ("cifar32/fitnet", 100.0, 1.0),
        ("cifar32/reviewkd", 5.0, 1.0),
        ("hetero/crd", 1.0, 1.0),
        ("hetero/fitnet", 4.0, 1.0),
        ("hetero/rsd", 0.1, 1.0),
    ] {
        let (w, c, _) = method(layer);
        assert_eq!((w, c), (weight, ce), "{layer}");
    }
    assert_eq!(method("cifar32/logit_std").2["temperature"].as_float(), Some(2.0));
    assert_eq!(method("hetero/rsd").2["kappa"].as_float(), Some(0.01));
}

fn taps(model: &str) -> TapSpec {
    Model::shapes(models::find(model).unwrap(), 100, Some(32), &toml::Table::new()).unwrap()
}

/// The stages that the 32 px protocol's layers read, as (channels, side) after the stem, for each family of its
/// networks as student and as teacher.
#[test]
fn the_32_px_protocol_counts_layers_without_the_stem() {
    let families: &[(&str, &[(i64, i64)])] = &[
        ("resnet20", &[(16, 32), (32, 16), (64, 8)]),
        ("resnet8x4", &[(64, 32), (128, 16), (256, 8)]),
        ("wrn_16_2", &[(32, 32), (64, 16), (128, 8)]),
        ("shufflenetv1", &[(240, 16), (480, 8), (960, 4)]),
        ("shufflenetv2", &[(116, 16), (232, 8), (464, 4)]),
        ("vgg8", &[(128, 16), (256, 8), (512, 4), (512, 4)]),
        ("mobilenetv2_half", &[(12, 16), (16, 8), (48, 4), (160, 2)]),
    ];
    let shape = |spec: &heterodyne::nn::StageSpec| (spec.channels, spec.grid.0);
    for (student, theirs) in families {
        for (teacher, layers) in families.iter().filter(|(_, layers)| layers.len() == theirs.len()) {
            let (student, teacher) = (taps(student), taps(teacher));
            let stages = |layer: &str| -> Vec<usize> {
                let (_, _, table) = method(layer);
                let levels: methods::parts::levels::Levels = table["levels"].clone().try_into().unwrap();
                levels.of(&student, &teacher)
            };
            for layer in ["cifar32/at", "cifar32/nst", "cifar32/vid", "cifar32/reviewkd"] {
                let read =
                    |taps: &TapSpec| stages(layer).into_iter().map(|n| shape(&taps.stages[n - 1])).collect::<Vec<_>>();
                assert_eq!((read(&student), read(&teacher)), (theirs.to_vec(), layers.to_vec()), "{layer}");
            }
            let hint = stages("cifar32/fitnet");
            assert_eq!(hint.len(), 1);
            assert_eq!(
                (shape(&student.stages[hint[0] - 1]), shape(&teacher.stages[hint[0] - 1])),
                (theirs[1], layers[1])
            );
        }
    }
}
