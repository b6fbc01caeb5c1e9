//! Translates the `preprocessor_config.json` of a ViT or DeiT of Hugging Face's transformers into timm's terms.
//!
//! `size` and `do_resize`, `crop_size` and `do_center_crop`, `resample` (Pillow's number), `do_rescale`, `image_mean`
//! and `image_std` are honoured, or refused by name if no evaluation here does the same. Missing keys have the defaults
//! of the processor class that the file names (transformers 5.24).
use heterodyne_nn::{CropMode, InputSpec, Interpolation, PartialInput};
use serde_json::{Map, Value};

/// The defaults of a processor class for keys that its file lacks.
struct Defaults {
    size: i64,
    crop: Option<i64>,
    resample: Interpolation,
}

/// Default mean and standard deviation of all classes: colours are mapped to -1..1.
const CENTRED: [f64; 3] = [0.5; 3];

/// Reads the description of the images of a network for `img` pixels.
///
/// # Errors
/// A key has an unsupported value; the message names the key.
pub(crate) fn read(json: &Map<String, Value>, img: i64) -> Result<PartialInput, String> {
    let given = |key: &str| json.get(key).filter(|v| !v.is_null());
    let defaults = defaults(given("image_processor_type").or_else(|| given("feature_extractor_type")))?;
    let flag = |key: &str, default: bool| match given(key) {
        None => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(format!("`{key}` is {other}; expected true or false")),
    };
    if !flag("do_resize", true)? {
        return Err("`do_resize` is false, but images are always resized to the network's input here".to_owned());
    }
    let rescale = given("rescale_factor").map_or(Some(1.0 / 255.0), Value::as_f64);
    if !flag("do_rescale", true)? || rescale.is_none_or(|factor| (factor * 255.0 - 1.0).abs() > 1e-6) {
        return Err("`do_rescale` and `rescale_factor` do not map pixels from 0..255 to 0..1, as is always done here"
            .to_owned());
    }
    if let Some(other) = given("crop_pct") {
        return Err(format!("`crop_pct` is {other}: the processors of ViT and DeiT have no such key"));
    }
    let (crop_mode, resized) = given("size").map_or(Ok((CropMode::Squash, defaults.size)), size)?;
    let crops = flag("do_center_crop", defaults.crop.is_some())? && defaults.crop.is_some();
    let side = match (crops, given("crop_size"), defaults.crop) {
        (false, ..) if crop_mode == CropMode::Center => {
            return Err(format!(
                "`size` resizes the shorter side to {resized}, and nothing is cropped: the images would not be square"
            ));
        }
        (false, ..) => resized,
        (true, Some(value), _) => match size(value)? {
            (CropMode::Squash, side) => side,
            _ => return Err(format!("`crop_size` is {value}; expected equal height and width")),
        },
        (true, None, default) => default.unwrap_or(resized),
    };
    if side > resized {
        return Err(format!("`crop_size` is {side}, but `size` is {resized}: the crop would have a border"));
    }
    if side != img {
        return Err(format!(
            "`{}` makes images of {side} px, but config.json has `image_size` = {img}",
            if crops { "crop_size" } else { "size" }
        ));
    }
    let (mean, std) = if flag("do_normalize", true)? {
        (three(given("image_mean"), "image_mean")?, three(given("image_std"), "image_std")?)
    } else {
        ([0.0; 3], [1.0; 3])
    };
    let interpolation = given("resample").map_or(Ok(defaults.resample), filter)?;
    let spec = InputSpec { img, mean, std, crop_pct: share(side, resized), crop_mode, interpolation };
    Ok(spec.into())
}

fn defaults(class: Option<&Value>) -> Result<Defaults, String> {
    let name = class.and_then(Value::as_str).unwrap_or("ViTImageProcessor");
    let kind = ["ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor"]
        .iter()
        .find_map(|end| name.strip_suffix(end));
    match kind {
        Some("ViT") => Ok(Defaults { size: 224, crop: None, resample: Interpolation::Bilinear }),
        Some("DeiT") => Ok(Defaults { size: 256, crop: Some(224), resample: Interpolation::Bicubic }),
        _ => Err(format!("the image processor `{name}` is not supported; only those of ViT and DeiT are")),
    }
}

/// A length and its side: one number, or equal height and width, for both sides; `shortest_edge` for the shorter.
fn size(value: &Value) -> Result<(CropMode, i64), String> {
    let whole = |v: &Value| v.as_i64().filter(|n| *n > 0);
    let found = match value {
        Value::Number(_) => whole(value).map(|n| (CropMode::Squash, n)),
        Value::Array(sides) => match &sides[..] {
            [h, w] if h == w => whole(h).map(|n| (CropMode::Squash, n)),
            _ => None,
        },
        Value::Object(sides) => match (sides.get("height"), sides.get("width"), sides.get("shortest_edge")) {
            (Some(h), Some(w), None) if h == w => whole(h).map(|n| (CropMode::Squash, n)),
            (None, None, Some(edge)) => whole(edge).map(|n| (CropMode::Center, n)),
            _ => None,
        },
        _ => None,
    };
    found.ok_or_else(|| format!("a size is {value}; expected equal height and width, or `shortest_edge`"))
}

