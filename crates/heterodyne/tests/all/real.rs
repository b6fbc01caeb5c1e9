use std::{collections::HashMap, fs, path::Path, sync::Arc};

use heterodyne::{
    data::{self, EvalLoader},
    nn::Pass,
    run::recipe::schema::{NetworkTable, Precision},
    train::{
        network::{
            BuildOptions, Network, Weights,
            input::{self, DataImages, Resolved},
        },
        run::eval::evaluate,
    },
};
use tch::Device;

use crate::support::real;

fn deit(weights: &Path, img: i64, classes: i64) -> Network {
    let def = heterodyne::models::find("deit_tiny_patch16_224").unwrap();
    let mut table = NetworkTable::of(def.name);
    table.img = Some(img);
    let weights = Weights::read(weights.into()).unwrap();
    assert_eq!(weights.classes(def, &toml::Table::new()).unwrap(), Some(classes));
    let Resolved { input, table } = input::resolve(&table, def, Some(&weights), DataImages::default()).unwrap();
    let options = BuildOptions { classes, precision: Precision::Fp32, device: Device::Cpu, seed: 0 };
    Network::build(def, &table, input, Some(&weights), options).unwrap()
}

/// On the same 1,000 images, timm with `F.interpolate(mode="bicubic")` classifies 799 correctly, with a mean loss of
/// 0.71169.
#[test]
fn the_real_teacher_knows_cifar100_as_it_does_in_timm() {
    let (Some(cifar), Some(weights)) = (real("cifar100"), real("weights/deit_tiny_patch16_112.cifar100.safetensors"))
    else {
        return;
    };
    let net = deit(&weights, 112, 100);
    let test = data::open("cifar100", Some(&cifar), &data::Reading::default()).unwrap().test.unwrap();
    let loader =
        EvalLoader::new(Arc::clone(&test), (0..1000).collect(), 100, heterodyne::nn::InputSpec::centred(32, 1.0), 0)
            .unwrap();
    let measured = evaluate(&net, &loader, |_| {}).unwrap();
    assert!((measured.top1 - 79.9).abs() < 0.11, "{measured:?}");
    assert!((measured.loss - 0.711_69).abs() < 1e-4, "{measured:?}");
}

/// timm classifies 81 of the 99 photographs correctly (resize 248 bicubic, crop 224).
#[test]
fn the_real_imagenet_weights_know_the_photographs() {
    let (Some(photos), Some(weights)) =
        (real("imagenet-sample"), real("weights/deit_tiny_patch16_224.in1k.safetensors"))
    else {
        return;
    };
    let net = deit(&weights, 224, 1000);
    let root = tempfile::tempdir().unwrap();
    let mut expected = HashMap::new();
    for line in fs::read_to_string(photos.join("labels.csv")).unwrap().lines().skip(1) {
        let mut columns = line.split(',');
        let (file, index) = (columns.next().unwrap(), columns.next().unwrap().parse::<i64>().unwrap());
        let class = file.split('_').next().unwrap();
        for split in ["train", "val"] {
            let folder = root.path().join(split).join(class);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(photos.join(file), folder.join(file)).unwrap();
        }
        expected.insert(class.to_owned(), index);
    }
    let test =
        Arc::clone(data::open("folder", Some(root.path()), &data::Reading::default()).unwrap().reported().unwrap());
    let loader = EvalLoader::new(Arc::clone(&test), (0..test.len()).collect(), 33, net.input, 0).unwrap();
    let mut hits = 0;
    for batch in loader.iter() {
        let batch = batch.unwrap();
        let named =
            Vec::<i64>::try_from(net.infer(&batch.images, Pass::EVAL).unwrap().logits.argmax(-1, false)).unwrap();
        hits += batch
            .indices
            .iter()
            .zip(named)
            .filter(|&(&i, name)| expected[&test.classes()[test.label(i)]] == name)
            .count();
    }
    assert!((80..=82).contains(&hits), "{hits} of 99");
}
