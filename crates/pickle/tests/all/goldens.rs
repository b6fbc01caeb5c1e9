//! Real files of PyTorch 2.11 against the results of its own reader (`goldens/make.py`).
use std::fs;

use heterodyne_pickle::{Section, read};
use serde_json::{Value, json};

use crate::support::golden;

fn expected() -> Value {
    serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap()
}

fn cases() -> Vec<(String, Value)> {
    let all = expected();
    let cases = all["cases"].as_array().unwrap().iter();
    cases
        .flat_map(|case| {
            case["files"].as_array().unwrap().iter().map(|file| (file.as_str().unwrap().to_owned(), case.clone()))
        })
        .collect()
}

/// The tensors in the form of the golden rows.
fn rows(section: &Section) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    section
        .tensors
        .iter()
        .map(|(name, tensor)| json!([name, tensor.dtype.to_string(), tensor.shape, hex(&tensor.bytes())]))
        .collect()
}

#[test]
fn every_file_gives_the_tensors_that_pytorch_reads() {
    let (mut files, mut tensors) = (0, 0);
    for (name, case) in cases() {
        let file = read(&golden(&name)).unwrap();
        for section in case["sections"].as_array().unwrap() {
            let (place, expected) = (section[0].as_str().unwrap(), &section[1]);
            let section = file.section(Some(place)).unwrap();
            assert_eq!(section.place, place, "{name}");
            assert_eq!(&rows(&section), expected, "{name} at {place:?}");
            tensors += section.tensors.len();
        }
        files += 1;
    }
    // Guards against a truncated list of goldens.
    assert!(files >= 40 && tensors >= 350, "{files} files, {tensors} tensors");
}

#[test]
fn every_file_lists_its_dictionaries_in_order() {
    for (name, case) in cases() {
        let file = read(&golden(&name)).unwrap();
        let listed: Vec<_> = file.sections().iter().map(|place| (place.place.clone(), place.tensors)).collect();
        let refused = case["refused"].as_array().unwrap();
        let sections = case["sections"].as_array().unwrap().iter();
        let mut expected: Vec<_> =
            sections.map(|s| (s[0].as_str().unwrap().to_owned(), s[1].as_array().unwrap().len())).collect();
        expected.extend(refused.iter().map(|kind| (kind.as_str().unwrap().to_owned(), 1)));
        assert_eq!(listed, expected, "{name}");
    }
}

#[test]
fn the_place_that_is_meant_is_chosen() {
    for (name, case) in cases() {
        let chosen = read(&golden(&name)).unwrap().section(None);
        match case["default"].as_str() {
            Some(place) => assert_eq!(chosen.unwrap().place, place, "{name}"),
            None => {
                let message = chosen.unwrap_err().to_string();
                assert!(message.contains("has several dictionaries of weights; name one of `"), "{name}: {message}");
            }
        }
    }
}

#[test]
fn a_place_that_is_not_there_lists_those_that_are() {
    let error = read(&golden("checkpoint.zip.pt")).unwrap().section(Some("model")).unwrap_err().to_string();
    assert!(
        error.contains("has no tensors at `model`; it has `state_dict` (7 tensors), `state_dict_ema` (7 tensors)"),
        "{error}"
    );
}

#[test]
fn tensors_of_other_kinds_are_named_where_they_are_asked_for() {
    let kinds = [
        ("complex", "`ComplexFloatStorage` is not supported"),
        ("float8", "`torch.float8_e4m3fn` is not supported"),
        ("uint16", "`torch.uint16` is not supported"),
        ("quantised", "it is quantised"),
        ("sparse", "it is sparse"),
        ("sparse_csr", "it is sparse"),
        ("meta", "on the device `meta`"),
        ("negative", "conjugate or negative view"),
    ];
    for name in ["kinds.zip.pt", "kinds.legacy.pt"] {
        let file = read(&golden(name)).unwrap();
        for (place, part) in kinds {
            let error = file.section(Some(place)).unwrap_err().to_string();
            assert!(error.contains("tensor `w`: ") && error.contains(part), "{name} {place}: {error}");
        }
    }
}

#[test]
fn files_of_another_kind_are_refused_by_name() {
    for (name, part) in expected()["refused"].as_object().unwrap() {
        let error = read(&golden(name)).and_then(|file| file.section(None)).unwrap_err().to_string();
        assert!(error.contains(part.as_str().unwrap()), "{name}: {error}");
    }
}

#[test]
fn tied_tensors_share_their_bytes() {
    for name in ["layouts.zip.pt", "layouts.legacy.pt"] {
        let section = read(&golden(name)).unwrap().section(None).unwrap();
        let [one, other, base, rows] =
            ["tied", "reshaped", "whole", "rows"].map(|name| section.tensors[name].bytes().as_ptr());
        assert_eq!(one, other);
        // The second row begins six floats after the first.
        assert_eq!(rows as usize - base as usize, 24);
    }
}
