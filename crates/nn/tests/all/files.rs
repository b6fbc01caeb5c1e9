//! Weights files: complete, cut short, of the wrong type, and in places that cannot be written.
use std::collections::HashMap;

use heterodyne_nn::{
    Error, Result,
    file::{self, RowWriter},
};
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn write(path: &std::path::Path, name: &str, t: &Tensor) -> Result<()> {
    file::write(path, [(name, t)], HashMap::new())
}

#[test]
fn every_kind_and_shape_survives_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut tensors = Vec::new();
    for kind in [
        Kind::Float,
        Kind::Double,
        Kind::Half,
        Kind::BFloat16,
        Kind::Int64,
        Kind::Int,
        Kind::Int16,
        Kind::Uint8,
        Kind::Bool,
    ] {
        tensors
            .push((format!("{kind:?}"), Tensor::arange(6, (Kind::Float, Device::Cpu)).reshape([2, 3]).to_kind(kind)));
    }
    tensors.push(("scalar".into(), Tensor::from(1.5f32)));
    tensors.push(("empty".into(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))));
    // Values are kept, strides are not; a tensor with a graph can be written.
    tensors.push(("transposed".into(), tensors[0].1.transpose(0, 1).set_requires_grad(true)));
    let metadata = HashMap::from([("epoch".to_owned(), "3".to_owned())]);
    file::write(&path, tensors.iter().map(|(name, t)| (name.as_str(), t)), metadata.clone()).unwrap();
    let (read, read_metadata) = file::read(&path).unwrap();
    assert_eq!(read_metadata, metadata);
    assert_eq!(read.len(), tensors.len());
    for (name, t) in tensors {
        assert_eq!(read[&name].kind(), t.kind(), "{name}");
        assert_eq!(read[&name].size(), t.size(), "{name}");
        assert_eq!(read[&name], t.detach(), "{name}");
    }
}

#[test]
fn a_truncated_or_foreign_file_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    write(&path, "w", &Tensor::ones([100], (Kind::Float, Device::Cpu))).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for keep in 0..bytes.len() {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        let e = file::read(&path).unwrap_err();
        assert!(matches!(e, Error::File { .. }), "{e}");
        let text = e.to_string();
        assert!(text.contains("a.safetensors") && text.contains("cut short"), "{keep}: {text}");
    }
    for (bytes, what) in [
        (&b"PK\x03\x04 a zip archive"[..], "is a zip archive"),
        (b"<html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        (b"{\"error\": \"not found\"}", "is JSON, not weights (`{\"error\": \"not found\"}`)"),
        (b"", "is empty"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let text = file::read(&path).unwrap_err().to_string();
        assert!(text.contains(what), "{text}");
    }
    let absent = file::read(&folder.path().join("b.safetensors")).unwrap_err().to_string();
    assert!(absent.contains("b.safetensors") && absent.contains("No such file"), "{absent}");
    assert!(matches!(file::read(folder.path()).unwrap_err(), Error::File { .. }), "a folder is not a file");
}

#[test]
fn a_type_that_safetensors_or_we_do_not_have_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let e = write(&path, "w", &Tensor::zeros([2], (Kind::ComplexFloat, Device::Cpu))).unwrap_err().to_string();
    assert!(e.contains("`w`") && e.contains("ComplexFloat"), "{e}");
    assert!(!path.exists());
    let header = br#"{"w":{"dtype":"U64","shape":[1],"data_offsets":[0,8]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 8]].concat();
    std::fs::write(&path, bytes).unwrap();
    let e = file::read(&path).unwrap_err().to_string();
    assert!(e.contains("`w`") && e.contains("U64"), "{e}");
}

#[test]
fn a_failed_write_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let one = Tensor::ones([3], (Kind::Float, Device::Cpu));
    // No such folder.
    let e = write(&folder.path().join("no/a.safetensors"), "w", &one).unwrap_err().to_string();
    assert!(e.contains("cannot be written") && !e.contains("unchanged"), "{e}");
    // A folder is in the way of the file.
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("inside"), b"x").unwrap();
    let e = write(&taken, "w", &one).unwrap_err();
    assert!(matches!(e, Error::File { .. }) && e.to_string().contains("the existing content is unchanged"), "{e}");
    assert!(taken.join("inside").exists());
    // A tensor that cannot be written does not cost the old file.
    let path = folder.path().join("a.safetensors");
    write(&path, "w", &one).unwrap();
    assert!(write(&path, "w", &Tensor::zeros([2], (Kind::ComplexFloat, Device::Cpu))).is_err());
    assert_eq!(file::read(&path).unwrap().0["w"], one);
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no half-written file is left behind: {names:?}");
}

