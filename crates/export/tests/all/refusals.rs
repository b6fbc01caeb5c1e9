//! After an error, nothing is written and no existing file is lost.
use heterodyne_export::Programs;
use heterodyne_models::find;
use heterodyne_nn::shim::NoGrad;

use crate::support::{ALL, network, write};

const WEIGHTS_ALONE: Programs = Programs { torchscript: false, onnx: false };

#[test]
fn a_folder_that_holds_something_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine"), "text").unwrap();
    let options = toml::Table::new();
    let model = network(find("vit_nano").unwrap(), 8, &options);
    let error = write(&model, &options, ALL, folder.path()).unwrap_err().to_string();
    assert!(error.contains("not an empty folder"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = write(&model, &options, ALL, &folder.path().join("mine")).unwrap_err().to_string();
    assert!(error.contains("not an empty folder"), "{error}");
    // An empty folder is accepted, and parent folders are created.
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    write(&model, &options, WEIGHTS_ALONE, &empty).unwrap();
    write(&model, &options, WEIGHTS_ALONE, &folder.path().join("a/b")).unwrap();
    assert!(folder.path().join("a/b/model.safetensors").exists());
}

#[test]
fn weights_that_have_overflowed_are_not_exported() {
    let folder = tempfile::tempdir().unwrap();
    let options = toml::Table::new();
    let model = network(find("resnet8x4").unwrap(), 32, &options);
    {
        let _guard = NoGrad::new();
        let _ = model.store.tensors()["fc.bias"].shallow_clone().fill_(f64::NAN);
    }
    let error = write(&model, &options, ALL, &folder.path().join("out")).unwrap_err().to_string();
    assert!(error.contains("not finite"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_timm_lacks_has_no_config() {
    let folder = tempfile::tempdir().unwrap();
    let options: toml::Table = "stem = \"cifar\"".parse().unwrap();
    let model = network(find("resnet18").unwrap(), 32, &options);
    let made = write(&model, &options, WEIGHTS_ALONE, &folder.path().join("out")).unwrap();
    assert_eq!(made.timm, None);
    assert!(!folder.path().join("out/config.json").exists());
}
