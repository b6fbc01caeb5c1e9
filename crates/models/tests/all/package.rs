//! Networks in files written by PyTorch (crates/shim/tests/goldens/make.py).
use std::{
    io::Write,
    path::{Path, PathBuf},
};

use heterodyne_models::package::open;
use heterodyne_nn::{Output, Pass, StageKind, StageSpec, TapSpec, catch, file};
use tch::{Device, Kind, Tensor};

use crate::support::difference;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shim/tests/goldens").join(name)
}

fn expected(name: &str) -> Tensor {
    let (mut tensors, _) = file::read(&golden("expected.safetensors")).unwrap();
    tensors.shift_remove(name).unwrap()
}

/// The error of opening `path`, which must be one line that names it.
fn refusal(path: &Path, img: Option<i64>) -> String {
    let text = open(path, Device::Cpu, img).err().unwrap().to_string();
    assert!(text.contains(&*path.file_name().unwrap().to_string_lossy()), "{text}");
    text
}

#[test]
fn a_dictionary_of_signals_is_what_a_network_of_our_own_gives() {
    let package = open(&golden("teacher_dict.pt"), Device::Cpu, None).unwrap();
    let map = |channels, side| StageSpec { kind: StageKind::Map, channels, grid: (side, side) };
    let tokens = |channels| StageSpec { kind: StageKind::Tokens { prefix: 1 }, channels, grid: (4, 4) };
    let taps = TapSpec {
        stages: vec![map(6, 8), map(12, 4), tokens(8), tokens(16)],
        stem: false,
        embedding: Some(16),
        classes: 10,
    };
    assert_eq!(*package.net.taps(), taps);
    assert_eq!(package.img, 32);
    let Output { logits, embedding, stages } = package.net.forward(&expected("x"), Pass::TEACH);
    assert!(difference(&logits, &expected("dict/logits")) < 1e-5);
    assert!(difference(&embedding.unwrap(), &expected("dict/embedding")) < 1e-5);
    for (i, stage) in (1..).zip(&stages) {
        assert!(difference(stage.tensor(), &expected(&format!("dict/stage{i}"))) < 1e-5, "stage {i}");
    }
    assert!(!logits.requires_grad());
    let lean = package.net.forward(&expected("x"), Pass::EVAL);
    assert!(lean.stages.is_empty() && lean.embedding.is_none());
}

#[test]
fn logits_alone_are_enough() {
    let path = golden("teacher_logits.pt");
    let text = refusal(&path, None);
    assert!(text.contains("set `img`"), "{text}");
    let package = open(&path, Device::Cpu, Some(32)).unwrap();
    assert_eq!(*package.net.taps(), TapSpec { stages: vec![], stem: false, embedding: None, classes: 10 });
    assert!(package.about.is_none());
    let logits = package.net.forward(&expected("x"), Pass::TEACH).logits;
    assert!(difference(&logits, &expected("logits/logits")) < 1e-5);
}

/// They are the logits minus one number per row, which does not change a softmax.
#[test]
fn logarithms_of_probabilities_are_logits() {
    let package = open(&golden("teacher_logarithms.pt"), Device::Cpu, Some(32)).unwrap();
    let logits = package.net.forward(&expected("x"), Pass::TEACH).logits;
    let [found, known] = [logits, expected("logits/logits")].map(|z| z.softmax(-1, Kind::Float));
    assert!(difference(&found, &known) < 1e-6);
}

#[test]
fn what_cannot_teach_is_refused_with_the_reason() {
    for (name, reason) in [
        ("teacher_fixed.pt", "fails on 3 images of 32 px"),
        ("teacher_odd.pt", "a tensor (the logits) or Dict[str, Tensor] is needed"),
        ("teacher_nan.pt", "this teacher always fails"),
        ("teacher_softmax.pt", "returns probabilities"),
        ("teacher_dropout.pt", "in a second run"),
        ("teacher_training.pt", "for an image alone"),
    ] {
        let text = refusal(&golden(name), Some(32));
        assert!(text.contains(reason), "{name}: {text}");
        assert!(!text.contains('\n'), "{name}: {text}");
    }
    // A size other than the one for which it was made.
    let text = refusal(&golden("teacher_dict.pt"), Some(-3));
    assert!(text.contains("images of -3 px"), "{text}");
}

/// (B,1) would broadcast against any number of classes.
#[test]
fn a_program_that_changes_its_mind_is_an_error() {
    let package = open(&golden("teacher_moody.pt"), Device::Cpu, Some(32)).unwrap();
    let many = Tensor::cat(&[expected("x"), expected("x")], 0);
    let run = || Ok(package.net.forward(&many, Pass::TEACH));
    let text = catch(|| "the teacher".to_owned(), run).unwrap_err().to_string();
    assert!(text.contains("classes: 1 }") && text.contains("classes: 10 }"), "{text}");
}

#[test]
fn other_files_are_named_for_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.pt");
    for (bytes, reason) in [
        (b"".to_vec(), "is empty"),
        (b"<html>not found</html>".to_vec(), "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "a Git LFS pointer"),
        (b"{\"error\": \"gone\"}".to_vec(), "JSON, not weights (`{\"error\": \"gone\"}`)"),
        (b"Entry not found".to_vec(), "plain text"),
        (b"\x01\x02\x03\x04\x05\x06".to_vec(), "neither TorchScript nor a PT2 package"),
        (b"\x80\x02N.".to_vec(), "holds weights but no program"),
        (
            std::fs::read(golden("expected.safetensors")).unwrap(),
            "a safetensors file, which holds weights but no program",
        ),
        (zipped(&["model/data.pkl", "model/version"]), "holds weights but no program"),
        (zipped(&["m/archive_format", "m/models/model.json"]), "is not compiled"),
        (zipped(&["readme.txt"]), "neither TorchScript nor a PT2 package"),
        (zipped(&["m/constants.pkl", "m/data.pkl"]), "cannot be loaded"),
        (zipped(&["m/data/aotinductor/model/x.so"]), "neither TorchScript nor a PT2 package"),
        (
            zipped(&[
                "m/archive_format",
                "m/data/aotinductor/model/x.wrapper.so",
                "m/data/aotinductor/model/x.wrapper_metadata.json",
            ]),
            "cannot be loaded",
        ),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let text = refusal(&path, Some(32));
        assert!(text.contains(reason), "{text}");
    }
    assert!(refusal(&folder.path().join("absent.pt"), None).contains("No such file"));
}

fn zipped(names: &[&str]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in names {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(b"text").unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.pt");
    let whole = std::fs::read(golden("teacher_dict.pt")).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        std::fs::write(&path, &whole[..at]).unwrap();
        let error =
            catch(|| "opening".to_owned(), || open(&path, Device::Cpu, None).map(drop)).unwrap_err().to_string();
        assert!(error.contains("teacher.pt"), "{at}: {error}");
    }
}
