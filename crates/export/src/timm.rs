//! The `config.json` of a folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` loads (timm 1.0,
//! `timm/models/_hub.py`, `load_model_config_from_path`).
use heterodyne_models::{Request, Timm};
use heterodyne_nn::{Error, Result};
use serde_json::{Map, Value, json};

use crate::Subject;

/// timm's name for the network and the file's text; `None` if timm does not have the network.
pub fn config(subject: &Subject) -> Result<Option<(&'static str, String)>> {
    let Subject { model, options, input, class_names, .. } = subject;
    let (def, taps) = (model.def, model.net.taps());
    let Some(Timm { architecture, args }) =
        (def.timm)(&Request { def, classes: taps.classes, img: model.img, options })
    else {
        return Ok(None);
    };
    let entries = model.store.entries();
    // The layers that timm replaces for another number of channels or classes.
    let first_conv =
        entries.iter().find(|(_, t, _)| t.dim() == 4).map(|(name, ..)| name.trim_end_matches(".weight").to_owned());
    let distillation = format!("{}_dist", def.head);
    let classifier = if entries.iter().any(|(name, ..)| name.starts_with(&format!("{distillation}."))) {
        json!([def.head, distillation])
    } else {
        json!(def.head)
    };
    let mut config = Map::new();
    config.insert("architecture".to_owned(), json!(architecture));
    config.insert("num_classes".to_owned(), json!(taps.classes));
    config.insert("num_features".to_owned(), json!(taps.embedding));
    if !class_names.is_empty() {
        config.insert("label_names".to_owned(), json!(class_names));
    }
    if !args.is_empty() {
        config.insert("model_args".to_owned(), Value::Object(args.clone()));
    }
    let pretrained = json!({
        "custom_load": false,
        "input_size": [3, model.img, model.img],
        "fixed_input_size": args.contains_key("img_size"),
        "interpolation": input.interpolation,
        "crop_pct": input.crop_pct,
        "crop_mode": input.crop_mode,
        "mean": input.mean,
        "std": input.std,
        "num_classes": taps.classes,
        "pool_size": null,
        "first_conv": first_conv,
        "classifier": classifier,
    });
    config.insert("pretrained_cfg".to_owned(), pretrained);
    let text = serde_json::to_string_pretty(&config).map_err(|e| Error::invalid(format!("{}: {e}", crate::CONFIG)))?;
    Ok(Some((architecture, text + "\n")))
}