/// The filter with Pillow's number `value`.
fn filter(value: &Value) -> Result<Interpolation, String> {
    match value.as_i64() {
        Some(0) => Ok(Interpolation::Nearest),
        Some(1) => Ok(Interpolation::Lanczos),
        Some(2) => Ok(Interpolation::Bilinear),
        Some(3) => Ok(Interpolation::Bicubic),
        Some(4) => Ok(Interpolation::Box),
        Some(5) => Ok(Interpolation::Hamming),
        _ => Err(format!("`resample` is {value}; expected the number of a Pillow filter, 0 to 5")),
    }
}

fn three(value: Option<&Value>, key: &str) -> Result<[f64; 3], String> {
    value.map_or(Ok(CENTRED), |v| serde_json::from_value(v.clone()).map_err(|e| format!("`{key}` is {v}: {e}")))
}

/// timm's `crop_pct` for a crop of `side` from `resized`: the largest share for which floor(side / share) is `resized`.
fn share(side: i64, resized: i64) -> f64 {
    let mut share = side as f64 / resized as f64;
    while (side as f64 / share).floor() < resized as f64 {
        share = share.next_down();
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, img: i64) -> Result<PartialInput, String> {
        read(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap(), img)
    }

    #[test]
    fn every_crop_is_exact() {
        for resized in 1..600 {
            for side in 1..=resized {
                assert_eq!(
                    InputSpec { crop_pct: share(side, resized), ..InputSpec::whole(side, CENTRED, CENTRED) }.resized(),
                    resized
                );
            }
        }
    }

    #[test]
    fn what_a_processor_does_is_said_in_timms_words() {
        let vit = of(
            r#"{"image_processor_type": "ViTImageProcessor", "size": {"height": 384, "width": 384}, "resample": 3}"#,
            384,
        )
        .unwrap();
        let whole = InputSpec { crop_mode: CropMode::Squash, ..InputSpec::whole(384, CENTRED, CENTRED) };
        assert_eq!(vit, whole.into());
        let old =
            of(r#"{"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "image_mean": [0.1, 0.2, 0.3]}"#, 224)
                .unwrap();
        assert_eq!(
            (old.mean, old.interpolation, old.img),
            (Some([0.1, 0.2, 0.3]), Some(Interpolation::Bilinear), Some(224))
        );
        let deit = of(r#"{"image_processor_type": "DeiTImageProcessorFast"}"#, 224).unwrap();
        assert_eq!(
            (deit.crop_pct, deit.crop_mode, deit.interpolation),
            (Some(0.875), Some(CropMode::Squash), Some(Interpolation::Bicubic))
        );
        let short = of(
            r#"{"feature_extractor_type": "DeiTFeatureExtractor", "size": {"shortest_edge": 248}, "crop_size": 224}"#,
            224,
        )
        .unwrap();
        assert_eq!((short.crop_pct, short.crop_mode), (Some(share(224, 248)), Some(CropMode::Center)));
        let raw = of(r#"{"do_normalize": false}"#, 224).unwrap();
        assert_eq!((raw.mean, raw.std), (Some([0.0; 3]), Some([1.0; 3])));
        // ViT's processor never crops, whatever the file says.
        assert_eq!(of(r#"{"do_center_crop": true, "crop_size": 200}"#, 224).unwrap().crop_pct, Some(1.0));
    }

    #[test]
    fn what_is_not_done_here_is_refused_by_name() {
        for (text, key) in [
            (r#"{"do_resize": false}"#, "do_resize"),
            (r#"{"do_rescale": false}"#, "do_rescale"),
            (r#"{"rescale_factor": 0.00784313725490196}"#, "rescale_factor"),
            (r#"{"size": {"longest_edge": 224}}"#, "size"),
            (r#"{"size": {"height": 224, "width": 200}}"#, "size"),
            (r#"{"size": {"shortest_edge": 224}}"#, "square"),
            (r#"{"size": 384}"#, "image_size"),
            (r#"{"size": -1}"#, "size"),
            (r#"{"resample": 9}"#, "resample"),
            (r#"{"crop_pct": 0.9}"#, "crop_pct"),
            (r#"{"image_mean": [0.5]}"#, "image_mean"),
            (r#"{"do_normalize": 1}"#, "do_normalize"),
            (r#"{"image_processor_type": "CLIPImageProcessor"}"#, "CLIPImageProcessor"),
            (r#"{"image_processor_type": "DeiTImageProcessor", "crop_size": 300}"#, "border"),
            (r#"{"image_processor_type": "DeiTImageProcessor", "crop_size": {"shortest_edge": 224}}"#, "crop_size"),
        ] {
            let e = of(text, 224).unwrap_err();
            assert!(e.contains(key), "{text}: {e}");
        }
    }
}
