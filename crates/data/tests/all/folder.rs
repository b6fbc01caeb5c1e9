use std::{fs, path::Path};

use heterodyne_data::{
    Augment, EvalLoader, LoaderConfig, Reading, Share, Splits, TrainLoader, Views, audit, augment::Crop,
};
use tempfile::TempDir;

use crate::support::{GO, bytes, goldens, message, open, says, spec};

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
    // A JPEG with a PNG's suffix, as in ImageNet.
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
    assert_eq!(splits.train().unwrap().classes(), ["cat", "dog"]);
    assert_eq!((0..4).map(|i| splits.train().unwrap().label(i)).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert_eq!((splits.reported().unwrap().len(), splits.reported().unwrap().label(0)), (1, 1));
    // EXIF asks for a rotation.
    assert_eq!(splits.reported().unwrap().image(0).unwrap().size(), (41, 33));
    assert!(splits.train().unwrap().describe().ends_with("train, 4 images"));
    audit([&**splits.train().unwrap()], 2, &GO).unwrap();
    audit([&**splits.reported().unwrap()], 0, &GO).unwrap();
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = photographs();
    fs::create_dir(folder.path().join("val/dogs")).unwrap();
    says(&message(opened(folder.path())), &["val/dogs", "is not a class of the training images", "did you mean `dog`"]);
    fs::remove_dir(folder.path().join("val/dogs")).unwrap();
    fs::create_dir(folder.path().join("train/empty")).unwrap();
    says(&message(opened(folder.path())), &["train/empty", "without a picture", "data.empty_classes"]);
    fs::remove_dir(folder.path().join("train/empty")).unwrap();
    fs::write(folder.path().join("train/dog/x.heic"), "x").unwrap();
    says(&message(opened(folder.path())), &["x.heic", "convert"]);
    fs::remove_file(folder.path().join("train/dog/x.heic")).unwrap();
    fs::rename(folder.path().join("val"), folder.path().join("vla")).unwrap();
    says(
        &message(opened(folder.path()).unwrap().reported().map(|_| ())),
        &["no test or validation images", "train: folder", "data.test"],
    );
    fs::rename(folder.path().join("vla"), folder.path().join("test")).unwrap();
    opened(folder.path()).unwrap();
    fs::write(folder.path().join("test/dog/f.jpg"), picture()).unwrap();
    fs::create_dir(folder.path().join("test/cat")).unwrap();
    fs::write(folder.path().join("test/cat/f.jpg"), picture()).unwrap();
    fs::rename(folder.path().join("train"), folder.path().join("trian")).unwrap();
    says(&message(opened(folder.path()).unwrap().train().map(|_| ())), &["no training images", "data.train"]);
}

#[test]
fn broken_photographs_are_found_by_the_audit_and_in_place_by_the_loader() {
    let folder = photographs();
    let jpeg = bytes(&goldens("decode.safetensors")["jpeg_420.file"]);
    fs::write(folder.path().join("train/dog/half.jpg"), &jpeg[..jpeg.len() * 2 / 3]).unwrap();
    fs::write(folder.path().join("train/dog/zero.jpg"), []).unwrap();
    let splits = opened(folder.path()).unwrap();
    let text = message(audit([&**splits.train().unwrap()], 2, &GO));
    says(&text, &["6 images: 2 broken", "train/dog/half.jpg: cut short", "train/dog/zero.jpg: the file is empty"]);

    let loader = EvalLoader::new(splits.train().unwrap().clone(), (0..6).collect(), 1, spec(32, 0.9), 2).unwrap();
    let results: Vec<_> = loader.iter().collect();
    assert_eq!(results.iter().map(|r| r.is_ok()).collect::<Vec<_>>(), [true, true, true, false, true, false]);
    says(&message(results.into_iter().nth(3).unwrap()), &["half.jpg"]);

    let augment = Augment { crop: Crop::Resized, flip: 0.5, brightness: 0.4, ..Augment::default() };
    let config =
        LoaderConfig { batch: 2, share: Share::WHOLE, side: 24, seed: 0, workers: 2, augment, views: Views::Fresh };
    let good = TrainLoader::new(splits.train().unwrap().clone(), vec![0, 1, 2, 4], config).unwrap();
    assert!(good.epoch(0, 0).all(|batch| batch.unwrap().images.size() == [2, 3, 24, 24]));
}

