//! Networks of Hugging Face's transformers (goldens/transformers.py), through the command line.
use std::{
    fs,
    path::{Path, PathBuf},
};

use heterodyne::nn::{Tensors, file};

use crate::support::{Place, stderr};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/transformers").join(name)
}

fn expected() -> Tensors {
    file::read(&golden("expected.safetensors")).unwrap().0
}

/// Folders and their models.
const NETWORKS: [(&str, &str); 3] = [
    ("vit", "vit_tiny_patch16_224"),
    ("deit", "deit_tiny_distilled_patch16_224"),
    ("deit_class", "deit_tiny_distilled_patch16_224"),
];

/// A temporary folder with these networks and `x`.
fn place() -> Place {
    let place = Place::new();
    for (name, _) in NETWORKS {
        fs::create_dir(place.path(name)).unwrap();
        for file in ["config.json", "preprocessor_config.json", "model.safetensors"] {
            fs::copy(golden(name).join(file), place.path(name).join(file)).unwrap();
        }
    }
    file::write(&place.path("x.safetensors"), [("x", &expected()["x"])], Default::default()).unwrap();
    place
}

/// The largest difference between written and expected logits, relative to the largest logit.
fn off(place: &Place, key: &str) -> f64 {
    let (found, _) = file::read(&place.path("f.safetensors")).unwrap();
    let expected = &expected()[key];
    (&found["logits"] - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[])
}

#[test]
fn their_logits_are_those_of_transformers() {
    let place = place();
    for (name, model) in NETWORKS {
        let text = place
            .good(&format!("features {model} --weights {name} --input x.safetensors --out f.safetensors --device cpu"));
        assert!(text.contains("names: those of transformers, converted to timm's"), "{text}");
        let d = off(&place, &format!("{name}/x"));
        assert!(d < 1e-5, "{name}: {d:.1e}");
    }
}

#[test]
fn images_are_shown_as_its_processor_shows_them() {
    let place = place();
    fs::copy(golden("picture.png"), place.path("picture.png")).unwrap();
    for (name, model) in NETWORKS {
        place.good(&format!("features {model} --weights {name} --input picture.png --out f.safetensors --device cpu"));
        let d = off(&place, &format!("{name}/picture"));
        // A few pixels of the resized image differ by one level from Pillow's, whose weights have more bits
        // (crates/data/tests/all/transforms.rs).
        assert!(d < 5e-4, "{name}: {d:.1e}");
    }
    // Without the processor's description the images are presented differently.
    fs::remove_file(place.path("deit/preprocessor_config.json")).unwrap();
    place.good(
        "features deit_tiny_distilled_patch16_224 --weights deit --input picture.png --out f.safetensors --device cpu",
    );
    assert!(off(&place, "deit/picture") > 1e-3);
}

/// Since transformers 5, a network's state dict has other names than its files.
#[test]
fn a_state_dict_from_memory_is_read_too() {
    let place = place();
    fs::copy(golden("vit_memory.pth"), place.path("m.pth")).unwrap();
    let sizes = "--option dim=8 --option heads=2 --option depth=4 --option patch=4";
    place.good(&format!(
        "features vit_tiny_patch16_224 {sizes} --option norm_eps=1e-12 --weights m.pth --input x.safetensors --out \
         f.safetensors"
    ));
    assert!(off(&place, "vit/x") < 1e-5);
}

#[test]
fn the_folder_says_which_model_classes_and_size_it_is() {
    let place = place();
    let text = place.good("export vit --out out --format torchscript");
    assert!(text.contains("vit_tiny_patch16_224 at 16 px, 3 classes"), "{text}");
    assert!(text.contains("both sides to 16 px (bilinear), centre 16 px, mean 0.4000 0.5000 0.6000"), "{text}");
    let (_, metadata) = file::read(&place.path("out/model.safetensors")).unwrap();
    assert!(metadata["heterodyne"].contains("\"great grey owl\",\"tabby, tabby cat\",\"pug\""), "{metadata:?}");
    let text = place.good("export deit_class --out out2 --format torchscript");
    assert!(text.contains("both sides to 20 px (bicubic), centre 16 px"), "{text}");
}

