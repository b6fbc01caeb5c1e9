//! The layouts of datasets as their authors and the usual download tools leave them.
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use heterodyne_data::{Dataset, Reading, Splits, audit};
use heterodyne_nn::Result;
use tempfile::TempDir;

use crate::support::{GO, bytes, golden, goldens, message, open, says};

fn put(root: &Path, file: &str, content: impl AsRef<[u8]>) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn jpeg() -> Vec<u8> {
    bytes(&goldens("decode.safetensors")["jpeg_444.file"])
}

fn labels(split: &dyn Dataset) -> Vec<usize> {
    (0..split.len()).map(|i| split.label(i)).collect()
}

fn layout(name: &str) -> PathBuf {
    golden("layouts").join(name)
}

fn name(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn whole(splits: &Splits) {
    splits.all().for_each(|(_, split)| audit([&**split], 2, &GO).unwrap());
}

#[test]
fn cifars_pickles_are_read_and_not_executed() {
    // Equal pixels in the files of Python 2's opcodes and of Python 3's protocols would need the same generator. So
    // each file is compared only with its own labels and pixels below.
    for folder in ["cifar10", "cifar10_python3"] {
        for path in [
            layout(folder),
            layout(folder).join("cifar-10-batches-py"),
            layout(folder).join("cifar-10-batches-py/test_batch"),
        ] {
            let splits = open("cifar10", Some(&path)).unwrap();
            assert_eq!(splits.train().unwrap().describe(), "CIFAR-10 train (python), 10 images");
            assert_eq!(
                (splits.reported().unwrap().len(), splits.side, splits.classes()[9].as_str()),
                (2, Some(32), "kind9")
            );
            whole(&splits);
        }
    }
    let splits = open("cifar100", Some(&layout("cifar100"))).unwrap();
    assert_eq!(
        (splits.train().unwrap().len(), splits.reported().unwrap().len(), splits.classes()[42].as_str()),
        (3, 2, "fine42")
    );
    // Three planes of 1024 levels follow each other in the file as they do in the array.
    let file = fs::read(layout("cifar10/cifar-10-batches-py/data_batch_1")).unwrap();
    let splits = open("cifar10", Some(&layout("cifar10"))).unwrap();
    let image = splits.train().unwrap().image(1).unwrap();
    let planes: Vec<u8> =
        (0..3).flat_map(|c| image.rgb.iter().skip(c).step_by(3).copied().collect::<Vec<_>>()).collect();
    assert!(file.windows(3072).any(|window| window == planes), "the second image is nowhere in its file");
}

#[test]
fn cifars_pickles_that_are_damaged_are_named() {
    let folder = TempDir::new().unwrap();
    let source = layout("cifar10/cifar-10-batches-py");
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let file = folder.path().join("data_batch_3");
    let good = fs::read(&file).unwrap();
    let mut refused = 0;
    for length in (0..good.len()).step_by(97) {
        fs::write(&file, &good[..length]).unwrap();
        let text = message(open("cifar10", Some(folder.path())));
        says(&text, &["data_batch_3"]);
        refused += 1;
    }
    assert!(refused > 60);
    // What would be a call in Python is only a name here, not an array.
    fs::write(&file, b"\x80\x02cposix\nsystem\nU\x04true\x85R.").unwrap();
    says(&message(open("cifar10", Some(folder.path()))), &["data_batch_3", "no list `labels`"]);
    fs::write(&file, &good).unwrap();
    fs::remove_file(folder.path().join("data_batch_4")).unwrap();
    says(&message(open("cifar10", Some(folder.path()))), &["data_batch_4"]);
}

/// An IDX file.
fn idx(sizes: &[u32], content: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| file.extend(size.to_be_bytes()));
    file.extend(content);
    file
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(content).unwrap();
    out.finish().unwrap()
}

