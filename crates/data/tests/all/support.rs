//! Goldens, made-up datasets and comparisons.
use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use heterodyne_data::{Dataset, Decode, Image, Reading, Splits};
use heterodyne_nn::{Error, InputSpec, Result, Tensors, file};
use tch::{Kind, Tensor};

/// A file beside the script that made it.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// A centre crop of side `img` with share `crop_pct`.
pub fn spec(img: i64, crop_pct: f64) -> InputSpec {
    InputSpec::centred(img, crop_pct)
}

/// A stop flag that is never set.
pub static GO: AtomicBool = AtomicBool::new(false);

/// A dataset, opened without any keys.
pub fn open(name: &str, path: Option<&Path>) -> Result<Splits> {
    heterodyne_data::open(name, path, &Reading::default())
}

/// A picture in the orientation of its file.
pub fn decode_as_is(bytes: &[u8]) -> std::result::Result<Image, String> {
    heterodyne_data::decode::decode(bytes, &Decode { exif: false, ..Decode::default() })
}

/// The tensors of a golden file.
pub fn goldens(name: &str) -> Tensors {
    file::read(&golden(name)).unwrap().0
}

/// Real images and weights; prints a line if they are absent.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: ../shared/data/{name} is absent");
    None
}

pub fn bytes(tensor: &Tensor) -> Vec<u8> {
    Vec::try_from(tensor.contiguous().flatten(0, -1)).unwrap()
}

pub fn ints(tensor: &Tensor) -> Vec<i64> {
    Vec::try_from(tensor.to_kind(Kind::Int64).contiguous().flatten(0, -1)).unwrap()
}

/// An image from an (H,W,3) uint8 tensor.
pub fn image(tensor: &Tensor) -> Image {
    let size = tensor.size();
    Image::new(size[1] as u32, size[0] as u32, bytes(tensor)).unwrap()
}

/// Largest and mean difference in levels.
pub fn difference(a: &Image, b: &Image) -> (u8, f64) {
    assert_eq!(a.size(), b.size());
    let gaps: Vec<u8> = a.rgb.iter().zip(&b.rgb).map(|(x, y)| x.abs_diff(*y)).collect();
    (gaps.iter().copied().max().unwrap_or(0), gaps.iter().map(|&g| f64::from(g)).sum::<f64>() / gaps.len() as f64)
}

/// The error of a result that must not be a success, as text.
pub fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(e) => e.to_string(),
    }
}

/// Asserts that an error contains all of these parts.
#[track_caller]
pub fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// How a made-up sample fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    Error,
    Panic,
    Label,
}

/// A dataset whose image `i` is filled with a pattern of `i`.
pub struct Pattern {
    pub len: usize,
    pub side: usize,
    pub classes: Vec<String>,
    pub faults: Vec<(usize, Fault)>,
    /// Time that each image takes.
    pub delay: std::time::Duration,
}

impl Pattern {
    pub fn new(len: usize, side: usize, classes: usize) -> Self {
        Self {
            len,
            side,
            classes: (0..classes).map(|c| format!("c{c}")).collect(),
            faults: Vec::new(),
            delay: std::time::Duration::ZERO,
        }
    }

    pub fn shared(len: usize, side: usize, classes: usize) -> Arc<dyn Dataset> {
        Arc::new(Self::new(len, side, classes))
    }

    fn fault(&self, index: usize) -> Option<Fault> {
        self.faults.iter().find(|(at, _)| *at == index).map(|(_, fault)| *fault)
    }
}

impl Dataset for Pattern {
    fn len(&self) -> usize {
        self.len
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        if self.fault(index) == Some(Fault::Label) { self.classes.len() } else { index % self.classes.len() }
    }

    fn image(&self, index: usize) -> Result<Image> {
        std::thread::sleep(self.delay);
        match self.fault(index) {
            Some(Fault::Error) => return Err(Error::file("pictures/broken.png", "is torn")),
            Some(Fault::Panic) => panic!("a bug in a decoder"),
            _ => {}
        }
        let rgb = (0..self.side * self.side * 3).map(|at| ((at * 7 + index * 31) % 256) as u8).collect();
        Image::new(self.side as u32, self.side as u32, rgb)
    }

    fn describe(&self) -> String {
        format!("pattern, {} images", self.len)
    }
}
