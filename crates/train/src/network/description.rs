//! Descriptions stored next to weights: timm's `config.json`, or that of Hugging Face's transformers with its
//! `preprocessor_config.json`.
use std::path::Path;

use heterodyne_models::{ModelDef, described, transformers::Described};
use heterodyne_nn::PartialInput;
use heterodyne_pickle::Content;
use serde_json::{Map, Value};

use super::processor;
use crate::{Error, Result};

/// File names.
const CONFIG: &str = "config.json";
const PROCESSOR: &str = "preprocessor_config.json";

/// A parsed description.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Description {
    /// The file's path, for messages.
    path: String,
    network: Architecture,
    /// The evaluation transform.
    pub input: PartialInput,
    /// Class names in the classifier's order.
    pub class_names: Vec<String>,
    /// Number of classes of the classifier.
    classes: Option<i64>,
    /// Number of features that the classifier reads.
    features: Option<i64>,
    /// timm's tag of the weights, for example `a1_in1k`.
    pub tag: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Architecture {
    /// timm's model name and the arguments to build it.
    Timm(String, Map<String, Value>),
    Transformers(Described),
}

impl Description {
    /// The description of the weights in `folder`; `None` without a `config.json`.
    ///
    /// # Errors
    /// It cannot be read, is neither timm's nor transformers', or states something unsupported.
    pub fn in_folder(folder: &Path) -> Result<Option<Self>> {
        let config = folder.join(CONFIG);
        if !config.exists() {
            return Ok(None);
        }
        let processor = folder.join(PROCESSOR);
        Self::read(&config, Some(processor.as_path()).filter(|path| path.exists())).map(Some)
    }

    /// Reads a description and, if it is transformers', that of its images.
    ///
    /// # Errors
    /// As [`Description::in_folder`].
    pub fn read(path: &Path, images: Option<&Path>) -> Result<Self> {
        let wrong = |what: String| Error::Plan(format!("{}: {what}", path.display()));
        let json = object(path)?;
        if json.contains_key("architecture") {
            return Self::timm(path, &json).map_err(wrong);
        }
        let Some(described) = Described::of(&json).map_err(|e| wrong(e.to_string()))? else {
            return Err(wrong("has neither an `architecture` (timm) nor a `model_type` (transformers)".to_owned()));
        };
        let input = match images {
            None => PartialInput { img: Some(described.img), ..PartialInput::default() },
            Some(file) => processor::read(&object(file)?, described.img)
                .map_err(|what| Error::Plan(format!("{}: {what}", file.display())))?,
        };
        Ok(Self {
            path: path.display().to_string(),
            input,
            class_names: described.class_names.clone(),
            classes: described.classes,
            features: None,
            tag: None,
            network: Architecture::Transformers(described),
        })
    }

