//! The real CIFAR-100 and ImageNet photographs, if present.
use std::{fs, time::Instant};

use heterodyne_data::{
    Augment, EvalLoader, LoaderConfig, Reading, Share, TrainLoader, Views, augment::Crop, transforms,
};
use sha2::{Digest, Sha256};

use crate::{
    digits::statistics,
    support::{GO, bytes, decode_as_is, goldens, ints, open, shared, spec},
};

#[test]
fn cifar100_is_complete_and_what_pillow_reads() {
    let Some(folder) = shared("cifar100") else { return };
    let start = Instant::now();
    let splits = open("cifar100", Some(&folder)).unwrap();
    println!("CIFAR-100 opened and decoded in {:.2} s", start.elapsed().as_secs_f64());
    assert_eq!((splits.train().unwrap().len(), splits.reported().unwrap().len()), (50_000, 10_000));
    assert_eq!(
        (splits.train().unwrap().classes()[0].as_str(), splits.train().unwrap().classes()[99].as_str()),
        ("apple", "worm")
    );
    for (split, per_class) in [(splits.train().unwrap(), 500), (splits.reported().unwrap(), 100)] {
        let mut counts = [0; 100];
        (0..split.len()).for_each(|i| counts[split.label(i)] += 1);
        assert!(counts.iter().all(|&c| c == per_class));
    }
    for (c, (mean, std)) in statistics(&**splits.train().unwrap()).into_iter().enumerate() {
        assert!(
            (mean - splits.mean[c]).abs() < 1e-8 && (std - splits.std[c]).abs() < 1e-8,
            "channel {c}: {mean} {std}"
        );
    }
    let goldens = goldens("real.safetensors");
    for (split, name) in [(splits.train().unwrap(), "train"), (splits.reported().unwrap(), "test")] {
        let get = |what: &str| &goldens[&format!("cifar100.{name}.{what}")];
        let digests = bytes(get("sha256"));
        for ((row, label), digest) in
            ints(get("rows")).into_iter().zip(ints(get("labels"))).zip(digests.chunks_exact(32))
        {
            assert_eq!(split.label(row as usize), label as usize);
            assert_eq!(Sha256::digest(split.image(row as usize).unwrap().rgb)[..], *digest, "{name} row {row}");
        }
    }

    // Speed, for the record: nothing is asserted about it.
    let augment = Augment { crop: Crop::Pad, flip: 0.5, ..Augment::default() };
    for workers in [1, 2] {
        let config = LoaderConfig {
            batch: 64,
            share: Share::WHOLE,
            side: 32,
            seed: 0,
            workers,
            augment: augment.clone(),
            views: Views::Fresh,
        };
        let loader = TrainLoader::new(splits.train().unwrap().clone(), (0..50_000).collect(), config).unwrap();
        let start = Instant::now();
        let images: i64 = loader.epoch(0, 0).map(|batch| batch.unwrap().labels.size()[0]).sum();
        println!("pad-crop and flip, {workers} workers: {:.0} images/s", images as f64 / start.elapsed().as_secs_f64());
    }
}

#[test]
fn photographs_decode_and_resize_as_pillow_does() {
    let Some(folder) = shared("imagenet-sample") else { return };
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "JPEG"))
        .collect();
    files.sort();
    let names: Vec<&str> = files.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
    let goldens = goldens("real.safetensors");
    assert_eq!(
        Sha256::digest(names.join("\n"))[..],
        bytes(&goldens["photo.sha256"]),
        "other photographs than the goldens'"
    );
    let (decoded, fitted) = (ints(&goldens["photo.decoded"]), ints(&goldens["photo.fitted"]));
    // Histogram of differences in levels, over 64 pixels of each photograph.
    let mut gaps = [vec![0usize; 256], vec![0usize; 256]];
    for (i, path) in files.iter().enumerate() {
        let whole = decode_as_is(&fs::read(path).unwrap()).unwrap();
        let small = transforms::fit(&whole, 248, 224, transforms::Filter::Bicubic).unwrap();
        for (which, (image, samples)) in [(&whole, &decoded), (&small, &fitted)].into_iter().enumerate() {
            for sample in samples[i * 64 * 5..(i + 1) * 64 * 5].chunks_exact(5) {
                let at = (sample[0] as usize * image.width as usize + sample[1] as usize) * 3;
                for c in 0..3 {
                    gaps[which][usize::from(image.rgb[at + c].abs_diff(sample[2 + c] as u8))] += 1;
                }
            }
        }
    }
    // JPEG decoders may round their inverse transforms differently; resizing adds its own rare level
    // (tests/all/transforms.rs).
    for (what, largest, gaps) in [("decoded", 3, &gaps[0]), ("resized to 248 and cropped to 224", 4, &gaps[1])] {
        let total: usize = gaps.iter().sum();
        let max = gaps.iter().rposition(|&n| n > 0).unwrap();
        let mean = gaps.iter().enumerate().map(|(gap, n)| (gap * n) as f64).sum::<f64>() / total as f64;
        let beyond = gaps.iter().skip(3).sum::<usize>() as f64 / total as f64;
        println!("{what}: max {max}, mean {mean:.4}, more than 2 levels: {:.4} %", beyond * 100.0);
        assert!(max <= largest && mean < 0.1 && beyond < 1e-3, "{what}: {:?}", &gaps[..12]);
    }
}

#[test]
fn photographs_load_at_a_useful_speed() {
    let Some(folder) = shared("imagenet-sample") else { return };
    // As a single class folder.
    let root = tempfile::TempDir::new().unwrap();
    for split in ["train", "val"] {
        let class = root.path().join(split).join("all");
        fs::create_dir_all(&class).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, class.join(path.file_name().unwrap())).unwrap();
        }
    }
    let splits =
        heterodyne_data::open("folder", Some(root.path()), &Reading { one_class: true, ..Reading::default() }).unwrap();
    assert_eq!(splits.train().unwrap().len(), 99);
    let start = Instant::now();
    heterodyne_data::audit([&**splits.train().unwrap()], 0, &GO).unwrap();
    println!("audit of 99 photographs: {:.2} s", start.elapsed().as_secs_f64());
    let augment = Augment { crop: Crop::Resized, flip: 0.5, ..Augment::default() };
    let config =
        LoaderConfig { batch: 33, share: Share::WHOLE, side: 224, seed: 0, workers: 2, augment, views: Views::Fresh };
    let train = TrainLoader::new(splits.train().unwrap().clone(), (0..99).collect(), config).unwrap();
    let start = Instant::now();
    assert!(train.epoch(0, 0).all(|batch| batch.is_ok()));
    println!("resized crops: {:.0} images/s", 99.0 / start.elapsed().as_secs_f64());
    let eval = EvalLoader::new(splits.reported().unwrap().clone(), (0..99).collect(), 33, spec(224, 0.9), 2).unwrap();
    assert!(eval.iter().all(|batch| batch.is_ok()));
}
