//! Classifies a picture with a trained network:
//! `cargo run --release --example classify -- runs/student-s0 cat.jpg`
use std::{env, error::Error, fs, path::Path, process::ExitCode};

use heterodyne::{
    data::{Decode, decode::decode},
    run::recipe::DeviceChoice,
    train::network::Classifier,
};

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let [network, picture] = &words[..] else {
        eprintln!("usage: classify RUN_OR_WEIGHTS PICTURE");
        return ExitCode::from(2);
    };
    match classify(Path::new(network), Path::new(picture)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the five most probable classes.
fn classify(network: &Path, picture: &Path) -> Result<(), Box<dyn Error>> {
    let classifier = Classifier::load(network, DeviceChoice::Auto)?;
    let picture = decode(&fs::read(picture)?, &Decode::default())?;
    for (class, probability) in classifier.classify(picture)?.into_iter().take(5) {
        println!("{probability:.4}  {class}");
    }
    Ok(())
}
