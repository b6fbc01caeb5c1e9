//! Converts timm's `model_args` to options of the family. Every argument that changes the numbers is either honoured or
//! rejected by name; arguments that only matter in training are ignored.
use heterodyne_nn::{Error, Result};
use serde_json::{Map, Value};

use crate::ModelDef;

/// What a timm argument means for a family.
enum Rule {
    /// The option of this name.
    Option(&'static str),
    /// Sizes that double from one to the next; the first is the option of this name.
    Doubling(&'static str),
    /// The network supports only these values, in JSON.
    Only(&'static [&'static str]),
    /// The network's fixed numbers of blocks.
    Depths,
}
use Rule::{Depths, Doubling, Only, Option as Is};

/// Arguments that do not change an evaluation, or that are set elsewhere (classes, size).
const HARMLESS: [&str; 19] = [
    "drop_rate",
    "drop_path_rate",
    "drop_block_rate",
    "weight_init",
    "fix_init",
    "zero_init_last",
    "head_init_scale",
    "ls_init_value",
    "nlhb",
    "bn_momentum",
    "pretrained_strict",
    "scriptable",
    "exportable",
    "num_classes",
    "img_size",
    "dynamic_img_size",
    "strict_img_size",
    "device",
    "dtype",
];
const DROPS: &str = "_drop_rate";

const COLOUR: (&str, Rule) = ("in_chans", Only(&["3"]));
const MEAN: (&str, Rule) = ("global_pool", Only(&["\"avg\""]));
const STRIDE: (&str, Rule) = ("output_stride", Only(&["32"]));
const BATCH_NORM: (&str, Rule) = ("norm_layer", Only(&["\"batchnorm\"", "\"batchnorm2d\""]));
const GELU: (&str, Rule) = ("act_layer", Only(&["\"gelu\""]));

const VIT: &[(&str, Rule)] = &[
    COLOUR,
    GELU,
    ("patch_size", Is("patch")),
    ("embed_dim", Is("dim")),
    ("depth", Is("depth")),
    ("num_heads", Is("heads")),
    ("global_pool", Is("pool")),
    ("fc_norm", Is("fc_norm")),
    ("mlp_ratio", Only(&["4"])),
    ("qkv_bias", Only(&["true"])),
    ("qk_norm", Only(&["false"])),
    ("scale_attn_norm", Only(&["false"])),
    ("scale_mlp_norm", Only(&["false"])),
    ("proj_bias", Only(&["true"])),
    ("class_token", Only(&["true"])),
    ("pos_embed", Only(&["\"learn\""])),
    ("no_embed_class", Only(&["false"])),
    ("reg_tokens", Only(&["0"])),
    ("pre_norm", Only(&["false"])),
    ("final_norm", Only(&["true"])),
    ("pool_include_prefix", Only(&["false"])),
    ("dynamic_img_pad", Only(&["false"])),
    ("norm_layer", Only(&["\"layernorm\""])),
];
const EFFICIENTNET: &[(&str, Rule)] = &[
    COLOUR,
    MEAN,
    STRIDE,
    ("bn_eps", Is("bn_eps")),
    ("pad_type", Only(&["\"\""])),
    ("stem_size", Only(&["32"])),
    ("stem_kernel_size", Only(&["3"])),
    ("fix_stem", Only(&["false"])),
    BATCH_NORM,
];
const RESNET: &[(&str, Rule)] = &[
    COLOUR,
    MEAN,
    STRIDE,
    ("act_layer", Only(&["\"relu\""])),
    ("cardinality", Only(&["1"])),
    ("base_width", Only(&["64"])),
    ("stem_width", Only(&["64"])),
    ("stem_type", Only(&["\"\""])),
    ("replace_stem_pool", Only(&["false"])),
    ("block_reduce_first", Only(&["1"])),
    ("down_kernel_size", Only(&["1"])),
    ("avg_down", Only(&["false"])),
    ("layers", Depths),
    ("channels", Only(&["[64,128,256,512]"])),
    BATCH_NORM,
];
const CONVNEXT: &[(&str, Rule)] = &[
    COLOUR,
    MEAN,
    STRIDE,
    GELU,
    ("patch_size", Is("patch")),
    ("dims", Doubling("dim")),
    ("depths", Is("depths")),
    ("norm_eps", Is("norm_eps")),
    ("kernel_sizes", Only(&["7", "[7,7,7,7]"])),
    ("stem_type", Only(&["\"patch\""])),
    ("head_norm_first", Only(&["false"])),
    ("conv_mlp", Only(&["false"])),
    ("conv_bias", Only(&["true"])),
    ("use_grn", Only(&["false"])),
    ("norm_layer", Only(&["\"layernorm\"", "\"layernorm2d\""])),
];
const SWIN: &[(&str, Rule)] = &[
    COLOUR,
    MEAN,
    ("patch_size", Is("patch")),
    ("embed_dim", Is("dim")),
    ("depths", Is("depths")),
    ("num_heads", Doubling("heads")),
    ("window_size", Is("window")),
    ("always_partition", Only(&["false"])),
    ("mlp_ratio", Only(&["4"])),
    ("qkv_bias", Only(&["true"])),
];
const MIXER: &[(&str, Rule)] = &[
    COLOUR,
    MEAN,
    GELU,
    ("patch_size", Is("patch")),
    ("embed_dim", Is("dim")),
    ("num_blocks", Is("depth")),
    ("stem_norm", Only(&["false"])),
    ("mlp_ratio", Only(&["[0.5,4]"])),
];
const RESMLP: &[(&str, Rule)] = &[
    COLOUR,
    MEAN,
    GELU,
    ("patch_size", Is("patch")),
    ("embed_dim", Is("dim")),
    ("num_blocks", Is("depth")),
    ("stem_norm", Only(&["false"])),
    ("mlp_ratio", Only(&["4"])),
];

fn rules(family: &str) -> &'static [(&'static str, Rule)] {
    match family {
        "vit" => VIT,
        "efficientnet" => EFFICIENTNET,
        "resnet" => RESNET,
        "convnext" => CONVNEXT,
        "swin" => SWIN,
        "mixer" => MIXER,
        "resmlp" => RESMLP,
        _ => &[],
    }
}

