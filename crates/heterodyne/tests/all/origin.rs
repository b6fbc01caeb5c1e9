//! A run resumes only with the images, class names and teacher that it was interrupted with; otherwise the error lists
//! the changes.
use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use heterodyne::nn::file;
use image::{Rgb, RgbImage};

use crate::support::{Place, interrupt};

/// Writes a bitmap: images of the same sides are files of the same size.
fn picture(path: &Path, side: u32, shade: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_fn(side, side, |x, y| Rgb([shade, (x * 9) as u8, (y * 9) as u8])).save(path).unwrap();
}

/// Copies a folder with the modification times of its files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
            let time = fs::metadata(&from).unwrap().modified().unwrap();
            fs::File::options().write(true).open(&to).unwrap().set_modified(time).unwrap();
        }
    }
}

/// A change of the data or the teacher, and the expected parts of the error.
type Change = (&'static str, fn(&Place), &'static [&'static str]);

const CHANGES: [Change; 8] = [
    (
        "an image removed",
        |place| fs::remove_file(place.path("photos/train/dogs/1.bmp")).unwrap(),
        &["training images of class `dogs`: 4 then, 3 now"],
    ),
    (
        "an image added",
        |place| picture(&place.path("photos/test/cats/9.bmp"), 16, 1),
        &["test images of class `cats`: 4 then, 5 now"],
    ),
    (
        "an image of another size under the same name",
        |place| picture(&place.path("photos/val/cats/2.bmp"), 20, 200),
        &["validation images of class `cats`: some were replaced"],
    ),
    (
        "an image of the same size under the same name",
        |place| {
            let path = place.path("photos/train/cats/2.bmp");
            picture(&path, 16, 250);
            let later = SystemTime::now() + Duration::from_secs(5);
            fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
        },
        &["training images of class `cats`: file names and sizes match, but modification times differ"],
    ),
    (
        "an image under another name",
        |place| fs::rename(place.path("photos/train/cats/2.bmp"), place.path("photos/train/cats/two.bmp")).unwrap(),
        &["training images of class `cats`: some were replaced"],
    ),
    (
        "a class renamed",
        |place| {
            for split in ["train", "val", "test"] {
                let folder = place.path("photos").join(split);
                fs::rename(folder.join("dogs"), folder.join("wolves")).unwrap();
            }
        },
        &["class `dogs` is now `wolves`"],
    ),
    (
        "an image moved to another class",
        |place| fs::rename(place.path("photos/train/cats/2.bmp"), place.path("photos/train/dogs/9.bmp")).unwrap(),
        &["training images of class `cats`: 4 then, 3 now", "training images of class `dogs`: 4 then, 5 now"],
    ),
    (
        "the teacher's file replaced",
        |place| {
            let (mut tensors, metadata) = file::read(&place.path("two.safetensors")).unwrap();
            let other = tensors["head.bias"].copy() + 0.5;
            tensors.insert("head.bias".to_owned(), other);
            file::write(&place.path("two.safetensors"), tensors.iter().map(|(n, t)| (n.as_str(), t)), metadata)
                .unwrap();
        },
        &["the teacher's weights have changed"],
    ),
];

#[test]
fn changed_images_classes_and_teachers_are_named_before_a_run_goes_on() {
    let place = Place::new();
    for split in ["train", "val", "test"] {
        for (class, shade) in [("cats", 20), ("dogs", 160)] {
            (0..4u8).for_each(|i| picture(&place.path(&format!("photos/{split}/{class}/{i}.bmp")), 16, shade + 10 * i));
        }
    }
    place.write_teacher("two.safetensors", 2);
    let sets = "--set data.name=folder --set data.path=photos --set data.per_class= --set data.img=16 --set \
        student.img=16 \
                --set teacher.weights=two.safetensors --set train.batch=4 --set train.epochs=60";
    assert_eq!(interrupt(&place, &format!("distill taught.toml --out run {sets}")), Some(130));
    let kept = tempfile::tempdir().unwrap();
    copy(&place.path(""), kept.path());
    for (what, change, says) in CHANGES {
        change(&place);
        let said = place.bad("distill --resume run", &[&["state.safetensors", "--accept-changes"], says].concat());
        assert_eq!(
            said.matches("images of class").count()
                + said.matches("is now").count()
                + said.matches("weights have changed").count(),
            says.len(),
            "{what}: {said}"
        );
        let output = place.run("distill --resume run --accept-changes");
        assert!(output.status.success(), "{what}: {}", crate::support::stderr(&output));
        assert!(place.read("run/summary.json").contains("\"finished\""), "{what}");
        for folder in ["photos", "run"] {
            fs::remove_dir_all(place.path(folder)).unwrap();
        }
        copy(kept.path(), &place.path(""));
    }
    // Files copied with their modification times, as eight times above, count as unchanged.
    place.good("distill --resume run");
}
