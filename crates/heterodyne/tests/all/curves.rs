//! Twenty steps of every method against the losses and gradient norms in tests/goldens/curves.json: exactly on a
//! processor with recorded values. Elsewhere sums have another order; the first step is then equal to rounding, and
//! later ones are not compared: a unit near zero that switches at another step makes them differ by any amount (AVX2
//! against AVX-512: rkd by 1e-7 in the first step, by 1e-2 in the third). A change that is not meant to change the
//! numbers must pass unchanged.
//!
//! `HETERODYNE_RECORD=1` adds this processor's values to the file.
use std::{collections::BTreeMap, fs};

use heterodyne::methods;
use serde_json::Value;

use crate::support::Place;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/curves.json");
const STEPS: usize = 20;
/// Tolerance for float32 sums in another order, in the first step.
const CLOSE: f64 = 2e-6;

/// By processor, by method: loss and gradient norm of each step.
type Curves = BTreeMap<String, BTreeMap<String, Vec<[f64; 2]>>>;

/// The processor, on which the libraries' choice of code depends; `None` if the system does not report it.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let value = |key: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
        Some(line.split(':').nth(1)?.trim().to_owned())
    };
    Some(format!("{} family {} model {}", value("vendor_id")?, value("cpu family")?, value("model")?))
}

fn curve(place: &Place, method: &str) -> Vec<[f64; 2]> {
    let run = format!("runs/{method}");
    place.good(&format!(
        "distill taught.toml --set methods= --set methods.{method}={{}} --set train.epochs=5 --set train.log_every=1 \
         --out {run}"
    ));
    let metrics = place.read(&format!("{run}/metrics.jsonl"));
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let number = |line: &Value, key: &str| line[key].as_f64().unwrap();
    lines
        .filter(|line| line["kind"] == "train")
        .map(|line| [number(&line, "loss"), number(&line, "grad_norm")])
        .collect()
}

#[test]
fn every_method_learns_as_it_did() {
    let place = Place::new();
    let curves: BTreeMap<_, _> = methods::all().iter().map(|m| (m.name.to_owned(), curve(&place, m.name))).collect();
    assert!(curves.values().all(|curve| curve.len() == STEPS));
    let mut golden: Curves =
        fs::read_to_string(GOLDEN).map_or_else(|_| Curves::new(), |text| serde_json::from_str(&text).unwrap());
    let processor = processor();
    if std::env::var_os("HETERODYNE_RECORD").is_some() {
        golden.insert(processor.unwrap(), curves);
        fs::write(GOLDEN, serde_json::to_string_pretty(&golden).unwrap() + "\n").unwrap();
        return;
    }
    let exact = processor.as_ref().and_then(|processor| golden.get(processor));
    if let Some(exact) = exact {
        for (method, curve) in &curves {
            assert_eq!(Some(curve), exact.get(method), "{method}");
        }
        return;
    }
    println!(
        "no curves recorded for this processor ({}); the first step is compared with that of another",
        processor.unwrap_or_default()
    );
    let (_, other) = golden.first_key_value().unwrap();
    for (method, curve) in &curves {
        assert!(curve.iter().flatten().all(|number| number.is_finite()), "{method}: {curve:?}");
        for (found, known) in curve[0].iter().zip(&other[method][0]) {
            assert!((found - known).abs() <= CLOSE * known.abs(), "{method}: {found} and {known}");
        }
    }
}