#[test]
fn rows_written_one_after_the_other_make_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.safetensors");
    let (a, b) = (Tensor::randn([5, 2, 3], F32), Tensor::randn([5], F32));
    let shapes = [("a".to_owned(), a.size()), ("b".to_owned(), b.size())];
    let metadata = HashMap::from([("who".to_owned(), "ö \"quoted\"".to_owned())]);
    let mut writer = RowWriter::create(&path, &shapes, metadata.clone()).unwrap();
    for (first, count) in [(3, 2), (0, 1), (1, 2)] {
        writer.write("b", first, &b.narrow(0, first, count).to_kind(Kind::Double)).unwrap();
        // Not contiguous, as a batch's feature map may be.
        writer.write("a", first, &a.transpose(1, 2).contiguous().transpose(1, 2).narrow(0, first, count)).unwrap();
    }
    for (name, first, t) in [("c", 0, &b), ("b", 1, &b), ("b", -1, &b.narrow(0, 0, 1)), ("a", 0, &b)] {
        assert!(writer.write(name, first, t).is_err(), "{name} from {first}");
    }
    assert!(!path.exists(), "nothing appears before it is complete");
    writer.finish().unwrap();
    let (found, text) = file::read(&path).unwrap();
    assert_eq!((found.len(), &found["a"], &found["b"], text), (2, &a, &b, metadata));

    let huge =
        RowWriter::create(&path, &[("a".to_owned(), vec![i64::MAX, 8])], HashMap::new()).unwrap_err().to_string();
    assert!(huge.contains("too large"), "{huge}");
    assert!(RowWriter::create(&folder.path().join("no/where.safetensors"), &shapes, HashMap::new()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary files stay");
}

/// A hash map lists its entries in a different order each time.
#[test]
fn equal_contents_are_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [("b", Tensor::from_slice(&[1f32, 2.0])), ("a", Tensor::from_slice(&[3i64]))];
    let written = |i: usize| {
        let metadata: HashMap<_, _> = (0..8).map(|k| (format!("key{k}"), format!("value {k}"))).collect();
        let path = folder.path().join(format!("{i}.safetensors"));
        file::write(&path, tensors.iter().map(|(name, t)| (*name, t)), metadata).unwrap();
        std::fs::read(path).unwrap()
    };
    let first = written(0);
    assert!((1..20).all(|i| written(i) == first));
    let (read, metadata) = file::read(&folder.path().join("0.safetensors")).unwrap();
    assert_eq!(
        (read["a"].int64_value(&[0]), read["b"].double_value(&[1]), metadata["key7"].as_str()),
        (3, 2.0, "value 7")
    );
}

/// Any flipped bit of a file is noticed, and so are two swapped bytes. A foreign file without a checksum is accepted.
#[test]
fn damage_anywhere_is_noticed_and_foreign_files_are_taken_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let t = Tensor::arange(20, F32);
    file::write(&path, [("w", &t), ("b", &(&t + 1.0))], HashMap::from([("card".to_owned(), "x".to_owned())])).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let claim = b"\"checksum\"";
    let key = whole.windows(claim.len()).position(|part| part == claim).unwrap();
    let mut flipped = 0;
    for bit in 0..whole.len() * 8 {
        // Damage to the key itself makes a file without a checksum, with intact values.
        if (key..key + claim.len()).contains(&(bit / 8)) {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bytes).unwrap();
        let e = file::read(&path).expect_err("a flipped bit").to_string();
        assert!(e.contains("a.safetensors"), "{e}");
        flipped += 1;
    }
    assert!(flipped > 1000);
    let mut swapped = whole.clone();
    let last = swapped.len() - 1;
    swapped.swap(last - 1, last - 5);
    assert_ne!(swapped, whole);
    std::fs::write(&path, &swapped).unwrap();
    assert!(file::read(&path).unwrap_err().to_string().contains("do not match its checksum"));

    // As written by the safetensors crate.
    let bytes: Vec<u8> = [1.0f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &bytes).unwrap();
    std::fs::write(&path, safetensors::serialize([("w", view)], None).unwrap()).unwrap();
    assert_eq!(file::read(&path).unwrap().0["w"], Tensor::from_slice(&[1.0f32, 2.0]));
}

#[test]
fn rows_written_one_by_one_carry_a_checksum_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.safetensors");
    let mut writer = RowWriter::create(&path, &[("w".to_owned(), vec![2, 3])], HashMap::new()).unwrap();
    let t = Tensor::arange(6, F32).reshape([2, 3]);
    writer.write("w", 1, &t.narrow(0, 1, 1)).unwrap();
    writer.write("w", 0, &t.narrow(0, 0, 1)).unwrap();
    writer.finish().unwrap();
    assert_eq!(file::read(&path).unwrap().0["w"], t);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(file::read(&path).unwrap_err().to_string().contains("rows.safetensors"));
}
