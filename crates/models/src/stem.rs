//! The option that conv nets for ImageNet share: the layers before their first block.
use heterodyne_nn::Result;
use heterodyne_settings::{Settings, settings};
use serde::{Deserialize, Serialize};

use crate::{Request, Timm, refused};

/// What is before the first block.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// As published, for images of about 224 px.
    #[default]
    Imagenet,
    /// Without strides, for images of about 32 px.
    Cifar,
}

settings! {
    /// Options of a ResNet.
    pub struct Options {
        /// `imagenet` takes a quarter of the image's side before the first block; `cifar` keeps it, for images of about
        /// 32 px.
        stem: Stem = Stem::Imagenet, Plain;
    }
}

/// The requested stem.
pub fn of(request: &Request) -> Result<Stem> {
    Ok(Options::read(request.options).map_err(refused)?.stem)
}

/// timm has only the published stem.
pub fn timm(request: &Request) -> Option<Timm> {
    (of(request).ok()? == Stem::Imagenet).then(|| Timm::plain(request.def.name))
}