#[test]
fn idx_files_are_read_plain_and_compressed() {
    let pixels: Vec<u8> = (0..3 * 784).map(|i| (i % 251) as u8).collect();
    let images = idx(&[3, 28, 28], &pixels);
    for (sub, packed) in [("", false), ("MNIST/raw/", true), ("raw/", false)] {
        let root = TempDir::new().unwrap();
        let store = |split: &str, labels: &[u8]| {
            let suffix = if packed { ".gz" } else { "" };
            let pack = |content: Vec<u8>| if packed { gzip(&content) } else { content };
            put(root.path(), &format!("{sub}{split}-images-idx3-ubyte{suffix}"), pack(images.clone()));
            put(root.path(), &format!("{sub}{split}-labels-idx1-ubyte{suffix}"), pack(idx(&[3], labels)));
        };
        store("train", &[7, 0, 9]);
        store("t10k", &[1, 2, 3]);
        let splits = open("mnist", Some(root.path())).unwrap();
        assert_eq!(
            (labels(&**splits.train().unwrap()), labels(&**splits.reported().unwrap())),
            (vec![7, 0, 9], vec![1, 2, 3])
        );
        let image = splits.train().unwrap().image(1).unwrap();
        assert_eq!((image.size(), &image.rgb[..6]), ((28, 28), &[31, 31, 31, 32, 32, 32][..]));
        let values: Vec<f64> = pixels.iter().map(|&p| f64::from(p) / 255.0).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        assert!((splits.mean[2] - mean).abs() < 1e-12 && (splits.std[0] - std).abs() < 1e-12);
        // More than ten classes, under another name.
        store("emnist-letters-train", &[1, 26, 14]);
        store("emnist-letters-test", &[26, 1, 14]);
        let reading =
            Reading { train: name("emnist-letters-train"), test: name("emnist-letters-test"), ..Reading::default() };
        if sub != "MNIST/raw/" {
            let splits = heterodyne_data::open("mnist", Some(root.path()), &reading).unwrap();
            assert_eq!(
                (splits.classes(), labels(&**splits.reported().unwrap())),
                (&["1", "14", "26"].map(String::from)[..], vec![2, 0, 1])
            );
        }
    }
    let root = TempDir::new().unwrap();
    says(&message(open("fashion_mnist", Some(root.path()))), &["holds no train-images-idx3-ubyte", "data.train"]);
    put(root.path(), "train-images-idx3-ubyte", &images);
    says(&message(open("fashion_mnist", Some(root.path()))), &["no train-labels-idx1-ubyte"]);
    put(root.path(), "train-labels-idx1-ubyte", idx(&[2], &[0, 1]));
    says(&message(open("fashion_mnist", Some(root.path()))), &["2 labels for 3 images"]);
    put(root.path(), "train-labels-idx1-ubyte", idx(&[3], &[0, 1, 2]));
    assert_eq!(open("fashion_mnist", Some(root.path())).unwrap().classes()[9], "Ankle boot");
    put(root.path(), "train-images-idx3-ubyte", &images[..images.len() - 5]);
    says(&message(open("fashion_mnist", Some(root.path()))), &["train-images-idx3-ubyte", "cut short"]);
    put(root.path(), "train-images-idx3-ubyte", &gzip(&images)[..300]);
    says(&message(open("fashion_mnist", Some(root.path()))), &["not a complete gzip file"]);
    put(root.path(), "train-images-idx3-ubyte", "<html>");
    says(&message(open("fashion_mnist", Some(root.path()))), &["is not an IDX file of images"]);
}

#[test]
fn cub_is_read_by_its_lists() {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("CUB_200_2011");
    put(&folder, "images.txt", "1 001.Albatross/A_1.jpg\n2 001.Albatross/A_2.jpg\n3 002.Wren/W_1.jpg\n");
    put(&folder, "image_class_labels.txt", "1 1\n2 1\n3 2\n");
    put(&folder, "train_test_split.txt", "1 0\n2 1\n3 1\n");
    put(&folder, "classes.txt", "1 001.Albatross\n2 002.Wren\n");
    says(&message(open("cub200", Some(root.path()))), &["A_2.jpg", "unpacked"]);
    for file in ["001.Albatross/A_1.jpg", "001.Albatross/A_2.jpg", "002.Wren/W_1.jpg"] {
        put(&folder.join("images"), file, jpeg());
    }
    for path in [root.path(), &folder] {
        let splits = open("cub200", Some(path)).unwrap();
        assert_eq!(splits.classes(), ["001.Albatross", "002.Wren"]);
        assert_eq!((labels(&**splits.train().unwrap()), labels(&**splits.reported().unwrap())), (vec![0, 1], vec![0]));
        whole(&splits);
    }
    put(&folder, "image_class_labels.txt", "1 1\n3 2\n");
    says(&message(open("cub200", Some(root.path()))), &["image_class_labels.txt", "image 2"]);
    says(&message(open("cub200", Some(&folder.join("images")))), &["images.txt", "CUB_200_2011"]);
}

