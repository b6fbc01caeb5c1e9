//! The dependencies of a cache's entries, and their hash, which names its folder.
use std::path::Path;

use heterodyne_data::TrainLoader;
use heterodyne_run::recipe::schema::CacheTable;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::{Plan, Result, network::Network};

/// Incremented when the meaning of rows changes.
const FORMAT: u32 = 2;

/// Number of images whose pixels are hashed, evenly spaced over the training images.
const SAMPLED: usize = 64;

/// The dependencies of the entries.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    json: Value,
    teacher: String,
    classes: i64,
}

impl About {
    /// Collects the dependencies. The number of views is not one of them: more views are appended to the same rows. Nor
    /// are the methods: each signal has its own column.
    pub fn of(
        plan: &Plan,
        (teacher, identity): (&Network, &str),
        loader: &TrainLoader,
        table: &CacheTable,
    ) -> Result<Self> {
        let (recipe, view) = (&plan.recipe, &teacher.view);
        let json = json!({
            "format": FORMAT,
            "teacher": {
                "model": teacher.name,
                "options": recipe.teacher.as_ref().map(|t| &t.options),
                "img": view.img,
                "mean": view.mean,
                "std": view.std,
                "precision": teacher.precision,
                "weights": identity,
            },
            "data": {
                "name": recipe.data.name,
                "exif": recipe.data.exif,
                "images": loader.indices().len(),
                "content": content(loader)?,
            },
            "views": { "side": recipe.data.img, "augment": plan.augment, "seed": table.seed.unwrap_or(recipe.seed) },
        });
        let name = teacher
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' })
            .collect();
        Ok(Self { json, teacher: name, classes: teacher.taps().classes })
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// The dependencies as JSON text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:#}\n", self.json)
    }

    /// The folder's name, `TEACHER-KEY`; equal for equal dependencies.
    #[must_use]
    pub fn folder(&self) -> String {
        let key = hex(&Sha256::digest(self.json.to_string()));
        format!("{}-{}", self.teacher, &key[..16])
    }
}

/// A hash of the teacher's weights, or of its package file.
pub(crate) fn identity(plan: &Plan, teacher: &Network) -> Result<String> {
    match plan.recipe.teacher.as_ref().and_then(|t| t.package.as_deref()) {
        Some(package) => file(package),
        None => weights(teacher),
    }
}

/// A hash of all names and weights.
pub(crate) fn weights(network: &Network) -> Result<String> {
    let mut hash = Sha256::new();
    for (name, tensor, _) in network.store.entries() {
        hash.update(name.as_bytes());
        hash.update(bytes(&tensor)?);
    }
    Ok(hex(&hash.finalize()))
}

/// A hash of a whole file.
fn file(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = std::fs::File::open(path).map_err(|e| heterodyne_nn::Error::file(path, e))?;
    std::io::copy(&mut file, &mut hash).map_err(|e| heterodyne_nn::Error::file(path, e))?;
    Ok(hex(&hash.finalize()))
}

/// A tensor's bytes in order.
pub(crate) fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.detach().f_to(Device::Cpu)?.f_contiguous()?.f_flatten(0, -1)?.f_view_dtype(Kind::Uint8)?;
    let mut bytes = vec![0; flat.numel()];
    let length = bytes.len();
    flat.f_copy_data_u8(&mut bytes, length)?;
    Ok(bytes)
}

/// A hash of the training images: position and label of each, pixels of some.
fn content(loader: &TrainLoader) -> Result<String> {
    let (indices, dataset) = (loader.indices(), loader.dataset());
    let mut hash = Sha256::new();
    for &index in indices {
        hash.update((index as u64).to_le_bytes());
        hash.update((dataset.label(index) as u64).to_le_bytes());
    }
    for &index in indices.iter().step_by(indices.len().div_ceil(SAMPLED).max(1)) {
        let image = dataset.image(index)?;
        hash.update(image.width.to_le_bytes());
        hash.update(&image.rgb);
    }
    Ok(hex(&hash.finalize()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
