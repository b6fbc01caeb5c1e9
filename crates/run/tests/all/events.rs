//! Reads event files with a second implementation of the two formats.
use std::{collections::BTreeMap, fs};

use heterodyne_run::events::EventWriter;
use tempfile::TempDir;

use crate::metrics::{eval, train};

/// Fields of a protocol-buffer message: number and payload (varints as eight bytes).
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                out.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (payload, rest) = bytes.split_at(length);
        out.push((key >> 3, payload.to_vec()));
        bytes = rest;
    }
    out
}

/// CRC-32C bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}

fn masked(bytes: &[u8]) -> u32 {
    let crc = crc(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[test]
fn records_and_scalars_read_back() {
    let dir = TempDir::new().unwrap();
    let mut writer = EventWriter::create(&dir.path().join("events")).unwrap();
    writer.write(&train(300)).unwrap();
    writer.write(&eval(300)).unwrap();
    let bytes = fs::read(writer.path()).unwrap();
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let data = &rest[12..12 + length];
        assert_eq!(masked(&rest[..8]).to_le_bytes(), rest[8..12]);
        assert_eq!(masked(data).to_le_bytes(), rest[12 + length..16 + length]);
        events.push(fields(data));
        rest = &rest[16 + length..];
    }
    assert_eq!(events.len(), 3);
    assert_eq!(events[0][1], (3, b"brain.Event:2".to_vec()));
    let mut scalars = BTreeMap::new();
    for event in &events[1..] {
        assert_eq!(event[1], (2, 300u64.to_le_bytes().to_vec()));
        for (number, value) in fields(&event[2].1) {
            assert_eq!(number, 1);
            let scalar = fields(&value);
            scalars.insert(
                String::from_utf8(scalar[0].1.clone()).unwrap(),
                f32::from_le_bytes(scalar[1].1[..].try_into().unwrap()),
            );
        }
    }
    assert_eq!(scalars["train/terms/kd"], 0.3);
    assert_eq!(scalars["train/lr"], 0.1);
    assert_eq!(scalars["test-ema/top1"], 71.5);
    assert!(!scalars.contains_key("test-ema/top5"));
}

#[test]
fn a_second_writer_takes_a_second_file() {
    let dir = TempDir::new().unwrap();
    let a = EventWriter::create(dir.path()).unwrap();
    let b = EventWriter::create(dir.path()).unwrap();
    assert_ne!(a.path(), b.path());
}

/// The steps of all records of a folder's files, in order of the files' names.
fn steps(folder: &std::path::Path) -> Vec<u64> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let mut steps = Vec::new();
    for path in paths {
        let bytes = fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let data = &rest[12..12 + length];
            assert_eq!(u32::from_le_bytes(rest[12 + length..16 + length].try_into().unwrap()), masked(data));
            steps.extend(
                fields(data).into_iter().find(|(n, _)| *n == 2).map(|(_, v)| u64::from_le_bytes(v.try_into().unwrap())),
            );
            rest = &rest[16 + length..];
        }
    }
    steps
}

#[test]
fn a_resumed_run_repeats_no_record_and_cuts_off_a_torn_one() {
    let dir = TempDir::new().unwrap();
    let mut writer = EventWriter::create(dir.path()).unwrap();
    [100, 200, 300].into_iter().for_each(|step| writer.write(&train(step)).unwrap());
    let path = writer.path().to_owned();
    drop(writer);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &whole[..30]].concat()).unwrap();
    let mut writer = EventWriter::resume(dir.path(), 200).unwrap();
    writer.write(&train(300)).unwrap();
    assert_eq!(steps(dir.path()), [100, 200, 300]);
    // Files from other writers are left alone.
    let other = dir.path().join("events.out.tfevents.1.host.1.0");
    fs::write(&other, "torn").unwrap();
    drop(EventWriter::resume(dir.path(), 0).unwrap());
    assert_eq!(fs::read_to_string(other).unwrap(), "torn");
}
