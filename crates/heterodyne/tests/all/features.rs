//! `heterodyne features` against the library, and on bad input.
use std::collections::HashMap;

use heterodyne::{
    models::{Checkpoint, Model, Selection, find},
    nn::{Pass, Tensors, file, shim::NoGrad},
};
use tch::{Device, Kind, Tensor};

use crate::support::Place;

/// Five images of 8 x 8 levels, with values computed from their positions.
fn levels() -> Tensor {
    (Tensor::arange(5 * 3 * 64, (Kind::Int64, Device::Cpu)) * 37)
        .remainder(256)
        .reshape([5, 3, 8, 8])
        .to_kind(Kind::Uint8)
}

/// Normalises as the weights' card states.
fn normalised(levels: &Tensor) -> Tensor {
    (levels.to_kind(Kind::Float) / 255.0 - 0.3) / 0.4
}

fn write(place: &Place, name: &str, tensors: &[(&str, &Tensor)]) {
    file::write(&place.path(name), tensors.iter().copied(), HashMap::new()).unwrap();
}

fn write_images(place: &Place) {
    std::fs::create_dir_all(place.path("images/more")).unwrap();
    for (i, name) in ["a.png", "b.png", "c.png", "more/d.png", "more/e.png"].iter().enumerate() {
        let pixels = levels().get(i as i64).permute([1, 2, 0]).contiguous().flatten(0, -1);
        let bytes = Vec::<u8>::try_from(pixels).unwrap();
        image::save_buffer(place.path("images").join(name), &bytes, 8, 8, image::ColorType::Rgb8).unwrap();
    }
}

fn expected(place: &Place) -> Tensors {
    let (tensors, _) = file::read(&place.path("teacher.safetensors")).unwrap();
    let checkpoint = Checkpoint {
        tensors: &tensors,
        from: "teacher.safetensors",
        adapt_head: false,
        selection: &Selection::default(),
    };
    let model =
        Model::with_weights(find("vit_nano").unwrap(), 10, None, &toml::Table::new(), Device::Cpu, 0, &checkpoint)
            .unwrap();
    let _guard = NoGrad::new();
    let out = model.net.forward(&normalised(&levels()), Pass::TEACH);
    let stages = (1..).zip(&out.stages).map(|(i, stage)| (format!("stage{i}"), stage.tensor().shallow_clone()));
    [("logits".to_owned(), out.logits), ("embedding".to_owned(), out.embedding.unwrap())]
        .into_iter()
        .chain(stages)
        .collect()
}

fn compare(place: &Place, out: &str) {
    let (found, metadata) = file::read(&place.path(out)).unwrap();
    let expected = expected(place);
    assert_eq!(found.len(), expected.len());
    for (name, theirs) in &expected {
        let off = (&found[name] - theirs).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{name}: {off}");
    }
    assert_eq!((metadata["model"].as_str(), metadata["img"].as_str()), ("vit_nano", "8"));
}

const COMMAND: &str = "features vit_nano --weights teacher.safetensors --device cpu";

#[test]
fn a_normalised_tensor_gives_what_the_library_gives() {
    let place = Place::new();
    write(&place, "x.safetensors", &[("x", &normalised(&levels()))]);
    let said = place.good(&format!("{COMMAND} --input x.safetensors --out f.safetensors --batch 2"));
    assert!(said.contains("5 images") && said.contains("stage4     [5, 17, 64]"), "{said}");
    compare(&place, "f.safetensors");
}

#[test]
fn images_are_read_sorted_and_normalised_as_the_weights_say() {
    let place = Place::new();
    write_images(&place);
    place.good(&format!("{COMMAND} --input images --out f.safetensors --batch 3"));
    compare(&place, "f.safetensors");
    let (_, metadata) = file::read(&place.path("f.safetensors")).unwrap();
    let files: Vec<String> = serde_json::from_str(&metadata["files"]).unwrap();
    assert_eq!(files, ["images/a.png", "images/b.png", "images/c.png", "images/more/d.png", "images/more/e.png"]);
    // Files one by one, in the order given.
    place.good(&format!("{COMMAND} --input images/b.png images/a.png --out g.safetensors"));
    let (two, _) = file::read(&place.path("g.safetensors")).unwrap();
    let off = (two["logits"].get(0) - expected(&place)["logits"].get(1)).abs().max().double_value(&[]);
    assert!(off < 1e-5, "{off}");
}

#[test]
fn what_cannot_be_computed_is_refused_and_an_old_file_stays() {
    let place = Place::new();
    write_images(&place);
    let x = normalised(&levels());
    write(&place, "x.safetensors", &[("x", &x)]);
    write(&place, "y.safetensors", &[("y", &x)]);
    write(&place, "wide.safetensors", &[("x", &x.narrow(2, 0, 4))]);
    write(&place, "whole.safetensors", &[("x", &levels())]);
    write(&place, "hole.safetensors", &[("x", &x.index_fill(0, &Tensor::from_slice(&[3i64]), f64::NAN))]);
    std::fs::create_dir(place.path("empty")).unwrap();
    let bytes = std::fs::read(place.path("images/b.png")).unwrap();
    std::fs::write(place.path("images/cut.png"), &bytes[..40]).unwrap();
    std::fs::write(place.path("f.safetensors"), "old").unwrap();
    for (rest, parts) in [
        ("--input nothing", &["nothing", "does not exist"][..]),
        ("--input empty", &["empty", "holds no JPEG, PNG"]),
        ("--input images", &["images/cut.png", "cut short"]),
        ("--input y.safetensors", &["y.safetensors", "no tensor `x`", "`y`"]),
        ("--input wide.safetensors", &["wide.safetensors", "[5, 3, 4, 8]"]),
        ("--input whole.safetensors", &["whole.safetensors", "floating point"]),
        ("--input hole.safetensors", &["image 3 of `x` in hole.safetensors", "not finite"]),
        ("--input x.safetensors images", &["x.safetensors", "the only input"]),
        ("--input x.safetensors --img 16", &["images of 8 px", "--img is 16"]),
        ("--input x.safetensors --num-classes 7", &["10 classes", "7"]),
        ("--input x.safetensors --option patch", &["--option patch", "no `=`"]),
        ("--input x.safetensors --option patch=3", &["8 px cannot be divided into patches of 3 px"]),
        ("--input x.safetensors --option width=3", &["width", "unknown field"]),
    ] {
        place.bad(&format!("{COMMAND} --out f.safetensors {rest}"), parts);
        assert_eq!(place.read("f.safetensors"), "old", "{rest}");
    }
    place.bad(
        "features resnet8 --weights teacher.safetensors --input x.safetensors --out f.safetensors",
        &["vit_nano", "not of resnet8"],
    );
    let left: Vec<_> = std::fs::read_dir(place.path(".")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".new-")), "{left:?}");
}