#[test]
fn aircraft_are_labelled_at_three_levels() {
    let root = TempDir::new().unwrap();
    let data = root.path().join("fgvc-aircraft-2013b/data");
    put(&data, "variants.txt", "707-320\nA320\nF/A-18\n");
    put(&data, "families.txt", "A320\nBoeing 707\nF/A-18\n");
    put(&data, "manufacturers.txt", "Airbus\nBoeing\nMcDonnell Douglas\n");
    for (level, [a, b, c]) in [("variant", ["707-320", "A320", "F/A-18"]), ("family", ["Boeing 707", "A320", "F/A-18"])]
    {
        put(&data, &format!("images_{level}_trainval.txt"), format!("0001 {a}\n0002 {b}\n"));
        put(&data, &format!("images_{level}_train.txt"), format!("0001 {a}\n"));
        put(&data, &format!("images_{level}_val.txt"), format!("0002 {b}\n"));
        put(&data, &format!("images_{level}_test.txt"), format!("0003 {c}\n0001 {a}\n"));
    }
    for id in 1..4 {
        put(&data.join("images"), &format!("000{id}.jpg"), jpeg());
    }
    let at = |reading: &Reading| heterodyne_data::open("aircraft", Some(root.path()), reading);
    let splits = at(&Reading::default()).unwrap();
    assert_eq!((labels(&**splits.train().unwrap()), labels(&**splits.reported().unwrap())), (vec![0, 1], vec![2, 0]));
    assert!(splits.chosen_on().is_none());
    whole(&splits);
    let apart =
        at(&Reading { train: name("train"), val: name("val"), label_column: name("family"), ..Reading::default() })
            .unwrap();
    assert_eq!((labels(&**apart.train().unwrap()), labels(&**apart.chosen_on().unwrap())), (vec![1], vec![0]));
    says(
        &message(at(&Reading { label_column: name("maker"), ..Reading::default() })),
        &["variant, family or manufacturer"],
    );
    put(&data, "images_variant_test.txt", "0003 A380\n");
    says(&message(at(&Reading::default())), &["images_variant_test.txt", "`A380` is not among the 3"]);
}

/// Training folders of four of the synsets in meta.mat, and flat validation images.
fn imagenet() -> TempDir {
    let root = TempDir::new().unwrap();
    for wnid in ["n01440764", "n01443537", "n02100735", "n02119789"] {
        put(root.path(), &format!("train/{wnid}/{wnid}_1.JPEG"), jpeg());
    }
    for number in 1..6 {
        put(root.path(), &format!("val/ILSVRC2012_val_0000000{number}.JPEG"), jpeg());
    }
    root
}

#[test]
fn imagenet_validates_by_ground_truth_list_or_folders() {
    for meta in ["meta.mat", "meta_plain.mat"] {
        let root = imagenet();
        says(
            &message(open("imagenet", Some(root.path()))),
            &["no class folders", "development kit", "LOC_val_solution.csv", "data.labels"],
        );
        let kit = root.path().join("ILSVRC2012_devkit_t12/data");
        fs::create_dir_all(&kit).unwrap();
        fs::copy(layout(meta), kit.join("meta.mat")).unwrap();
        // ILSVRC2012_ID 1 is n02119789, 2 n01440764, 3 n02100735, 4 n01443537; classes are sorted WordNet ids.
        put(&kit, "ILSVRC2012_validation_ground_truth.txt", "4\n1\n2\n3\n1\n");
        let splits = open("imagenet", Some(root.path())).unwrap();
        assert_eq!(splits.classes(), ["n01440764", "n01443537", "n02100735", "n02119789"]);
        assert_eq!(labels(&**splits.reported().unwrap()), [1, 3, 0, 2, 3]);
        whole(&splits);
        // Validation alone.
        let val =
            heterodyne_data::open("imagenet", Some(root.path()), &Reading { train: name(""), ..Reading::default() })
                .unwrap();
        assert_eq!((val.train.is_none(), labels(&**val.reported().unwrap())), (true, vec![1, 3, 0, 2, 3]));
        put(&kit, "ILSVRC2012_validation_ground_truth.txt", "4\n1\n2\n3\n");
        says(&message(open("imagenet", Some(root.path()))), &["4 numbers for the 5 pictures"]);
        put(&kit, "ILSVRC2012_validation_ground_truth.txt", "4\n1\n2\n3\n9\n");
        says(&message(open("imagenet", Some(root.path()))), &["line 5", "`9`"]);
        let mat = fs::read(layout(meta)).unwrap();
        for length in (0..mat.len()).step_by(13) {
            put(&kit, "meta.mat", &mat[..length]);
            says(&message(open("imagenet", Some(root.path()))), &["meta.mat"]);
        }
    }
}

