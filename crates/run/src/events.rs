//! Writes the metrics as a TensorBoard event file: TFRecords of `tensorflow.Event` messages with scalar summaries. Only
//! the fields of `event.proto` and `summary.proto` that a scalar needs are used.
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use heterodyne_files::own;

use crate::{Error, Metric, Result};

/// The prefix of event file names.
const PREFIX: &str = "events.out.tfevents";

/// Appends scalars to a new event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// As [`EventWriter::create`], but first removes the records of later steps than `step` from the existing files: a
    /// resumed run writes them again.
    pub fn resume(folder: &Path, step: u64) -> Result<Self> {
        Self::make(folder)?;
        for entry in std::fs::read_dir(folder).map_err(|e| Error::new(folder, e))? {
            let entry = entry.map_err(|e| Error::new(folder, e))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(PREFIX) && name.contains(".heterodyne.") {
                cut(&entry.path(), step)?;
            }
        }
        Self::create(folder)
    }

    /// Creates a new event file in `folder`, and `folder` if necessary. TensorBoard reads all files of a folder as one
    /// run, in the order of their names.
    pub fn create(folder: &Path) -> Result<Self> {
        Self::make(folder)?;
        let since = now();
        let path = (0..1000u32)
            .map(|n| folder.join(format!("{PREFIX}.{:010}.heterodyne.{}.{n}", since as u64, std::process::id())))
            .find(|path| !path.exists())
            .ok_or_else(|| Error::new(folder, "has too many event files from this second: try again"))?;
        let file = own::open(&path, OpenOptions::new().append(true).create_new(true))
            .map_err(|e| Error::new(&path, format!("cannot be created ({e})")))?;
        let mut writer = Self { path, file };
        let mut first = Vec::new();
        double(&mut first, 1, since);
        bytes(&mut first, 3, b"brain.Event:2");
        if let Err(e) = writer.record(&first) {
            // Without its first record, the file is not a valid event file.
            let _ = std::fs::remove_file(&writer.path);
            return Err(e);
        }
        Ok(writer)
    }

    fn make(folder: &Path) -> Result<()> {
        own::folder(folder).map_err(|e| Error::new(folder, format!("cannot be created ({e})")))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds all numbers of `metric` at its step: `train/loss`, `train/terms/kd`, `test/top1`, `test-ema/top1` and so
    /// on.
    pub fn write(&mut self, metric: &Metric) -> Result<()> {
        let room = match metric {
            Metric::Train { .. } => "train".to_owned(),
            Metric::Eval(eval) if eval.weights == "live" => eval.split.clone(),
            Metric::Eval(eval) => format!("{}-{}", eval.split, eval.weights),
        };
        let mut summary = Vec::new();
        for (name, number) in metric.numbers() {
            let mut scalar = Vec::new();
            bytes(&mut scalar, 1, format!("{room}/{}", name.replace('.', "/")).as_bytes());
            float(&mut scalar, 2, number as f32);
            bytes(&mut summary, 1, &scalar);
        }
        let mut event = Vec::new();
        double(&mut event, 1, now());
        key(&mut event, 2, VARINT);
        varint(&mut event, metric.step());
        bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Writes one TFRecord: length, checksum of the length, data, checksum of the data.
    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut out = Vec::with_capacity(data.len() + 16);
        out.extend(length);
        out.extend(masked_crc(&length).to_le_bytes());
        out.extend(data);
        out.extend(masked_crc(data).to_le_bytes());
        self.file.write_all(&out).map_err(|e| Error::new(&self.path, format!("cannot be written ({e})")))
    }
}

/// Truncates an event file before its first record that is incomplete, damaged or of a later step than `step`.
fn cut(path: &Path, step: u64) -> Result<()> {
    let cannot = |what: &str, e: std::io::Error| Error::new(path, format!("cannot be {what} ({e})"));
    let mut file = own::open(path, OpenOptions::new().read(true).write(true)).map_err(|e| cannot("opened", e))?;
    let mut all = Vec::new();
    file.read_to_end(&mut all).map_err(|e| cannot("read", e))?;
    let mut end = 0;
    while let Some((data, length)) = whole_record(&all[end..]) {
        if step_of(data).is_some_and(|found| found > step) {
            break;
        }
        end += length;
    }
    if end < all.len() {
        file.set_len(end as u64).map_err(|e| cannot("cut", e))?;
    }
    Ok(())
}

/// The data of the record at the start of `bytes`, and the record's length; `None` if it is incomplete or damaged.
fn whole_record(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let head = bytes.get(..8)?;
    let length = usize::try_from(u64::from_le_bytes(head.try_into().ok()?)).ok()?;
    let data = bytes.get(12..length.checked_add(12)?)?;
    (number(8)? == masked_crc(head) && number(12 + length)? == masked_crc(data)).then_some((data, length + 16))
}

/// The step of an event written by [`EventWriter`]: it follows the time, which takes nine bytes. `None` if there is no
/// step.
fn step_of(event: &[u8]) -> Option<u64> {
    let (&first, rest) = event.get(9..)?.split_first()?;
    if u64::from(first) != 2 << 3 | VARINT {
        return None;
    }
    let mut value = 0u64;
    for (i, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * i as u32)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

// Protocol buffers: a field is a key (number and wire type) and its payload.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

fn key(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, FIXED64);
    out.extend(value.to_le_bytes());
}

fn float(out: &mut Vec<u8>, field: u64, value: f32) {
    key(out, field, FIXED32);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, LENGTH);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), rotated and offset as TFRecord files require.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut crc = i as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value and the test vectors of RFC 3720, B.4.
    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }
}
