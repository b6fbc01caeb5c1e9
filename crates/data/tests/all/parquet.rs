use std::{fs, path::Path, sync::Arc};

use parquet::{
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{golden, message, open, says};

/// A row: image bytes and label; either may be missing.
type Row = (Option<Vec<u8>>, Option<i64>);

fn copy_goldens(folder: &Path) {
    for entry in fs::read_dir(golden("parquet")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
}

fn png(side: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_fn(side, side, |x, y| image::Rgb([x as u8, y as u8, 7]))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// Writes a file with the columns of `schema`, which are an image column and perhaps a label column.
fn write(path: &Path, schema: &str, rows: &[Row]) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer =
        SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, Arc::new(WriterProperties::default()))
            .unwrap();
    let mut group = writer.next_row_group().unwrap();
    let images: Vec<ByteArray> = rows.iter().filter_map(|(image, _)| image.clone().map(ByteArray::from)).collect();
    let levels: Vec<i16> = rows.iter().map(|(image, _)| if image.is_some() { 2 } else { 1 }).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&images, Some(&levels), None).unwrap();
    column.close().unwrap();
    if let Some(mut column) = group.next_column().unwrap() {
        let labels: Vec<i64> = rows.iter().filter_map(|(_, label)| *label).collect();
        let levels: Vec<i16> = rows.iter().map(|(_, label)| i16::from(label.is_some())).collect();
        column.typed::<Int64Type>().write_batch(&labels, Some(&levels), None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

const SCHEMA: &str = "message schema { optional group image { optional binary bytes; } optional int64 label; }";

/// Opens CIFAR-10 with these training rows and one good test row.
fn open_rows(schema: &str, rows: &[Row]) -> heterodyne_nn::Result<heterodyne_data::Splits> {
    let folder = TempDir::new().unwrap();
    write(&folder.path().join("train.parquet"), schema, rows);
    write(&folder.path().join("test.parquet"), SCHEMA, &[(Some(png(32)), Some(0))]);
    open("cifar10", Some(folder.path()))
}

#[test]
fn shards_written_by_pyarrow_are_read_in_order() {
    let hashes: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(golden("parquet/sha256.json")).unwrap()).unwrap();
    for path in [golden("parquet"), golden("parquet/train-00000-of-00002.parquet")] {
        let splits = open("cifar10", Some(&path)).unwrap();
        assert_eq!(splits.train().unwrap().describe(), "CIFAR-10 train (parquet), 7 images");
        assert_eq!(splits.train().unwrap().classes(), ["kind0", "kind1", "kind2", "kind3", "kind4"]);
        assert_eq!((0..7).map(|i| splits.train().unwrap().label(i)).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 0, 1]);
        assert_eq!((0..2).map(|i| splits.reported().unwrap().label(i)).collect::<Vec<_>>(), [4, 2]);
        for (split, name) in [(splits.train().unwrap(), "train"), (splits.reported().unwrap(), "test")] {
            for index in 0..split.len() {
                let digest: String =
                    Sha256::digest(split.image(index).unwrap().rgb).iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(hashes[name][index], digest, "{name} {index}");
            }
        }
    }
}

#[test]
fn a_missing_shard_or_split_is_named() {
    let folder = TempDir::new().unwrap();
    copy_goldens(folder.path());
    fs::remove_file(folder.path().join("train-00001-of-00002.parquet")).unwrap();
    says(&message(open("cifar10", Some(folder.path()))), &["holds 1 of the 2 files train-*"]);
    copy_goldens(folder.path());
    fs::remove_file(folder.path().join("test-00000-of-00001.parquet")).unwrap();
    says(&message(open("cifar10", Some(folder.path()))), &["no test-*.parquet"]);
}

#[test]
fn a_file_cut_anywhere_is_refused_and_named() {
    let folder = TempDir::new().unwrap();
    copy_goldens(folder.path());
    let path = folder.path().join("train-00001-of-00002.parquet");
    let whole = fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(997).chain([1, 4, 8, 12, whole.len() - 1, whole.len() - 4, whole.len() - 8])
    {
        fs::write(&path, &whole[..length]).unwrap();
        says(&message(open("cifar10", Some(folder.path()))), &["train-00001-of-00002.parquet"]);
    }
    // The end is intact, but bytes inside are missing or changed. A change in a page's statistics, which are never
    // read, may pass; a change in data that is read may not.
    fs::write(&path, &whole).unwrap();
    let all = |splits: heterodyne_data::Splits| {
        (0..7)
            .map(|i| (splits.train().unwrap().label(i), splits.train().unwrap().image(i).unwrap()))
            .collect::<Vec<_>>()
    };
    let reference = all(open("cifar10", Some(folder.path())).unwrap());
    let mut refused = 0;
    for at in (4..whole.len() - 500).step_by(409) {
        let (mut missing, mut changed) = (whole.clone(), whole.clone());
        missing.drain(at..at + 300);
        changed[at..at + 30].fill(0xA5);
        for broken in [missing, changed] {
            fs::write(&path, &broken).unwrap();
            match open("cifar10", Some(folder.path())) {
                Ok(splits) => assert_eq!(all(splits), reference, "changed at {at}"),
                Err(e) => {
                    says(&e.to_string(), &["train-00001-of-00002.parquet"]);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 80, "{refused}");
    // A change in the first image itself.
    let mut broken = whole.clone();
    broken[2000..2030].fill(0xA5);
    fs::write(&path, &broken).unwrap();
    says(
        &message(open("cifar10", Some(folder.path()))),
        &["train-00001-of-00002.parquet: row 0: broken PNG: the checksum of the IDAT chunk"],
    );
}

#[test]
fn broken_rows_are_named() {
    let good = || (Some(png(32)), Some(3));
    assert_eq!(open_rows(SCHEMA, &[good(), good()]).unwrap().train().unwrap().len(), 2);
    assert_eq!(open_rows(SCHEMA, &[good()]).unwrap().train().unwrap().classes()[3], "cat");
    let torn = png(32)[..200].to_vec();
    for (row, parts) in [
        ((Some(torn), Some(3)), ["row 1: cut short", "train.parquet"]),
        ((Some(Vec::new()), Some(3)), ["row 1", "empty"]),
        ((Some(b"no image".to_vec()), Some(3)), ["row 1", "not a JPEG, PNG"]),
        ((Some(png(31)), Some(3)), ["row 1", "31 x 31 pixels"]),
        ((None, Some(3)), ["row 1", "no image"]),
        ((Some(png(32)), None), ["row 1", "no label"]),
        ((Some(png(32)), Some(10)), ["row 1", "label 10"]),
        ((Some(png(32)), Some(-1)), ["row 1", "label -1"]),
    ] {
        says(&message(open_rows(SCHEMA, &[good(), row])), &parts);
    }
}

#[test]
fn missing_and_mistyped_columns_are_named() {
    let row = || (Some(png(32)), Some(3));
    let no_label = "message schema { optional group image { optional binary bytes; } }";
    says(&message(open_rows(no_label, &[row()])), &["train.parquet", "no label column (label)", "image.bytes"]);
    let no_image = "message schema { optional group picture { optional binary bytes; } optional int64 label; }";
    says(&message(open_rows(no_image, &[row()])), &["no image column (img.bytes or image.bytes)", "picture.bytes"]);
    let folder = TempDir::new().unwrap();
    for name in ["train", "test"] {
        fs::copy(golden("parquet/test-00000-of-00001.parquet"), folder.path().join(format!("{name}.parquet"))).unwrap();
    }
    // The hundred-class form accepts `label` too, and takes the names from the file.
    assert_eq!(open("cifar100", Some(folder.path())).unwrap().train().unwrap().classes().len(), 5);
    write(&folder.path().join("train.parquet"), SCHEMA, &[row()]);
    says(&message(open("cifar100", Some(folder.path()))), &["other classes than the train split"]);
    says(&message(open_rows(SCHEMA, &[])), &["no rows"]);
}
