//! The measurements of a run, one JSON object per line, written during the run.
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use heterodyne_files::own;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, folder};

/// One line of the metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Metric {
    /// Training since the previous line.
    Train {
        /// Optimizer steps done.
        step: u64,
        /// The same in epochs.
        epoch: f64,
        /// Learning rate.
        lr: f64,
        /// The total loss.
        loss: f64,
        /// The unweighted loss terms by name.
        terms: IndexMap<String, f64>,
        /// 2-norm of the whole gradient before clipping.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grad_norm: Option<f64>,
        /// Training images per second.
        images_per_second: f64,
        /// Fraction of the time spent waiting for data, 0..1.
        data_wait: f64,
        /// Wall time of training so far, in seconds.
        seconds: f64,
    },
    /// An evaluation.
    Eval(Eval),
}

/// Accuracy on one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eval {
    /// Optimizer steps done.
    pub step: u64,
    /// The same in epochs.
    pub epoch: f64,
    /// `validation` or `test`.
    pub split: String,
    /// `live`, or `ema` for the exponential moving average of the weights.
    pub weights: String,
    /// Percentage (0..100) of images whose label has the largest logit.
    pub top1: f64,
    /// Percentage (0..100) of images whose label is among the five largest logits; `None` for few classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// Mean cross-entropy without label smoothing.
    pub loss: f64,
    /// Number of images.
    pub images: u64,
    /// Wall time of the evaluation.
    pub seconds: f64,
}

impl Metric {
    /// Optimizer steps done at the time of the measurement.
    #[must_use]
    pub fn step(&self) -> u64 {
        match self {
            Self::Train { step, .. } => *step,
            Self::Eval(eval) => eval.step,
        }
    }

    /// All its numbers by name.
    pub fn numbers(&self) -> Vec<(String, f64)> {
        match self {
            Self::Train { step: _, epoch, lr, loss, terms, grad_norm, images_per_second, data_wait, seconds } => {
                let fixed = [("epoch", *epoch), ("lr", *lr), ("loss", *loss)];
                let tail =
                    [("images_per_second", *images_per_second), ("data_wait", *data_wait), ("seconds", *seconds)];
                let name = |(name, value): (&str, f64)| (name.to_owned(), value);
                let terms = terms.iter().map(|(term, value)| (format!("terms.{term}"), *value));
                let norm = grad_norm.map(|value| ("grad_norm".to_owned(), value));
                fixed.into_iter().map(name).chain(terms).chain(norm).chain(tail.into_iter().map(name)).collect()
            }
            Self::Eval(e) => {
                let fixed = [("epoch", e.epoch), ("top1", e.top1), ("loss", e.loss), ("seconds", e.seconds)];
                let all = fixed.into_iter().chain(e.top5.map(|value| ("top5", value)));
                all.map(|(name, value)| (name.to_owned(), value)).collect()
            }
        }
    }
}

/// The extent of a metrics file at the time of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Length of the file.
    pub bytes: u64,
    /// CRC-32 of these bytes.
    pub crc32: u32,
}

/// Appends lines to a metrics file; each has been passed to the system when [`Writer::write`] returns.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    /// Length of the complete lines.
    length: u64,
    /// Checksum of the complete lines.
    sum: crc32fast::Hasher,
}

impl Writer {
    /// Opens or creates the file. Lines after `keep_until_step`, which a resumed run will write again, are dropped, and
    /// so is an unfinished last line. The old file stays until the shorter one is complete.
    pub fn open(path: &Path, keep_until_step: Option<u64>) -> Result<Self> {
        let mut kept = Vec::new();
        if path.exists() {
            let old = read_own(path)?;
            for (text, metric) in lines(path, &old)? {
                if keep_until_step.is_none_or(|step| metric.step() <= step) {
                    kept.extend_from_slice(text);
                    kept.push(b'\n');
                }
            }
            if kept != old {
                folder::replace(path, &kept)?;
            }
        }
        Self::append(path, &kept)
    }

