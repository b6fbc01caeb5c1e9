//! `heterodyne inspect`.
use crate::support::Place;

#[test]
fn a_network_is_described_by_its_known_numbers() {
    let place = Place::new();
    let json: serde_json::Value =
        serde_json::from_str(&place.good("inspect resnet18 --img 64 --batch 2 --json --device cpu")).unwrap();
    let student = &json["student"];
    // The count of torchvision and timm; He et al. 2016 give 1.8 billion multiply-adds at 224 px.
    assert_eq!(student["parameters"], 11_689_512);
    let gflop = student["gflop_per_image"].as_f64().unwrap() * (224.0f64 / 64.0).powi(2);
    assert!((gflop - 3.63).abs() < 0.06, "{gflop}");
    let grids: Vec<_> = student["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["channels"].as_i64().unwrap(), s["grid"][0].as_i64().unwrap()))
        .collect();
    assert_eq!(grids, [(64, 16), (128, 8), (256, 4), (512, 2)]);
    assert!(student["train_images_per_second"].as_f64().unwrap() > 0.0 && json["teacher"].is_null());
}

#[test]
fn a_pair_says_which_stages_meet_and_what_methods_build() {
    let place = Place::new();
    let said = place.good("inspect resnet8 --teacher vit_nano --num-classes 10 --batch 4 --device cpu");
    for part in [
        "map 16 x 32x32",
        "tokens 64 x 4x4 + 1",
        "kd       learns nothing of its own; reads the teacher's logits\n",
        "uhkd     learns",
        "hcd      learns",
        "values per image",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    place.bad("inspect resnet9", &["there is no model `resnet9`", "resnet8"]);
    place.bad("inspect vit_nano --img 9 --device cpu", &["9 px cannot be divided into patches of 2 px"]);
    place.bad("inspect vgg8 --img 7 --device cpu", &["7 px", "at least 8 px"]);
    place.bad("inspect resnet8 --num-classes 0 --device cpu", &["0 classes"]);
}
