//! The [`Dataset`] trait, its images and its splits.
use std::{path::Path, sync::Arc};

use heterodyne_nn::{Error, Result};

/// An 8-bit RGB image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
    /// height * width * 3 bytes: rows from the top, pixels from the left, red, green, blue.
    pub rgb: Vec<u8>,
}

impl Image {
    /// Makes an image from its bytes.
    ///
    /// # Errors
    /// A side is zero, or the number of bytes is not height * width * 3.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self> {
        if width == 0 || height == 0 || rgb.len() != width as usize * height as usize * 3 {
            return Err(Error::invalid(format!(
                "{} bytes are not an RGB image of {width} x {height} pixels",
                rgb.len()
            )));
        }
        Ok(Self { width, height, rgb })
    }

    /// A black image.
    #[must_use]
    pub(crate) fn black(width: usize, height: usize) -> Self {
        Self { width: width as u32, height: height as u32, rgb: vec![0; width * height * 3] }
    }

    /// (rows, columns).
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.height as usize, self.width as usize)
    }
}

/// Where an image is stored.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// Decoded in memory.
    Memory(&'a [u8]),
    /// In its own file: its path, and its name within the dataset.
    File(&'a Path, &'a Path),
    /// Anywhere else.
    Elsewhere,
}

/// Labelled images with random access, readable from many threads.
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Class names; a label is a position in this list.
    fn classes(&self) -> &[String];

    /// The class of sample `index`. An index beyond the end is a programming error and panics.
    fn label(&self, index: usize) -> usize;

    /// The decoded image of sample `index`.
    ///
    /// # Errors
    /// The image cannot be read; the message names the file or the row.
    fn image(&self, index: usize) -> Result<Image>;

    /// Where the image of sample `index` is stored. This lets a caller notice a replaced image without decoding it.
    fn stored(&self, _index: usize) -> Stored<'_> {
        Stored::Elsewhere
    }

    /// A short description with the number of images: "CIFAR-100 train (parquet), 50000 images".
    fn describe(&self) -> String;
}

/// The splits of a dataset, and the properties that networks trained on it need.
#[derive(Clone)]
pub struct Splits {
    /// The training images.
    pub train: Option<Arc<dyn Dataset>>,
    /// The validation images.
    pub val: Option<Arc<dyn Dataset>>,
    /// The test images.
    pub test: Option<Arc<dyn Dataset>>,
    /// Side of the square images; `None` for photographs of many sizes.
    pub side: Option<u32>,
    /// Per-channel mean of the train split, of values in 0..1.
    pub mean: [f64; 3],
    /// Per-channel standard deviation of the train split, of values in 0..1.
    pub std: [f64; 3],
    /// Notices for the user about how the files were interpreted, one sentence each.
    pub notices: Vec<String>,
    /// What is wrong with files or folders, one sentence each; only [`examine`](crate::examine) returns splits that
    /// have any.
    pub faults: Vec<String>,
}

/// ImageNet's statistics, which pretrained networks expect.
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

impl Splits {
    /// Empty splits for photographs of varying size, with ImageNet's statistics.
    pub(crate) fn photographs() -> Self {
        let (mean, std) = IMAGENET;
        Self { train: None, val: None, test: None, side: None, mean, std, notices: Vec::new(), faults: Vec::new() }
    }

    /// The training images.
    ///
    /// # Errors
    /// The data has no training images.
    pub fn train(&self) -> Result<&Arc<dyn Dataset>> {
        self.train.as_ref().ok_or_else(|| self.lacks("training images", "data.train"))
    }

    /// The images for reported results: the test images, or the validation images of a dataset without test images,
    /// such as ImageNet.
    ///
    /// # Errors
    /// The data has neither.
    pub fn reported(&self) -> Result<&Arc<dyn Dataset>> {
        self.test.as_ref().or(self.val.as_ref()).ok_or_else(|| self.lacks("test or validation images", "data.test"))
    }

    /// The validation images.
    ///
    /// # Errors
    /// The data has no validation images.
    pub fn val(&self) -> Result<&Arc<dyn Dataset>> {
        self.val.as_ref().ok_or_else(|| self.lacks("validation images", "data.val"))
    }

    /// The images for model selection: the validation images, if the dataset also has test images.
    #[must_use]
    pub fn chosen_on(&self) -> Option<&Arc<dyn Dataset>> {
        self.val.as_ref().filter(|_| self.test.is_some())
    }

    /// The available splits, with their names.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Arc<dyn Dataset>)> {
        let all = [("train", &self.train), ("val", &self.val), ("test", &self.test)];
        all.into_iter().filter_map(|(name, split)| Some((name, split.as_ref()?)))
    }

    /// The names of all classes.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        self.all().next().map_or(&[], |(_, split)| split.classes())
    }

    fn lacks(&self, what: &str, key: &str) -> Error {
        let there: Vec<_> = self.all().map(|(name, split)| format!("{name}: {}", split.describe())).collect();
        Error::invalid(format!("the data has no {what} ({}); set `{key}` to where they are", there.join("; ")))
    }
}

impl std::fmt::Debug for Splits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Splits");
        for (name, split) in self.all() {
            out.field(name, &split.describe());
        }
        out.field("side", &self.side)
            .field("mean", &self.mean)
            .field("std", &self.std)
            .field("notices", &self.notices)
            .field("faults", &self.faults)
            .finish()
    }
}

/// Small square images of one size, held decoded in memory.
#[derive(Debug)]
pub(crate) struct Raster {
    pub title: String,
    pub side: usize,
    /// len * side * side * 3 bytes.
    pub rgb: Vec<u8>,
    pub labels: Vec<u16>,
    pub classes: Arc<[String]>,
}

impl Raster {
    /// Per-channel mean and standard deviation of all pixels, of values in 0..1. The standard deviation is at least
    /// that of one level, because images of one colour have no spread to divide by.
    pub(crate) fn statistics(&self) -> ([f64; 3], [f64; 3]) {
        let mut counts = [[0u64; 256]; 3];
        for pixel in self.rgb.as_chunks::<3>().0 {
            (0..3).for_each(|c| counts[c][usize::from(pixel[c])] += 1);
        }
        let total = (self.rgb.len() / 3).max(1) as f64;
        let moment = |c: usize, f: &dyn Fn(f64) -> f64| {
            counts[c].iter().enumerate().map(|(level, &n)| n as f64 * f(level as f64 / 255.0)).sum::<f64>() / total
        };
        let mean = [0, 1, 2].map(|c| moment(c, &|v| v));
        (mean, [0, 1, 2].map(|c| moment(c, &|v| (v - mean[c]) * (v - mean[c])).sqrt().max(1.0 / 255.0)))
    }
}

impl Dataset for Raster {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    fn stored(&self, index: usize) -> Stored<'_> {
        let bytes = self.side * self.side * 3;
        self.rgb.get(index * bytes..(index + 1) * bytes).map_or(Stored::Elsewhere, Stored::Memory)
    }

    fn image(&self, index: usize) -> Result<Image> {
        let bytes = self.side * self.side * 3;
        let rgb = self.rgb.get(index * bytes..(index + 1) * bytes);
        let rgb = rgb.ok_or_else(|| Error::invalid(format!("there is no sample {index} in {}", self.describe())))?;
        Image::new(self.side as u32, self.side as u32, rgb.to_vec())
    }

    fn describe(&self) -> String {
        format!("{}, {} images", self.title, self.labels.len())
    }
}