#[test]
fn imagenet_lists_come_in_the_forms_that_are_about() {
    let kaggle = "ImageId,PredictionString\n\
                  ILSVRC2012_val_00000002,n02119789 85 1 499 272 \n\
                  ILSVRC2012_val_00000001,n01443537 1 2 3 4 n01443537 5 6 7 8 \n\
                  ILSVRC2012_val_00000003,n01440764 0 0 9 9 \n\
                  ILSVRC2012_val_00000004,n02100735 0 0 9 9 \n\
                  ILSVRC2012_val_00000005,n02119789 0 0 9 9 \n";
    let caffe = "ILSVRC2012_val_00000001.JPEG 1\n\
                 ILSVRC2012_val_00000002.JPEG 3\n\
                 ILSVRC2012_val_00000003.JPEG 0\n\
                 ILSVRC2012_val_00000004.JPEG 2\n\
                 ILSVRC2012_val_00000005.JPEG 3\n";
    let pairs = "val/ILSVRC2012_val_00000001.JPEG,n01443537\n\
                 val/ILSVRC2012_val_00000002.JPEG,n02119789\n\
                 val/ILSVRC2012_val_00000003.JPEG,n01440764\n\
                 val/ILSVRC2012_val_00000004.JPEG,n02100735\n\
                 val/ILSVRC2012_val_00000005.JPEG,n02119789\n";
    for (file, text) in [("LOC_val_solution.csv", kaggle), ("val.txt", caffe), ("val.csv", pairs)] {
        let root = imagenet();
        put(root.path(), file, text);
        let splits = open("imagenet", Some(root.path())).unwrap();
        assert_eq!(labels(&**splits.reported().unwrap()), [1, 3, 0, 2, 3], "{file}");
        // Kaggle's archive.
        let deep = TempDir::new().unwrap();
        let images = deep.path().join("ILSVRC/Data/CLS-LOC");
        fs::create_dir_all(images.parent().unwrap()).unwrap();
        fs::rename(root.path(), &images).unwrap();
        put(&images, "test/ILSVRC2012_test_1.JPEG", jpeg());
        let list = images.join(file);
        let reading = Reading { labels: Some(list), ..Reading::default() };
        let splits = heterodyne_data::open("imagenet", Some(deep.path()), &reading).unwrap();
        assert_eq!(
            (splits.test.is_none(), labels(&**splits.reported().unwrap())),
            (true, vec![1, 3, 0, 2, 3]),
            "{file}"
        );
    }
    let root = imagenet();
    put(root.path(), "val.csv", "ILSVRC2012_val_00000001,n01443537\n");
    says(&message(open("imagenet", Some(root.path()))), &["val.csv", "4 of the 5 pictures"]);
    // Folders need no list.
    let sorted = TempDir::new().unwrap();
    put(sorted.path(), "train/n1/x.JPEG", jpeg());
    put(sorted.path(), "train/n2/x.JPEG", jpeg());
    put(sorted.path(), "val/n2/x.JPEG", jpeg());
    assert_eq!(labels(&**open("imagenet", Some(sorted.path())).unwrap().reported().unwrap()), [1]);
}

fn list(root: &TempDir, reading: &Reading) -> Result<Splits> {
    heterodyne_data::open("list", Some(root.path()), reading)
}

