use std::{fs, path::Path};

use heterodyne_data::{Augment, EvalLoader, LoaderConfig, TrainLoader, Views, audit, augment::Crop, open};
use tempfile::TempDir;

use crate::support::{bytes, goldens, message, says, spec};

/// Two classes; train has nested files and capital extensions.
fn photographs() -> TempDir {
    let folder = TempDir::new().unwrap();
    let goldens = goldens("decode.safetensors");
    let put = |path: &str, name: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes(&goldens[&format!("{name}.file")])).unwrap();
    };
    put("train/dog/a.JPEG", "jpeg_420");
    put("train/dog/puppies/b.Jpg", "jpeg_grey");
    put("train/cat/c.png", "png_palette");
    // A JPEG under another name, as ImageNet has them.
    put("train/cat/d.png", "jpeg_444");
    put("val/dog/e.jpg", "jpeg_rotated");
    fs::write(folder.path().join("train/cat/notes.txt"), "x").unwrap();
    fs::write(folder.path().join("train/cat/._c.png"), "x").unwrap();
    folder
}

fn opened(folder: &Path) -> heterodyne_nn::Result<heterodyne_data::Splits> {
    open("folder", Some(folder))
}

#[test]
fn folders_are_classes_and_files_are_sorted() {
    let folder = photographs();
    let splits = opened(folder.path()).unwrap();
    assert_eq!(splits.side, None);
    assert_eq!(splits.train.classes(), ["cat", "dog"]);
    assert_eq!((0..4).map(|i| splits.train.label(i)).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert_eq!((splits.test.len(), splits.test.label(0)), (1, 1));
    // EXIF asks for a rotation, which is not applied.
    assert_eq!(splits.test.image(0).unwrap().size(), (33, 41));
    assert!(splits.train.describe().ends_with("train, 4 images"));
    audit(&*splits.train, 2).unwrap();
    audit(&*splits.test, 0).unwrap();
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = photographs();
    fs::create_dir(folder.path().join("val/dogs")).unwrap();
    says(&message(opened(folder.path())), &["val/dogs", "does not have", "did you mean `dog`"]);
    fs::remove_dir(folder.path().join("val/dogs")).unwrap();
    fs::create_dir(folder.path().join("train/empty")).unwrap();
    says(&message(opened(folder.path())), &["train/empty", "without a JPEG or PNG"]);
    fs::remove_dir(folder.path().join("train/empty")).unwrap();
    fs::write(folder.path().join("train/dog/x.webp"), "x").unwrap();
    says(&message(opened(folder.path())), &["x.webp", "convert"]);
    fs::remove_file(folder.path().join("train/dog/x.webp")).unwrap();
    fs::rename(folder.path().join("val"), folder.path().join("vla")).unwrap();
    says(&message(opened(folder.path())), &["no folder val or validation or test"]);
    fs::rename(folder.path().join("vla"), folder.path().join("test")).unwrap();
    opened(folder.path()).unwrap();
    fs::rename(folder.path().join("train"), folder.path().join("trian")).unwrap();
    says(&message(opened(folder.path())), &["train", "is not a folder"]);
}

#[test]
fn broken_photographs_are_found_by_the_audit_and_in_place_by_the_loader() {
    let folder = photographs();
    let jpeg = bytes(&goldens("decode.safetensors")["jpeg_420.file"]);
    fs::write(folder.path().join("train/dog/half.jpg"), &jpeg[..jpeg.len() * 2 / 3]).unwrap();
    fs::write(folder.path().join("train/dog/zero.jpg"), []).unwrap();
    let splits = opened(folder.path()).unwrap();
    let text = message(audit(&*splits.train, 2));
    says(&text, &["6 images: 2 broken", "train/dog/half.jpg: cut short", "train/dog/zero.jpg: the file is empty"]);

    let loader = EvalLoader::new(splits.train.clone(), (0..6).collect(), 1, spec(32, 0.9), 2).unwrap();
    let results: Vec<_> = loader.iter().collect();
    assert_eq!(results.iter().map(|r| r.is_ok()).collect::<Vec<_>>(), [true, true, true, false, true, false]);
    says(&message(results.into_iter().nth(3).unwrap()), &["half.jpg"]);

    let augment = Augment { crop: Crop::Resized, flip: 0.5, brightness: 0.4, ..Augment::default() };
    let config = LoaderConfig { batch: 2, side: 24, seed: 0, workers: 2, augment, views: Views::Fresh };
    let good = TrainLoader::new(splits.train, vec![0, 1, 2, 4], config).unwrap();
    assert!(good.epoch(0, 0).all(|batch| batch.unwrap().images.size() == [2, 3, 24, 24]));
}
