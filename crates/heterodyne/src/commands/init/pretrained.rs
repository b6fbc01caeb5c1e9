//! Pretrained weights that are on this machine, and the names of those that are not. Nothing is downloaded here.
use std::path::Path;

use anyhow::{Result, bail};
use heterodyne_hub::Settings;
use heterodyne_models::ModelDef;
use heterodyne_train::network::Weights;

/// timm 1.0.31's default weights: a model's name and the tag.
const TAGS: [(&str, &str); 25] = [
    ("resnet18", "a1_in1k"),
    ("resnet34", "a1_in1k"),
    ("resnet50", "a1_in1k"),
    ("resnet101", "a1h_in1k"),
    ("mobilenetv1_100", "ra4_e3600_r224_in1k"),
    ("mobilenetv2_100", "ra_in1k"),
    ("efficientnet_b0", "ra_in1k"),
    ("convnext_tiny", "in12k_ft_in1k"),
    ("convnext_small", "in12k_ft_in1k"),
    ("convnext_base", "fb_in22k_ft_in1k"),
    ("vit_tiny_patch16_224", "augreg_in21k_ft_in1k"),
    ("vit_small_patch16_224", "augreg_in21k_ft_in1k"),
    ("vit_base_patch16_224", "augreg2_in21k_ft_in1k"),
    ("deit_tiny_patch16_224", "fb_in1k"),
    ("deit_small_patch16_224", "fb_in1k"),
    ("deit_base_patch16_224", "fb_in1k"),
    ("deit_tiny_distilled_patch16_224", "fb_in1k"),
    ("deit_small_distilled_patch16_224", "fb_in1k"),
    ("deit_base_distilled_patch16_224", "fb_in1k"),
    ("swin_tiny_patch4_window7_224", "ms_in1k"),
    ("swin_small_patch4_window7_224", "ms_in22k_ft_in1k"),
    ("swin_base_patch4_window7_224", "ms_in22k_ft_in1k"),
    ("mixer_b16_224", "goog_in21k_ft_in1k"),
    ("resmlp_12_224", "fb_in1k"),
    ("resmlp_24_224", "fb_in1k"),
];

/// The weights that the user gave, as `written` puts them into a recipe.
///
/// # Errors
/// The file cannot be read, or holds weights of another model.
pub fn given(def: &'static ModelDef, file: &Path, written: impl Fn(&Path) -> Result<String>) -> Result<String> {
    let name = file.display().to_string();
    if heterodyne_hub::is_name(&name) {
        // Not read: that could start a download.
        name.parse::<heterodyne_hub::Name>()?;
        return Ok(name);
    }
    let weights = Weights::read(file.into())?;
    if weights.classes(def, &toml::Table::new())?.is_none() && weights.model().is_none_or(|model| model != def.name) {
        bail!("{name}: has no classifier `{}`, so it is not known to be {}", def.head, def.name);
    }
    written(file)
}

/// The name on the Hub of weights of `model` that are in the cache, with their commit: reading them sends no request.
pub fn cached(model: &str) -> Option<String> {
    let settings = Settings::from_env().ok()?;
    let mut found = heterodyne_hub::cached(&settings, &format!("timm/{model}."));
    let default = on_hub(model);
    // timm's default before others.
    found.sort_by_key(|name| default.as_ref().is_none_or(|default| !name.to_string().starts_with(default.as_str())));
    found.first().map(ToString::to_string)
}

/// The name on the Hub of timm's default weights of `model`.
pub fn on_hub(model: &str) -> Option<String> {
    let (_, tag) = TAGS.iter().find(|(name, _)| *name == model)?;
    Some(format!("hf-hub:timm/{model}.{tag}"))
}
