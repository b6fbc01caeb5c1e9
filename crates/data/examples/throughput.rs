//! Images per second of the loader, without a network.
//!
//! `cargo run --release -p heterodyne-data --example throughput -- <dataset> <path> [side] [crop: pad or resized]`
use std::{path::Path, time::Instant};

use heterodyne_data::{Augment, LoaderConfig, TrainLoader, Views, augment::Crop, open};

fn main() -> Result<(), heterodyne_nn::Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dataset, path, rest @ ..] = args.as_slice() else {
        eprintln!("usage: throughput <dataset> <path> [side] [pad or resized]");
        std::process::exit(2);
    };
    let start = Instant::now();
    let splits = open(dataset, Some(Path::new(path)))?;
    println!("opened {} and {} in {:.2} s", splits.train.describe(), splits.test.describe(), start.elapsed().as_secs_f64());
    let side = rest.first().and_then(|side| side.parse().ok()).or(splits.side).unwrap_or(224);
    let crop = if rest.get(1).is_some_and(|crop| crop == "resized") { Crop::Resized } else { Crop::Pad };
    for workers in [1, 2, 1, 2, 4] {
        let augment = Augment { crop, flip: 0.5, ..Augment::default() };
        let config = LoaderConfig { batch: 64, side, seed: 0, workers, augment, views: Views::Fresh };
        let loader = TrainLoader::new(splits.train.clone(), (0..splits.train.len()).collect(), config)?;
        let start = Instant::now();
        let mut images = 0;
        for batch in loader.epoch(0, 0) {
            images += batch?.indices.len();
        }
        println!("{crop:?} to {side} and flip, {workers} workers: {:.0} images/s", images as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}