/// The options with which `def` is the network that `timm.create_model(.., **args)` creates. An argument that no option
/// can express is an error that names it.
pub fn options(def: &ModelDef, args: &Map<String, Value>) -> Result<toml::Table> {
    let mut options = toml::Table::new();
    for (name, value) in args {
        // timm also drops null arguments before it calls the constructor.
        if HARMLESS.contains(&name.as_str()) || name.ends_with(DROPS) || value.is_null() {
            continue;
        }
        let refuse = |why: String| Error::invalid(format!("`{name}` = {value}: {why}"));
        let known = rules(def.family).iter().find(|(known, _)| known == name).map(|(_, rule)| rule);
        match known {
            None if activation(def, name, value) => {}
            None => {
                return Err(refuse(format!(
                    "{} has no option for it, so its outputs would differ from timm's: package the network instead \
                     (tools/package_teacher.py), or remove the argument from the description if it changes nothing",
                    def.name
                )));
            }
            Some(Only(values)) if values.iter().any(|known| equal(value, known)) => {}
            Some(Depths) if equal(value, &depths(def)) => {}
            Some(rule @ (Only(_) | Depths)) => {
                let can = if let Only(values) = rule { values.join(" or ") } else { depths(def) };
                return Err(refuse(format!(
                    "{} supports only {can}, so its outputs would differ from timm's: package the network instead \
                     (tools/package_teacher.py)",
                    def.name
                )));
            }
            Some(Is(option)) => {
                let value = square(option, value)
                    .ok_or_else(|| refuse(format!("this is not a valid value of the option `{option}`")))?;
                options.insert((*option).to_owned(), value);
            }
            Some(Doubling(option)) => {
                let first = doubling(value)
                    .ok_or_else(|| refuse("only four sizes, each twice the one before, are supported".to_owned()))?;
                options.insert((*option).to_owned(), toml::Value::Integer(first));
            }
        }
    }
    (def.check_options)(&options).map_err(|e| Error::invalid(format!("invalid options for {}: {e}", def.name)))?;
    Ok(options)
}

fn depths(def: &ModelDef) -> String {
    format!("{:?}", crate::resnet::depths(def.name))
}

/// Whether a value equals `known`, given in JSON; 4 equals 4.0.
fn equal(value: &Value, known: &str) -> bool {
    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            _ => a == b,
        }
    }
    serde_json::from_str(known).is_ok_and(|known| same(value, &known))
}

/// Whether the argument names the network's own activation, for an EfficientNet or a MobileNet.
fn activation(def: &ModelDef, name: &str, value: &Value) -> bool {
    let own: &[&str] = if def.name.starts_with("mobilenet") { &["relu6"] } else { &["silu", "swish"] };
    def.family == "efficientnet" && name == "act_layer" && value.as_str().is_some_and(|value| own.contains(&value))
}

/// A value as TOML. Two equal sides become one number unless the option is a list.
fn square(option: &str, value: &Value) -> Option<toml::Value> {
    let value = match value.as_array().map(Vec::as_slice) {
        Some([a, b]) if option != "depths" => (a == b).then_some(a)?,
        _ => value,
    };
    toml::Value::try_from(value).ok()
}

/// The first of four sizes that double from one to the next.
fn doubling(value: &Value) -> Option<i64> {
    let sizes: Vec<i64> = serde_json::from_value(value.clone()).ok()?;
    (sizes.len() == 4 && sizes.windows(2).all(|w| w[0].checked_mul(2) == Some(w[1]))).then(|| sizes[0])
}
