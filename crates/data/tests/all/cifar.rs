use std::{fs, path::Path};

use tempfile::TempDir;

use crate::support::{message, open, says};

/// Record `i` of a made-up binary file: labels, then planes with levels that encode channel and position.
fn record(labels: &[u8], i: usize) -> Vec<u8> {
    let planes = (0..3).flat_map(|c| (0..1024).map(move |at| ((at + c * 50 + i) % 251) as u8));
    labels.iter().copied().chain(planes).collect()
}

fn write_cifar10(folder: &Path, count: usize) {
    for (n, name) in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
        .iter()
        .enumerate()
    {
        let bytes: Vec<u8> = (0..count).flat_map(|i| record(&[((n + i) % 10) as u8], n * 100 + i)).collect();
        fs::write(folder.join(format!("{name}.bin")), bytes).unwrap();
    }
}

#[test]
fn binary_files_are_read_in_order() {
    let folder = TempDir::new().unwrap();
    write_cifar10(folder.path(), 3);
    let splits = open("cifar10", Some(folder.path())).unwrap();
    assert_eq!((splits.train().unwrap().len(), splits.reported().unwrap().len(), splits.side), (15, 3, Some(32)));
    assert_eq!(splits.train().unwrap().describe(), "CIFAR-10 train (binary), 15 images");
    assert_eq!(splits.train().unwrap().classes()[9], "truck");
    // Image 7 is record 1 of the third file.
    assert_eq!(splits.train().unwrap().label(7), 3);
    let image = splits.train().unwrap().image(7).unwrap();
    let (y, x, i) = (5, 9, 201);
    assert_eq!(image.rgb[(y * 32 + x) * 3..][..3], [0, 1, 2].map(|c| ((y * 32 + x + c * 50 + i) % 251) as u8));

    fs::write(folder.path().join("batches.meta.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
    assert_eq!(open("cifar10", Some(folder.path())).unwrap().reported().unwrap().classes()[1], "b");
    fs::write(folder.path().join("batches.meta.txt"), "a\nb\n").unwrap();
    says(&message(open("cifar10", Some(folder.path()))), &["batches.meta.txt", "names 2 classes"]);
}

#[test]
fn the_hundred_class_form_uses_the_fine_label() {
    let folder = TempDir::new().unwrap();
    let inside = folder.path().join("cifar-100-binary");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("train.bin"), [record(&[3, 99], 0), record(&[19, 0], 1)].concat()).unwrap();
    fs::write(inside.join("test.bin"), record(&[1, 42], 2)).unwrap();
    let splits = open("cifar100", Some(folder.path())).unwrap();
    assert_eq!(
        (splits.train().unwrap().label(0), splits.train().unwrap().label(1), splits.reported().unwrap().label(0)),
        (99, 0, 42)
    );
    assert_eq!(splits.train().unwrap().classes()[99], "worm");
}

#[test]
fn broken_binary_files_name_file_and_record() {
    let folder = TempDir::new().unwrap();
    let open10 = || open("cifar10", Some(folder.path()));
    says(&message(open10()), &["holds no cifar10", "data_batch_1.bin"]);
    write_cifar10(folder.path(), 3);
    let third = folder.path().join("data_batch_3.bin");
    let whole = fs::read(&third).unwrap();
    for length in [1, 3072, 3074, 2 * 3073 + 5, 3 * 3073 - 1] {
        fs::write(&third, &whole[..length]).unwrap();
        says(&message(open10()), &["data_batch_3.bin", &format!("cut short in record {}", length / 3073)]);
    }
    fs::write(&third, &whole[..2 * 3073]).unwrap();
    says(&message(open10()), &["data_batch_3.bin", "holds 2 images, but data_batch_1.bin holds 3"]);
    fs::write(&third, []).unwrap();
    says(&message(open10()), &["data_batch_3.bin", "empty"]);
    let mut bad = whole.clone();
    bad[2 * 3073] = 10;
    fs::write(&third, bad).unwrap();
    says(&message(open10()), &["data_batch_3.bin", "record 2 has label 10"]);
    fs::remove_file(&third).unwrap();
    says(&message(open10()), &["data_batch_3.bin"]);
}