    /// Reads the format of `timm.models.push_to_hf_hub`. Older files have the description of the input at the top level
    /// instead of in `pretrained_cfg`.
    fn timm(path: &Path, json: &Map<String, Value>) -> Result<Self, String> {
        let architecture =
            json.get("architecture").and_then(Value::as_str).ok_or("`architecture` is not a string")?.to_owned();
        let of = |key: &str| {
            json.get("pretrained_cfg").and_then(|cfg| cfg.get(key)).or_else(|| json.get(key)).filter(|v| !v.is_null())
        };
        let mut args = match json.get("model_args").filter(|args| !args.is_null()) {
            None => Map::new(),
            Some(Value::Object(args)) => args.clone(),
            Some(other) => return Err(format!("`model_args` is {other}, not a table of arguments")),
        };
        if let Some(pool) = of("global_pool") {
            args.entry("global_pool").or_insert_with(|| pool.clone());
        }
        let built_for = args.get("img_size").and_then(|v| v.as_i64().or_else(|| v.get(0)?.as_i64()));
        let side = value::<[i64; 3]>(of("input_size"), "input_size").and_then(square)?;
        let input = PartialInput {
            img: built_for.or(side),
            mean: value(of("mean"), "mean")?,
            std: value(of("std"), "std")?,
            crop_pct: value(of("crop_pct"), "crop_pct")?,
            crop_mode: value(of("crop_mode"), "crop_mode")?,
            interpolation: value(of("interpolation"), "interpolation")?,
        };
        // The values in `pretrained_cfg` are those of the weights that these were trained from.
        let own = |key: &str| value::<i64>(json.get(key).filter(|v| !v.is_null()), key);
        let (_, tagged) =
            architecture.split_once('.').map_or((architecture.as_str(), None), |(name, tag)| (name, Some(tag)));
        let tag = of("tag").and_then(Value::as_str).or(tagged).filter(|tag| !tag.is_empty()).map(str::to_owned);
        Ok(Self {
            path: path.display().to_string(),
            input,
            class_names: value(of("label_names"), "label_names")?.unwrap_or_default(),
            classes: own("num_classes")?.filter(|classes| *classes > 0),
            features: own("num_features")?,
            tag,
            network: Architecture::Timm(architecture, args),
        })
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        match &self.network {
            Architecture::Timm(architecture, _) => architecture,
            Architecture::Transformers(described) => described.model,
        }
    }

    /// The options that turn `def` into the described network.
    ///
    /// # Errors
    /// The description states something that `def` does not support; the message names it.
    pub fn options(&self, def: &ModelDef) -> Result<toml::Table> {
        let options = match &self.network {
            Architecture::Timm(_, args) => described::options(def, args),
            Architecture::Transformers(described) => described.options(def),
        };
        options.map_err(|e| Error::Plan(format!("{}: {e}", self.path)))
    }

    /// Records that the classifier's rows are now those of `names`.
    pub fn reorder(&mut self, names: &[String]) {
        self.class_names = names.to_vec();
        self.classes = self.classes.map(|_| names.len() as i64);
    }

    /// Refuses a classifier (C,D) in `weights` that does not match the description.
    ///
    /// # Errors
    /// The number of classes or of features differs.
    pub fn check_classifier(&self, weights: &str, classes: i64, features: Option<i64>) -> Result<()> {
        let differs = |key: &str, stated: Option<i64>, found: Option<i64>| match (stated, found) {
            (Some(stated), Some(found)) if stated != found => Err(Error::Plan(format!(
                "{} has `{key}` = {stated}, but the classifier of {weights} has {found}: they do not belong together",
                self.path
            ))),
            _ => Ok(()),
        };
        let key = if matches!(self.network, Architecture::Timm(..)) { "num_classes" } else { "id2label" };
        differs(key, self.classes, Some(classes))?;
        differs("num_features", self.features, features)
    }
}

/// Reads a file with a JSON object.
fn object(path: &Path) -> Result<Map<String, Value>> {
    let wrong = |what: String| Error::Plan(format!("{}: {what}", path.display()));
    match Content::of(path).map_err(|e| Error::Plan(e.to_string()))? {
        Content::Json(_) => {}
        Content::Foreign(what) => return Err(wrong(format!("is {what}"))),
        other => return Err(wrong(format!("is {other}; expected JSON"))),
    }
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))
}

/// Parses an optional value of the description.
fn value<T: serde::de::DeserializeOwned>(value: Option<&Value>, key: &str) -> Result<Option<T>, String> {
    value.map(|v| serde_json::from_value(v.clone()).map_err(|e| format!("`{key}` is {v}: {e}"))).transpose()
}

/// The side of a square input with three channels.
fn square(size: Option<[i64; 3]>) -> Result<Option<i64>, String> {
    match size {
        None => Ok(None),
        Some([3, h, w]) if h == w => Ok(Some(h)),
        Some(other) => Err(format!(
            "`input_size` is {other:?}; expected a square input with three channels, for example [3, 224, 224]"
        )),
    }
}
