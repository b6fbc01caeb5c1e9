//! scikit-learn's handwritten digits: the test half of "Optical Recognition of Handwritten Digits" (Alpaydin and
//! Kaynak, UCI Machine Learning Repository, 1998, CC BY 4.0). assets/SOURCE.md gives the origin of the file.
use std::{io::Read, sync::Arc};

use flate2::read::GzDecoder;
use heterodyne_nn::{Error, Result};

use super::Source;
use crate::{Dataset, Splits, dataset::Raster};

/// Records of 64 ink values (0..=16, rows from the top) and one label.
const FILE: &[u8] = include_bytes!("../../assets/digits.gz");
const SIDE: usize = 8;
const RECORD: usize = SIDE * SIDE + 1;
const MAX_INK: u8 = 16;
/// The last samples, in the order of the source, are the test split.
const TEST: usize = 500;
/// Of the train split, values in 0..1.
const MEAN: f64 = 0.305_940_367_665_956_1;
const STD: f64 = 0.375_377_189_433_623_47;

pub(super) fn open(source: &Source) -> Result<Splits> {
    if let Some(path) = source.path {
        return Err(Error::invalid(format!(
            "dataset `digits` is built in and takes no path (given: {})",
            path.display()
        )));
    }
    let broken = |what: String| Error::invalid(format!("the built-in digits are broken: {what}"));
    let mut records = Vec::new();
    GzDecoder::new(FILE).read_to_end(&mut records).map_err(|e| broken(e.to_string()))?;
    if records.len() % RECORD != 0 || records.len() / RECORD <= TEST {
        return Err(broken(format!("{} bytes", records.len())));
    }
    let classes: Arc<[String]> = (0..10).map(|digit| digit.to_string()).collect();
    let (train, test) = records.split_at(records.len() - TEST * RECORD);
    let split = |title: &str, records: &[u8]| -> Arc<dyn Dataset> {
        let records = records.chunks_exact(RECORD);
        Arc::new(Raster {
            title: title.to_owned(),
            side: SIDE,
            rgb: records.clone().flat_map(|r| &r[..RECORD - 1]).flat_map(|&ink| [level(ink); 3]).collect(),
            labels: records.map(|r| u16::from(r[RECORD - 1])).collect(),
            classes: Arc::clone(&classes),
        })
    };
    Ok(Splits {
        train: Some(split("digits train", train)),
        test: Some(split("digits test", test)),
        side: Some(SIDE as u32),
        mean: [MEAN; 3],
        std: [STD; 3],
        ..Splits::photographs()
    })
}

/// Ink 0..=16 as a grey level 0..=255, rounded.
fn level(ink: u8) -> u8 {
    let (ink, max) = (u16::from(ink.min(MAX_INK)), u16::from(MAX_INK));
    ((ink * 255 + max / 2) / max) as u8
}