#[test]
fn lists_name_files_and_classes() {
    for (suffix, train, test) in [
        ("csv", "path,label\nimages/a.jpg,owl\nimages/b c.jpg,\"cat, big\"\n", "path,label\nimages/a.jpg,owl\n"),
        ("csv", "photo,label\na.jpg,owl\nb c.jpg,\"cat, big\"\n", "file,what\na.jpg,owl\n"),
        ("csv", "label;filename\nowl;a.jpg\n\"cat, big\";b c.jpg\n", "filename;label\na.jpg;owl\n"),
        ("tsv", "a.jpg\towl\nb c.jpg\tcat, big\n", "a.jpg\towl\n"),
        ("csv", "\u{feff}id,breed\r\na,owl\r\nb c,\"cat, big\"\r\n", "id,breed\r\na,owl\r\n"),
    ] {
        let root = TempDir::new().unwrap();
        put(root.path(), "images/a.jpg", jpeg());
        put(root.path(), "images/b c.jpg", jpeg());
        put(root.path(), &format!("train.{suffix}"), train);
        put(root.path(), &format!("test.{suffix}"), test);
        let splits = list(&root, &Reading::default()).unwrap();
        assert_eq!(
            (splits.classes(), labels(&**splits.train().unwrap())),
            (&["cat, big", "owl"].map(String::from)[..], vec![1, 0]),
            "{train}"
        );
        assert_eq!(labels(&**splits.reported().unwrap()), [1]);
        whole(&splits);
    }
    // Spaces; numbers are classes in the order of numbers, or places in a list of names.
    let root = TempDir::new().unwrap();
    put(root.path(), "a.jpg", jpeg());
    put(root.path(), "b.jpg", jpeg());
    put(root.path(), "train.txt", "a.jpg 10\nb.jpg 9\na.jpg 100\n");
    put(root.path(), "val.txt", "b.jpg 10\n");
    let splits = list(&root, &Reading::default()).unwrap();
    assert_eq!(
        (splits.classes(), labels(&**splits.train().unwrap())),
        (&["9", "10", "100"].map(String::from)[..], vec![1, 0, 2])
    );
    put(root.path(), "train.txt", "a.jpg 1\nb.jpg 0\n");
    put(root.path(), "val.txt", "b.jpg 1\n");
    let reading = Reading { classes: Some(vec!["owl".to_owned(), "cat".to_owned()]), ..Reading::default() };
    let splits = list(&root, &reading).unwrap();
    assert_eq!((splits.classes()[1].as_str(), labels(&**splits.reported().unwrap())), ("cat", vec![1]));

    // One file with a column for the split, columns of any name.
    let root = TempDir::new().unwrap();
    put(root.path(), "img/1.png", jpeg());
    put(
        root.path(),
        "all.csv",
        "n,pic,kind,split\n0,1.png,x,train\n1,1.png,y,train\n2,1.png,y,validation\n3,1.png,x,test\n",
    );
    let file = root.path().join("all.csv");
    let reading = Reading { image_column: name("pic"), label_column: name("kind"), ..Reading::default() };
    let splits = heterodyne_data::open("list", Some(&file), &reading).unwrap();
    assert_eq!(
        (splits.train().unwrap().len(), labels(&**splits.chosen_on().unwrap()), labels(&**splits.reported().unwrap())),
        (2, vec![1], vec![0])
    );
    put(root.path(), "all.csv", "n,pic,kind,split\n0,1.png,x,train\n1,1.png,y,holdout\n");
    says(&message(heterodyne_data::open("list", Some(&file), &reading)), &["line 3", "`holdout`", "data.test"]);
    let named = Reading { test: name("holdout"), ..reading };
    says(&message(heterodyne_data::open("list", Some(&file), &named)), &["`y` is not among the 1 known"]);
}

