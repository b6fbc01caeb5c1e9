//! Classifies a picture with a trained network:
//! `cargo run --release --example classify -- runs/student-s0 cat.jpg`
use std::{error::Error, fs, path::Path};

use heterodyne::{
    data::{Decode, decode::decode},
    run::recipe::DeviceChoice,
    train::network::Classifier,
};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [network, picture] = &words[..] else {
        return Err("usage: classify RUN_OR_WEIGHTS PICTURE".into());
    };
    let classifier = Classifier::load(Path::new(network), DeviceChoice::Auto)?;
    let picture = decode(&fs::read(picture)?, &Decode::default())?;
    for (class, probability) in classifier.classify(picture)?.into_iter().take(5) {
        println!("{probability:.4}  {class}");
    }
    Ok(())
}
