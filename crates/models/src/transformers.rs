//! Converts the `config.json` of a ViT or DeiT from Hugging Face's transformers to a model of this registry and its
//! options.
//!
//! Every key that `ViTModel` or `DeiTModel` reads (transformers 5.24) is either honoured or rejected by name. All other
//! keys are ignored, as in transformers.
use heterodyne_nn::{Error, Result};
use serde_json::{Map, Value};

use crate::{ModelDef, find};

/// A network as transformers describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The registry model to build with `options`.
    pub model: &'static str,
    /// All sizes of the network.
    pub options: toml::Table,
    /// Side of its images in pixels.
    pub img: i64,
    /// Class names in the order of the classifier; empty if the classes are only numbered.
    pub class_names: Vec<String>,
    /// Number of classes, if the file states it.
    pub classes: Option<i64>,
    distilled: bool,
}

/// A size, or its default.
fn size(json: &Map<String, Value>, key: &str, default: i64) -> Result<i64> {
    let refuse = |v: &Value| Error::invalid(format!("`{key}` is {v}, expected a whole number above 0"));
    match json.get(key).filter(|v| !v.is_null()) {
        None => Ok(default),
        Some(v) => side(v).ok_or_else(|| refuse(v)),
    }
}

/// Refuses a value that is not one of `values`.
fn only(json: &Map<String, Value>, key: &str, values: &[Value], default: &Value) -> Result<()> {
    let value = json.get(key).unwrap_or(default);
    if values.contains(value) {
        return Ok(());
    }
    let can = values[0].to_string();
    Err(Error::invalid(format!(
        "`{key}` is {value}, but only {can} is supported; package the network instead (teacher.package)"
    )))
}

impl Described {
    /// Reads a description; `None` if it is not from transformers.
    ///
    /// # Errors
    /// The network is not supported here; the message names the key.
    pub fn of(json: &Map<String, Value>) -> Result<Option<Self>> {
        let Some(kind) = json.get("model_type").and_then(Value::as_str) else { return Ok(None) };
        let distilled = match kind {
            "vit" => false,
            "deit" => true,
            other => {
                return Err(Error::invalid(format!(
                    "`model_type` is \"{other}\", but only transformers' vit and deit are supported; package the \
                     network instead (teacher.package)"
                )));
            }
        };
        let size = |key: &str, default: i64| size(json, key, default);
        let only = |key: &str, values: &[Value], default: &Value| only(json, key, values, default);
        let (dim, depth, heads) =
            (size("hidden_size", 768)?, size("num_hidden_layers", 12)?, size("num_attention_heads", 12)?);
        let (patch, img) = (size("patch_size", 16)?, size("image_size", 224)?);
        let hidden = size("intermediate_size", 3072)?;
        if dim.checked_mul(4) != Some(hidden) {
            return Err(Error::invalid(format!(
                "`intermediate_size` is {hidden}, but only four times `hidden_size` ({dim}) is supported"
            )));
        }
        // Both names mean the exact GELU in transformers.
        only("hidden_act", &["gelu".into(), "gelu_python".into()], &"gelu".into())?;
        only("num_channels", &[3.into()], &3.into())?;
        only("qkv_bias", &[true.into()], &true.into())?;
        let eps = json.get("layer_norm_eps").unwrap_or(&Value::Null);
        let eps = if eps.is_null() { Some(1e-12) } else { eps.as_f64() };
        let eps =
            eps.ok_or_else(|| Error::invalid(format!("`layer_norm_eps` is {}, not a number", json["layer_norm_eps"])))?;

        let mut options = toml::Table::new();
        for (name, value) in [("patch", patch), ("dim", dim), ("depth", depth), ("heads", heads)] {
            options.insert(name.to_owned(), toml::Value::Integer(value));
        }
        options.insert("norm_eps".to_owned(), toml::Value::Float(eps));
        let class =
            json.get("architectures").and_then(|names| names.get(0)).and_then(Value::as_str).unwrap_or_default();
        if distilled && class == "DeiTForImageClassification" {
            options.insert("dist_head".to_owned(), toml::Value::Boolean(false));
        }
        let (class_names, classes) = labels(json)?;
        let model = match (distilled, dim) {
            (false, 384) => "vit_small_patch16_224",
            (false, 768) => "vit_base_patch16_224",
            (false, _) => "vit_tiny_patch16_224",
            (true, 384) => "deit_small_distilled_patch16_224",
            (true, 768) => "deit_base_distilled_patch16_224",
            (true, _) => "deit_tiny_distilled_patch16_224",
        };
        let described = Self { model, options, img, class_names, classes, distilled };
        described.options(find(model)?)?;
        Ok(Some(described))
    }

    /// The options with which `def` is this network.
    ///
    /// # Errors
    /// `def` is another kind of network, or rejects the options.
    pub fn options(&self, def: &ModelDef) -> Result<toml::Table> {
        if def.family != "vit" || def.name.contains("distilled") != self.distilled {
            let token = if self.distilled { "with" } else { "without" };
            return Err(Error::invalid(format!(
                "describes a vision transformer {token} a distillation token ({}), not {}",
                self.model, def.name
            )));
        }
        (def.check_options)(&self.options)
            .map_err(|e| Error::invalid(format!("invalid options for {}: {e}", def.name)))?;
        Ok(self.options.clone())
    }
}

/// Reads a whole number above 0, or a pair of equal ones.
fn side(value: &Value) -> Option<i64> {
    let value = match value.as_array().map(Vec::as_slice) {
        Some([h, w]) => (h == w).then_some(h)?,
        Some(_) => return None,
        None => value,
    };
    value.as_i64().filter(|n| *n > 0)
}

/// The names of the classes and their number.
fn labels(json: &Map<String, Value>) -> Result<(Vec<String>, Option<i64>)> {
    let stated = json.get("num_labels").and_then(Value::as_i64);
    let Some(labels) = json.get("id2label").filter(|v| !v.is_null()) else { return Ok((Vec::new(), stated)) };
    let broken = || Error::invalid("`id2label` is not a table with a name for each number from 0 on".to_owned());
    let labels = labels.as_object().ok_or_else(broken)?;
    let name = |i: usize| labels.get(&i.to_string()).and_then(Value::as_str).map(str::to_owned).ok_or_else(broken);
    let names: Vec<String> = (0..labels.len()).map(name).collect::<Result<_>>()?;
    let count = names.len() as i64;
    if let Some(other) = stated.filter(|stated| *stated != count) {
        return Err(Error::invalid(format!("`num_labels` is {other}, but `id2label` names {count} classes")));
    }
    // The names that transformers writes by default.
    let numbered = names.iter().enumerate().all(|(i, name)| *name == format!("LABEL_{i}"));
    Ok((if numbered { Vec::new() } else { names }, Some(count)))
}