#[test]
fn lists_that_do_not_fit_are_named() {
    let root = TempDir::new().unwrap();
    put(root.path(), "a.jpg", jpeg());
    says(&message(list(&root, &Reading::default())), &["no list named train, val or test", "found no lists"]);
    for (text, parts) in [
        ("", vec!["train.csv", "is empty"]),
        ("path,label\n", vec!["train.csv", "names no files"]),
        ("a.jpg\n", vec!["only one column"]),
        ("a.jpg,owl\nb.jpg,cat\n", vec!["b.jpg", "does not exist", "line 2"]),
        ("pic,kind\na.jpg,owl\n", vec!["`pic` in line 1", "data.image_column"]),
        ("path,kind,n\na.jpg,owl,1\n", vec!["which column is the label", "data.label_column", "path, kind, n"]),
        ("path,label\na.jpg,owl\na.jpg,\n", vec!["line 3 has no file and class"]),
        ("path,label\na.jpg,owl\n", vec!["only one class, `owl`"]),
    ] {
        put(root.path(), "train.csv", text);
        says(&message(list(&root, &Reading::default())), &parts);
    }
    put(root.path(), "train.csv", "path,label\na.jpg,owl\na.jpg,cat\n");
    says(
        &message(list(&root, &Reading { label_column: name("kind"), ..Reading::default() })),
        &["no column `kind` (data.label_column)", "path, label"],
    );
    put(root.path(), "train.txt", "a.jpg owl\na.jpg cat\n");
    says(&message(list(&root, &Reading::default())), &["are lists for one split", "data.train"]);
}

#[test]
fn hugging_faces_parquet_is_read_whatever_the_columns_are_called() {
    let splits = open("parquet", Some(&layout("huggingface"))).unwrap();
    says(&message(open("parquet", Some(&layout("cifar10")))), &["no Parquet files"]);
    assert_eq!((splits.classes(), splits.side), (&["cat", "dog", "owl"].map(String::from)[..], None));
    assert_eq!(labels(&**splits.train().unwrap()), [2, 0, 2, 1]);
    assert_eq!((labels(&**splits.chosen_on().unwrap()), labels(&**splits.reported().unwrap())), (vec![1, 0], vec![2]));
    assert_eq!(splits.train().unwrap().image(3).unwrap().size(), (12, 12));
    whole(&splits);

    // Images of one small size are decoded at once; the names are the metadata's.
    let small = open("parquet", Some(&layout("huggingface_small"))).unwrap();
    assert_eq!((small.classes(), small.side), (&["no", "yes"].map(String::from)[..], Some(8)));
    assert_eq!(
        (labels(&**small.train().unwrap()), labels(&**small.reported().unwrap())),
        (vec![0, 1, 1, 0], vec![1, 0])
    );
    let levels: Vec<f64> =
        (0..4).flat_map(|i| small.train().unwrap().image(i).unwrap().rgb).map(|v| f64::from(v) / 255.0).collect();
    let mean = levels.iter().skip(1).step_by(3).sum::<f64>() / (levels.len() / 3) as f64;
    assert!((small.mean[1] - mean).abs() < 1e-12, "{} {mean}", small.mean[1]);
    // One file, and splits of other names.
    let file = layout("huggingface/data/validation-00000-of-00001.parquet");
    let alone = open("parquet", Some(&file)).unwrap();
    assert_eq!((alone.train.is_none(), labels(&**alone.reported().unwrap())), (true, vec![1, 0]));
    let at = |reading: &Reading| heterodyne_data::open("parquet", Some(&layout("huggingface")), reading);
    let swapped =
        Reading { train: name("validation"), val: name(""), label_column: name("kind"), ..Reading::default() };
    says(&message(at(&swapped)), &["test-00000-of-00001.parquet: row 0", "`owl` is not among the 2"]);
    says(
        &message(at(&Reading { train: name("holdout"), ..Reading::default() })),
        &["no holdout-*.parquet", "data.train"],
    );
    says(
        &message(at(&Reading { label_column: name("sort"), ..Reading::default() })),
        &["no label column (sort)", "kind, picture.bytes"],
    );
    let classes = Some(["owl", "dog", "cat", "cow"].map(String::from).to_vec());
    let ordered = at(&Reading { classes, ..Reading::default() }).unwrap();
    assert_eq!(labels(&**ordered.train().unwrap()), [0, 2, 0, 1]);
    // CIFAR's own parquet as any other: text of numbers, or the names in its metadata.
    let cifar = open("parquet", Some(&golden("parquet"))).unwrap();
    assert_eq!((cifar.side, cifar.classes().len(), cifar.train().unwrap().len()), (Some(32), 5, 7));
    whole(&cifar);
    let damaged = TempDir::new().unwrap();
    put(
        damaged.path(),
        "data/train-00000-of-00002.parquet",
        fs::read(layout("huggingface_small/data/train-00000-of-00002.parquet")).unwrap(),
    );
    says(&message(open("parquet", Some(damaged.path()))), &["1 of the 2 files train-"]);
}
