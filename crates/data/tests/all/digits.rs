use heterodyne_data::Dataset;
use sha2::{Digest, Sha256};

use crate::support::{message, open, says};

/// Mean and standard deviation over all values, as fractions of 255.
pub fn statistics(dataset: &dyn Dataset) -> [(f64, f64); 3] {
    let (mut sum, mut square, mut count) = ([0u64; 3], [0u64; 3], 0u64);
    for index in 0..dataset.len() {
        for pixel in dataset.image(index).unwrap().rgb.chunks_exact(3) {
            for c in 0..3 {
                sum[c] += u64::from(pixel[c]);
                square[c] += u64::from(pixel[c]).pow(2);
            }
            count += 1;
        }
    }
    [0, 1, 2].map(|c| {
        let mean = sum[c] as f64 / count as f64;
        (mean / 255.0, (square[c] as f64 / count as f64 - mean * mean).sqrt() / 255.0)
    })
}

#[test]
fn the_file_is_scikit_learns() {
    let mut bytes = Vec::new();
    let packed: &[u8] = include_bytes!("../../assets/digits.gz");
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut bytes).unwrap();
    let digest = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(digest, "68aea062d35a127749050fa0e52dca09d6569ac08092c925610e0954e172dde2");
    // The modification time in the header is zero.
    assert_eq!(packed[4..8], [0; 4]);
}

#[test]
fn digits_are_what_they_should_be() {
    let splits = open("digits", None).unwrap();
    let (train, test) = (splits.train().unwrap(), splits.reported().unwrap());
    assert_eq!((train.len(), test.len(), splits.side), (1297, 500, Some(8)));
    assert_eq!(train.describe(), "digits train, 1297 images");
    assert_eq!(train.classes().len(), 10);
    assert_eq!((0..5).map(|i| train.label(i)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    // The second row of the first image is 0 0 13 15 10 15 5 0 in ink of 16.
    let first = train.image(0).unwrap();
    let row: Vec<u8> = first.rgb.chunks_exact(3).skip(8).take(8).map(|p| p[0]).collect();
    assert_eq!(row, [0, 0, 207, 239, 159, 239, 80, 0]);
    assert!(first.rgb.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
    let counts: Vec<usize> = (0..10).map(|class| (0..500).filter(|&i| test.label(i) == class).count()).collect();
    assert_eq!(counts, [50, 51, 49, 51, 51, 51, 51, 50, 46, 50]);
    for (c, (mean, std)) in statistics(&**train).into_iter().enumerate() {
        assert!((mean - splits.mean[c]).abs() < 1e-12 && (std - splits.std[c]).abs() < 1e-12, "{mean} {std}");
    }
    assert!(train.image(1297).is_err());
}

#[test]
fn names_and_paths_are_checked() {
    says(&message(open("digit", None)), &["no dataset `digit`", "did you mean `digits`", "cifar100"]);
    says(&message(open("cifar-100", None)), &["did you mean `cifar100`"]);
    says(&message(open("qqq", None)), &["the datasets are digits, cifar10, cifar100, mnist"]);
    says(&message(open("digits", Some("x".as_ref()))), &["takes no path"]);
    says(&message(open("cifar10", None)), &["needs a path", "test_batch.bin"]);
    says(&message(open("folder", Some("no/such".as_ref()))), &["no/such", "does not exist"]);
    let names: std::collections::HashSet<_> = heterodyne_data::all().iter().map(|e| e.name).collect();
    assert_eq!(names.len(), heterodyne_data::all().len());
    assert!(heterodyne_data::all().iter().all(|e| !e.summary.is_empty()));
}