/// A picture's bytes.
fn picture() -> Vec<u8> {
    bytes(&goldens("decode.safetensors")["jpeg_444.file"])
}

/// A folder of these files, all the same picture.
fn made(files: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, picture()).unwrap();
    }
    folder
}

fn read(folder: &TempDir, reading: &Reading) -> heterodyne_nn::Result<Splits> {
    heterodyne_data::open("folder", Some(folder.path()), reading)
}

fn name(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn files_are_pictures_by_suffix_or_content_and_the_rest_is_counted() {
    let suffixes = ["jpg", "JPG", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "TIFF"];
    let mut files: Vec<String> =
        suffixes.iter().enumerate().map(|(i, suffix)| format!("train/a/{i}.{suffix}")).collect();
    files.extend(["train/a/no_suffix", "train/a/odd.jpg_large", "train/b/x.jpg", "val/a/x.jpg"].map(str::to_owned));
    let folder = made(&files.iter().map(String::as_str).collect::<Vec<_>>());
    for other in ["train/a/notes.txt", "train/labels.csv", "train/a/BM.dat"] {
        fs::write(folder.path().join(other), "BM, and no picture").unwrap();
    }
    for system in
        ["train/.DS_Store", "train/Thumbs.db", "train/a/desktop.ini", "train/__MACOSX/x.jpg", "train/a/@eaDir/y.jpg"]
    {
        let path = folder.path().join(system);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let splits = read(&folder, &Reading::default()).unwrap();
    assert_eq!(splits.train().unwrap().len(), 14);
    assert_eq!(splits.classes(), ["a", "b"]);
    audit([&**splits.train().unwrap()], 2, &GO).unwrap();
    let notice = &splits.notices[0];
    says(
        notice,
        &[
            "train: 14 images in 2 classes",
            "3 other files (labels.csv, a/BM.dat, a/notes.txt)",
            "5 hidden or system entries",
        ],
    );
    assert_eq!(splits.notices[1], "val: 1 image in 1 class");
}

#[test]
fn splits_go_by_their_usual_names_or_by_those_given() {
    for (train, val) in [("train", "val"), ("Training", "valid"), ("TRAIN", "Validation")] {
        let files = [format!("{train}/a/1.jpg"), format!("{train}/b/1.jpg"), format!("{val}/a/2.jpg")];
        let folder = made(&[&files[0], &files[1], &files[2], "test/b/3.jpg", "test/a/3.jpg"]);
        let splits = read(&folder, &Reading::default()).unwrap();
        assert_eq!(
            (splits.train().unwrap().len(), splits.chosen_on().unwrap().len(), splits.reported().unwrap().len()),
            (2, 1, 2)
        );
        // A split alone.
        fs::remove_dir_all(folder.path().join(train)).unwrap();
        fs::remove_dir_all(folder.path().join("test")).unwrap();
        let alone = read(&folder, &Reading { one_class: true, ..Reading::default() }).unwrap();
        assert_eq!(
            (alone.train.is_none(), alone.chosen_on().is_none(), alone.reported().unwrap().len()),
            (true, true, 1)
        );
    }
    let folder = made(&["seg_train/a/1.jpg", "seg_train/b/1.jpg", "seg_test/a/2.jpg", "val/a/1.jpg", "valid/a/1.jpg"]);
    says(&message(read(&folder, &Reading::default())), &["val and valid", "data.val"]);
    let named = Reading { train: name("seg_train"), test: name("seg_test"), val: name(""), ..Reading::default() };
    let splits = read(&folder, &named).unwrap();
    assert_eq!((splits.train().unwrap().len(), splits.val.is_none(), splits.reported().unwrap().len()), (2, true, 1));
    let wrong = Reading { train: name("seg_trian"), ..named.clone() };
    says(&message(read(&folder, &wrong)), &["seg_trian", "data.train", "seg_test, seg_train, val, valid"]);
    let nested = Reading { train: name("."), ..named };
    says(&message(read(&folder, &nested)), &["data.test is inside", "data.train"]);
}

#[test]
fn a_folder_at_the_wrong_level_says_what_to_do() {
    let folder = made(&["archive/train/a/1.jpg", "archive/train/b/1.jpg", "archive/val/a/1.jpg"]);
    says(&message(read(&folder, &Reading::default())), &["archive has one (train)", "give that path"]);
    let classes = made(&["a/1.jpg", "b/2.jpg", "c/3.jpg"]);
    says(
        &message(read(&classes, &Reading::default())),
        &["3 folders (the first are a, b, c)", "below train/", "data.test"],
    );
    let all = read(&classes, &Reading { train: name("."), ..Reading::default() }).unwrap();
    assert_eq!((all.train().unwrap().len(), all.classes().len()), (3, 3));
    let one = made(&["train/images/1.jpg", "train/images/2.jpg", "val/images/1.jpg"]);
    says(&message(read(&one, &Reading::default())), &["only one class, `images`", "wrong level", "data.one_class"]);
    assert_eq!(read(&one, &Reading { one_class: true, ..Reading::default() }).unwrap().train().unwrap().len(), 2);
    says(&message(read(&made(&["x.jpg"]), &Reading::default())), &["no folder train", "train/c/"]);
}

#[test]
fn flat_folders_and_empty_classes_need_a_word() {
    let flat = made(&["train/a1.jpg", "train/b1.jpg", "val/a2.jpg"]);
    says(
        &message(read(&flat, &Reading::default())),
        &["2 pictures and no class folders", "train/CLASS/x.jpg", "data.labels"],
    );
    let list = flat.path().join("labels.csv");
    fs::write(&list, "id,species\na1,ape\nb1,bat\na2,ape\nunused,bat\n").unwrap();
    let splits = read(&flat, &Reading { labels: Some(list.clone()), ..Reading::default() }).unwrap();
    assert_eq!(splits.classes(), ["ape", "bat"]);
    assert_eq!((splits.train().unwrap().label(1), splits.reported().unwrap().label(0)), (1, 0));
    fs::write(&list, "a1.jpg ape\na2.jpg ape\n").unwrap();
    says(
        &message(read(&flat, &Reading { labels: Some(list), ..Reading::default() })),
        &["labels.csv", "1 of the 2 pictures", "b1.jpg"],
    );

    // Kaggle's unlabelled test folder, and Tiny ImageNet's val/images.
    let kaggle = made(&["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "test/1.jpg"]);
    says(&message(read(&kaggle, &Reading::default())), &["1 picture and no class folders", "data.test"]);
    assert_eq!(read(&kaggle, &Reading { test: name(""), ..Reading::default() }).unwrap().reported().unwrap().len(), 1);
    let tiny = made(&["train/n1/images/1.jpg", "train/n2/images/1.jpg", "val/images/v0.jpg", "val/images/v1.jpg"]);
    let list = tiny.path().join("val/val_annotations.txt");
    fs::write(&list, "v0.jpg\tn2\t0\t0\t62\t62\nv1.jpg\tn1\t0\t0\t62\t62\n").unwrap();
    says(&message(read(&tiny, &Reading::default())), &["val/images", "is not a class of the training images"]);
    let splits = read(&tiny, &Reading { labels: Some(list), ..Reading::default() }).unwrap();
    assert_eq!((splits.reported().unwrap().label(0), splits.reported().unwrap().label(1)), (1, 0));

    let empty = made(&["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg"]);
    fs::create_dir(empty.path().join("train/c")).unwrap();
    fs::write(empty.path().join("train/c/readme.md"), "none yet").unwrap();
    says(
        &message(read(&empty, &Reading::default())),
        &["train/c", "without a picture", "c/readme.md", "data.empty_classes"],
    );
    assert_eq!(
        read(&empty, &Reading { empty_classes: true, ..Reading::default() }).unwrap().classes(),
        ["a", "b", "c"]
    );
}

#[test]
fn classes_come_in_the_order_that_is_given() {
    let folder = made(&["train/1/x.jpg", "train/2/x.jpg", "train/10/x.jpg", "val/10/x.jpg"]);
    let sorted = read(&folder, &Reading::default()).unwrap();
    assert_eq!(sorted.classes(), ["1", "10", "2"]);
    says(&sorted.notices.join("\n"), &["numbers", "sorted as text", "1, 10, 2", "data.classes"]);
    let list = folder.path().join("classes.txt");
    for text in [
        "1\n2\n10\nspare\n",
        r#"["1", "2", "10", "spare"]"#,
        r#"{"2": 1, "1": 0, "spare": 3, "10": 2}"#,
        r#"{"0": "1", "1": "2", "2": "10", "3": "spare"}"#,
    ] {
        fs::write(&list, text).unwrap();
        let classes = Some(heterodyne_data::classes::read(&list).unwrap());
        let ordered = read(&folder, &Reading { classes, ..Reading::default() }).unwrap();
        assert_eq!(ordered.classes(), ["1", "2", "10", "spare"]);
        let train = ordered.train().unwrap();
        assert_eq!((0..3).map(|i| train.label(i)).collect::<Vec<_>>(), [0, 2, 1]);
        assert_eq!(ordered.reported().unwrap().label(0), 2);
        assert!(!ordered.notices.iter().any(|notice| notice.contains("sorted as text")));
        // A class that occurs only in the list takes no part in a selection.
        assert_eq!(heterodyne_data::select(&**train, Some(1), 0, 0).unwrap().train.len(), 3);
    }
    let short = Reading { classes: Some(vec!["1".to_owned(), "2".to_owned(), "11".to_owned()]), ..Reading::default() };
    says(&message(read(&folder, &short)), &["1 of the data's 3", "`10`", "also has `11`"]);
    for (text, what) in [
        ("a\nb\na\n", "`a` twice"),
        ("", "no class"),
        (r#"{"a": 5}"#, "numbers 0, 1, 2"),
        (r#"["a", 1]"#, "list of names"),
    ] {
        fs::write(&list, text).unwrap();
        says(&message(heterodyne_data::classes::read(&list)), &["classes.txt", what]);
    }
    says(&message(heterodyne_data::open("digits", None, &short)), &["data.classes names 3 classes"]);
    says(
        &message(heterodyne_data::open("digits", None, &Reading { train: name("x"), ..Reading::default() })),
        &["does not take data.train"],
    );
}

#[test]
fn special_files_are_refused_and_never_waited_for() {
    let folder = made(&["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg"]);
    let pipe = folder.path().join("train/a/pipe.jpg");
    let fifo = |path: &Path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    fifo(&pipe);
    says(&message(read(&folder, &Reading::default())), &["pipe.jpg", "a named pipe", "remove it"]);
    fs::remove_file(&pipe).unwrap();
    std::os::unix::fs::symlink("/nowhere/x.jpg", &pipe).unwrap();
    says(&message(read(&folder, &Reading::default())), &["pipe.jpg", "broken link"]);
    fs::remove_file(&pipe).unwrap();
    // A pipe that replaces a picture after the listing.
    let splits = read(&folder, &Reading::default()).unwrap();
    let path = folder.path().join("train/a/1.jpg");
    fs::remove_file(&path).unwrap();
    fifo(&path);
    says(&message(splits.train().unwrap().image(0)), &["1.jpg", "a named pipe"]);
    says(&message(audit([&**splits.train().unwrap()], 2, &GO)), &["1 broken", "a named pipe"]);
    fifo(&folder.path().join("labels.csv"));
    let reading = Reading { labels: Some(folder.path().join("labels.csv")), ..Reading::default() };
    says(&message(read(&folder, &reading)), &["labels.csv", "a named pipe"]);
}