    /// Opens the file at the extent of a checkpoint: the content up to there must be unchanged, and anything after it
    /// is dropped.
    pub fn open_at(path: &Path, extent: Extent) -> Result<Self> {
        let old = if path.exists() { read_own(path)? } else { Vec::new() };
        let reached = usize::try_from(extent.bytes).ok().and_then(|bytes| old.get(..bytes)).ok_or_else(|| {
            Error::new(
                path,
                format!(
                    "is shorter than when the checkpoint was written: {} bytes now, {} then",
                    old.len(),
                    extent.bytes
                ),
            )
        })?;
        if crc32fast::hash(reached) != extent.crc32 {
            return Err(Error::new(path, "has changed since the checkpoint was written: lines were damaged or edited"));
        }
        if reached.len() < old.len() {
            folder::replace(path, reached)?;
        }
        Self::append(path, reached)
    }

    fn append(path: &Path, kept: &[u8]) -> Result<Self> {
        let file = own::open(path, OpenOptions::new().append(true).create(true))
            .map_err(|e| Error::new(path, format!("cannot be opened ({e})")))?;
        let mut sum = crc32fast::Hasher::new();
        sum.update(kept);
        Ok(Self { path: path.to_owned(), file, length: kept.len() as u64, sum })
    }

    /// The extent written so far; it is on disk when this returns.
    pub fn extent(&self) -> Result<Extent> {
        self.file.sync_data().map_err(|e| Error::new(&self.path, format!("cannot be written ({e})")))?;
        Ok(Extent { bytes: self.length, crc32: self.sum.clone().finalize() })
    }

    /// Appends a line. A NaN or infinite number is an error, and so is a full disk. After an error the file contains
    /// only complete lines.
    pub fn write(&mut self, metric: &Metric) -> Result<()> {
        if let Some((name, value)) = metric.numbers().into_iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::new(
                &self.path,
                format!("step {}: `{name}` is {value} and cannot be written", metric.step()),
            ));
        }
        let mut line = serde_json::to_vec(metric).map_err(|e| Error::new(&self.path, e))?;
        line.push(b'\n');
        if let Err(e) = self.file.write_all(&line).and_then(|()| self.file.flush()) {
            // Remove a partial line before the next write. If even this fails, readers drop an unfinished last line.
            let _ = self.file.set_len(self.length);
            return Err(Error::new(&self.path, format!("step {}: cannot be written ({e})", metric.step())));
        }
        self.length += line.len() as u64;
        self.sum.update(&line);
        Ok(())
    }
}

/// The file's bytes; an error if it is not a regular file.
fn read_own(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    own::open(path, OpenOptions::new().read(true))
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|e| Error::new(path, format!("cannot be read ({e})")))?;
    Ok(bytes)
}

/// All lines of a metrics file. An unfinished last line, left by a killed process, is ignored; any other unreadable
/// line is an error.
pub fn read(path: &Path) -> Result<Vec<Metric>> {
    let bytes = std::fs::read(path).map_err(|e| Error::new(path, format!("cannot be read ({e})")))?;
    Ok(lines(path, &bytes)?.into_iter().map(|(_, metric)| metric).collect())
}

/// As [`read`], for a run that has ended: the lines must be unchanged since the summary recorded their extent.
pub fn read_ended(path: &Path, extent: Extent) -> Result<Vec<Metric>> {
    let bytes = std::fs::read(path).map_err(|e| Error::new(path, format!("cannot be read ({e})")))?;
    if (Extent { bytes: bytes.len() as u64, crc32: crc32fast::hash(&bytes) }) != extent {
        return Err(Error::new(
            path,
            "has changed since the run ended: lines were damaged or edited. Restore a copy, or, if the edit is \
             intended, delete `\"metrics\"` and `\"checksum\"` from summary.json",
        ));
    }
    read(path)
}

/// The lines as text (without line ends) and as metrics.
fn lines<'b>(path: &Path, bytes: &'b [u8]) -> Result<Vec<(&'b [u8], Metric)>> {
    let mut out = Vec::new();
    for (i, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let (text, whole) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
        match serde_json::from_slice(text) {
            Ok(metric) => out.push((text, metric)),
            Err(e) if whole => return Err(Error::new(path, format!("line {} is damaged ({e})", i + 1))),
            Err(_) => {}
        }
    }
    Ok(out)
}