#[test]
fn what_is_not_had_here_is_refused_by_name() {
    let place = place();
    let run = |name: &str| {
        format!("features vit_tiny_patch16_224 --weights {name} --input x.safetensors --out f.safetensors")
    };
    let config = place.read("vit/config.json");
    for (old, new, part) in [
        ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"gelu_new\"", "`hidden_act`"),
        ("\"intermediate_size\": 32", "\"intermediate_size\": 16", "`intermediate_size`"),
        ("\"num_channels\": 3", "\"num_channels\": 1", "`num_channels`"),
        ("\"qkv_bias\": true", "\"qkv_bias\": false", "`qkv_bias`"),
        ("\"layer_norm_eps\": 1e-12", "\"layer_norm_eps\": 0", "norm_eps"),
        ("\"layer_norm_eps\": 1e-12", "\"layer_norm_eps\": \"small\"", "`layer_norm_eps`"),
        ("\"num_attention_heads\": 2", "\"num_attention_heads\": 3", "heads"),
        ("\"patch_size\": 4", "\"patch_size\": [4, 2]", "`patch_size`"),
        ("\"image_size\": 16", "\"image_size\": 32", "`image_size` = 32"),
        ("\"model_type\": \"vit\"", "\"model_type\": \"swin\"", "\"swin\""),
        ("\"model_type\": \"vit\"", "\"model_type\": \"deit\"", "with a distillation token"),
        ("\"1\": \"tabby, tabby cat\"", "\"7\": \"tabby, tabby cat\"", "`id2label`"),
        ("\"2\": \"pug\"\n", "\"2\": \"pug\", \"3\": \"cat\"\n", "`id2label` = 4"),
        ("\"model_type\": \"vit\",", "", "`model_type`"),
    ] {
        let other = config.replace(old, new);
        assert_ne!(other, config, "{old}");
        fs::write(place.path("vit/config.json"), other).unwrap();
        place.bad(&run("vit"), &[part, "config.json"]);
    }
    fs::write(place.path("vit/config.json"), config).unwrap();
    for (text, part) in
        [("{\"do_resize\": false}", "`do_resize`"), ("<html>", "a web page"), ("{", "EOF"), ("", "is empty")]
    {
        fs::write(place.path("vit/preprocessor_config.json"), text).unwrap();
        place.bad(&run("vit"), &[part, "preprocessor_config.json"]);
    }
    // Weights that lack one of query, key and value.
    fs::remove_file(place.path("vit/preprocessor_config.json")).unwrap();
    let (mut tensors, _) = file::read(&place.path("vit/model.safetensors")).unwrap();
    tensors.shift_remove("vit.encoder.layer.1.attention.attention.key.weight");
    file::write(&place.path("vit/model.safetensors"), tensors.iter().map(|(n, t)| (n.as_str(), t)), Default::default())
        .unwrap();
    place.bad(&run("vit"), &["`blocks.1.attn.qkv.weight`", "attention.query.weight"]);
}

/// ViTModel has a pooler, which no classifier here reads.
#[test]
fn a_network_without_a_classifier_says_what_to_leave_out() {
    let place = place();
    let (tensors, _) = file::read(&place.path("vit/model.safetensors")).unwrap();
    let bare = tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix("vit.")?, t)));
    let pooler = &tensors["classifier.weight"];
    file::write(
        &place.path("vit/model.safetensors"),
        bare.chain([("pooler.dense.weight", pooler)]),
        Default::default(),
    )
    .unwrap();
    let run = "features vit_tiny_patch16_224 --num-classes 3 --weights vit --input x.safetensors --out f.safetensors";
    let output = place.run(run);
    assert!(stderr(&output).contains("ignore = [\"pooler\"]"), "{}", stderr(&output));
    place
        .bad(&format!("{run} --ignore pooler"), &["2 missing", "`adapt_head = true`", "ignored: `pooler.` (1 tensor)"]);
}
