//! What the `config.json` of Hugging Face's transformers says of a ViT or a DeiT, as a model of this registry with its
//! options.
//!
//! Every key that `ViTModel` or `DeiTModel` reads (transformers 5.24) is honoured or refused by name; the others, of
//! which a file has many, are passed over as they are there.
use heterodyne_nn::{Error, Result};
use serde_json::{Map, Value};

use crate::{ModelDef, find};

/// A network as transformers describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The model whose options make it.
    pub model: &'static str,
    /// All its sizes.
    pub options: toml::Table,
    /// Side of its images in pixels.
    pub img: i64,
    /// Its classes in the order of the classifier; empty where they are only numbered.
    pub class_names: Vec<String>,
    /// How many classes it has, where that is said.
    pub classes: Option<i64>,
    distilled: bool,
}

impl Described {
    /// Reads a description; `None` where it is none of transformers.
    ///
    /// # Errors
    /// The network is none that is had here; the message names the key.
    pub fn of(json: &Map<String, Value>) -> Result<Option<Self>> {
        let Some(kind) = json.get("model_type").and_then(Value::as_str) else { return Ok(None) };
        let distilled = match kind {
            "vit" => false,
            "deit" => true,
            other => {
                return Err(Error::invalid(format!(
                    "`model_type` is \"{other}\": of transformers' networks vit and deit are read; package others \
                     (teacher.package)"
                )));
            }
        };
        let size = |key: &str, default: i64| {
            let refuse = |v: &Value| Error::invalid(format!("`{key}` is {v}; one whole number above 0 is expected"));
            match json.get(key).filter(|v| !v.is_null()) {
                None => Ok(default),
                Some(v) => side(v).ok_or_else(|| refuse(v)),
            }
        };
        let only = |key: &str, values: &[Value], default: &Value| {
            let value = json.get(key).unwrap_or(default);
            if values.contains(value) {
                return Ok(());
            }
            let can = values[0].to_string();
            Err(Error::invalid(format!(
                "`{key}` is {value}: the networks here have {can} only; package this one instead (teacher.package)"
            )))
        };
        let (dim, depth, heads) =
            (size("hidden_size", 768)?, size("num_hidden_layers", 12)?, size("num_attention_heads", 12)?);
        let (patch, img) = (size("patch_size", 16)?, size("image_size", 224)?);
        let hidden = size("intermediate_size", 3072)?;
        if dim.checked_mul(4) != Some(hidden) {
            return Err(Error::invalid(format!(
                "`intermediate_size` is {hidden}: the networks here have four times `hidden_size` ({dim}) only"
            )));
        }
        // Both are the exact one there.
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

    /// The options that make `def` this network.
    ///
    /// # Errors
    /// `def` is of another kind, or refuses them.
    pub fn options(&self, def: &ModelDef) -> Result<toml::Table> {
        if def.family != "vit" || def.name.contains("distilled") != self.distilled {
            let token = if self.distilled { "with" } else { "without" };
            return Err(Error::invalid(format!(
                "describes a vision transformer {token} a distillation token, {}, and not {}",
                self.model, def.name
            )));
        }
        (def.check_options)(&self.options).map_err(|e| Error::invalid(format!("as options of {}: {e}", def.name)))?;
        Ok(self.options.clone())
    }
}

/// A whole number above 0, or two equal ones.
fn side(value: &Value) -> Option<i64> {
    let value = match value.as_array().map(Vec::as_slice) {
        Some([h, w]) => (h == w).then_some(h)?,
        Some(_) => return None,
        None => value,
    };
    value.as_i64().filter(|n| *n > 0)
}

/// The names of the classes, and their number.
fn labels(json: &Map<String, Value>) -> Result<(Vec<String>, Option<i64>)> {
    let stated = json.get("num_labels").and_then(Value::as_i64);
    let Some(labels) = json.get("id2label").filter(|v| !v.is_null()) else { return Ok((Vec::new(), stated)) };
    let broken = || Error::invalid("`id2label` is not a table of the numbers from 0 on and a name for each".to_owned());
    let labels = labels.as_object().ok_or_else(broken)?;
    let name = |i: usize| labels.get(&i.to_string()).and_then(Value::as_str).map(str::to_owned).ok_or_else(broken);
    let names: Vec<String> = (0..labels.len()).map(name).collect::<Result<_>>()?;
    let count = names.len() as i64;
    if let Some(other) = stated.filter(|stated| *stated != count) {
        return Err(Error::invalid(format!("`num_labels` is {other}, and `id2label` names {count}")));
    }
    // What transformers writes where nobody has named them.
    let numbered = names.iter().enumerate().all(|(i, name)| *name == format!("LABEL_{i}"));
    Ok((if numbered { Vec::new() } else { names }, Some(count)))
}
