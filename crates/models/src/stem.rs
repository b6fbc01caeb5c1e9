//! The option that conv nets for ImageNet share: what stands before their first block.
use heterodyne_nn::Result;
use heterodyne_settings::{KeyError, parse};
use serde::Deserialize;

use crate::{Request, Timm, refused};

/// What stands before the first block.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// As published, for images of about 224 px.
    #[default]
    Imagenet,
    /// Without strides, for images of about 32 px.
    Cifar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    stem: Stem,
}

/// Refuses unknown keys and values.
pub fn check(table: &toml::Table) -> Result<(), KeyError> {
    parse::<Options>(table).map(drop)
}

/// The stem that a request asks for.
pub fn of(request: &Request) -> Result<Stem> {
    Ok(parse::<Options>(request.options).map_err(refused)?.stem)
}

/// timm has the published stem only.
pub fn timm(request: &Request) -> Option<Timm> {
    (of(request).ok()? == Stem::Imagenet).then(|| Timm::plain(request.def.name))
}
