//! The options of a model, and the errors for invalid ones.
use heterodyne_models::{Model, all, described, find};
use tch::Device;

use crate::support::table;

fn refusal(name: &str, classes: i64, img: i64, options: &str) -> String {
    match Model::build(find(name).unwrap(), classes, Some(img), &table(options), Device::Cpu, 0) {
        Ok(_) => panic!("{name} at {img} px with {options} was built"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn an_unknown_name_brings_the_nearest_ones() {
    let text = find("resnet81").unwrap_err().to_string();
    assert!(text.contains("`resnet81`") && text.contains("`resnet18`"), "{text}");
    let text = find("deit_tiny").unwrap_err().to_string();
    assert!(text.contains("`deit_tiny_patch16_224`"), "{text}");
}

#[test]
fn sizes_that_do_not_fit_are_named_with_the_nearest_that_do() {
    let text = refusal("deit_tiny_patch16_224", 10, 100, "");
    assert!(
        text.starts_with("deit_tiny_patch16_224: ") && text.contains("96 and 112") && text.contains("`patch`"),
        "{text}"
    );
    assert!(refusal("mixer_s16_224", 10, 8, "").contains("smallest size is 16"));
    assert!(refusal("resmlp_12_224", 10, 30, "").contains("16 and 32"));
    assert!(refusal("swin_tiny_patch4_window7_224", 10, 50, "").contains("48 and 52"));
    assert!(refusal("swin_tiny_patch4_window7_224", 10, 3, "").contains("smallest size is 4"));
    assert!(refusal("convnext_tiny", 10, 31, "").contains("smallest size is 32"));
    assert!(refusal("convnext_tiny", 10, 15, "patch = 2").contains("smallest size is 16"));
    assert!(refusal("resnet18", 10, 0, "").contains("at least 1"));
    assert!(refusal("resnet18", 0, 32, "").contains("at least 1"));
    assert!(refusal("vgg8", 10, 7, "").contains("at least 8 px"));
    // A Swin's masks for such an image would take gigabytes.
    assert!(
        refusal("swin_tiny_patch4_window7_224", 10, 1_000_000_000, "").contains("at most 1000000 classes and 16384 px")
    );
    assert!(refusal("resnet8", i64::MAX, 32, "").contains("at most 1000000 classes"));
}

#[test]
fn options_that_cannot_be_are_refused_by_key() {
    for (name, options, key, part) in [
        ("vit_nano", "depth = 3", "depth", "from 4 to"),
        ("vit_nano", "depth = 1000000000", "depth", "to 1000"),
        ("vit_nano", "dim = 1000000000000", "dim", "to 65536"),
        ("mixer_nano", "depth = 1000000000", "depth", "to 1000"),
        ("swin_tiny_patch4_window7_224", "depths = [2, 2, 1000000000, 2]", "depths", "to 1000"),
        ("convnext_tiny", "depths = [1000000000, 1, 1, 1]", "depths", "to 1000"),
        ("vit_nano", "heads = 5", "heads", "must divide"),
        ("vit_nano", "heads = 0", "heads", "from 1 to"),
        ("vit_nano", "patch = -2", "patch", "from 1 to"),
        ("vit_nano", "dim = \"wide\"", "dim", "expected i64"),
        ("vit_nano", "widht = 3", "widht", "expected one of `patch`, `dim`, `depth`, `heads`"),
        ("mixer_nano", "heads = 3", "heads", "unknown field"),
        ("mixer_nano", "dim = 1", "dim", "from 2 to"),
        ("mixer_nano", "depth = 1", "depth", "from 4 to"),
        ("resmlp_12_224", "depth = 0", "depth", "from 4 to"),
        ("swin_tiny_patch4_window7_224", "heads = 5", "heads", "must divide"),
        ("swin_tiny_patch4_window7_224", "window = 0", "window", "from 1 to"),
        ("swin_tiny_patch4_window7_224", "depths = [2, 2, 2]", "depths", "array of length 4"),
        ("swin_tiny_patch4_window7_224", "depths = [2, 0, 2, 2]", "depths", "from 1 to"),
        (
            "swin_tiny_patch4_window7_224",
            "depth = 4",
            "depth",
            "expected one of `patch`, `window`, `dim`, `depths`, `heads`",
        ),
        ("convnext_tiny", "dim = 0", "dim", "from 1 to"),
        ("convnext_tiny", "depths = 3", "depths", "array of length 4"),
        ("convnext_tiny", "window = 7", "window", "unknown field"),
        ("resnet18", "stem = \"cifra\"", "stem", "expected `imagenet` or `cifar`"),
        ("resnet20", "stem = \"cifar\"", "stem", "unknown field"),
        ("mobilenetv2_100", "width = 2", "width", "unknown field"),
    ] {
        let e = (find(name).unwrap().check_options)(&table(options)).unwrap_err();
        assert!(e.to_string().contains(part) && e.to_string().contains(key), "{name} {options}: {e}");
        assert_eq!(refusal(name, 10, 8, options), format!("{name}: options: {e}"));
    }
}

/// The defaults in the help are the actual ones: written out, they build the same parameters.
#[test]
fn documented_defaults_are_the_ones_in_force() {
    for def in all().filter(|def| !def.name.contains("base") && !def.name.contains("_b16")) {
        let text = (def.defaults)().to_string();
        let shapes = |options: &str| {
            let model = Model::build(def, 3, None, &table(options), Device::Cpu, 0).unwrap();
            model.store.entries().into_iter().map(|(name, t, _)| (name, t.size())).collect::<Vec<_>>()
        };
        (def.check_options)(&table(&text)).unwrap();
        assert_eq!(shapes(&text), shapes(""), "{}", def.name);
    }
}

/// stated.json records what timm itself does with the arguments (tests/goldens/stated.py).
#[test]
fn arguments_that_change_nothing_in_timm_are_taken_and_others_refused() {
    let cases: Vec<serde_json::Value> = serde_json::from_str(include_str!("../goldens/stated.json")).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for case in cases {
        let def = find(case["model"].as_str().unwrap()).unwrap();
        let argument = case["argument"].as_str().unwrap();
        let options = described::options(def, &[(argument.to_owned(), case["value"].clone())].into_iter().collect());
        match (options, case["same"].as_bool().unwrap()) {
            (Ok(options), true) => {
                for (name, value) in options {
                    // `fc_norm` has no default: it follows `pool`.
                    let own = (def.defaults)().get(&name).map_or_else(|| "false".to_owned(), toml::Value::to_string);
                    let number =
                        |text: String| text.parse::<f64>().map_or(text.replace(' ', ""), |number| number.to_string());
                    assert_eq!(number(value.to_string()), number(own), "{case}: {name}");
                }
                taken += 1;
            }
            (Err(e), false) => {
                assert!(e.to_string().starts_with(&format!("`{argument}` = ")), "{case}: {e}");
                refused += 1;
            }
            (Ok(options), false) => panic!("{case}: taken as {options}"),
            (Err(e), true) => panic!("{case}: {e}"),
        }
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > 120 && refused > 20);
}
