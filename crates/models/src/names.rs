//! Other people's names for the parameters of these networks, made timm's.
//!
//! | writer | networks |
//! |---|---|
//! | torchvision 0.26 | vit, swin, convnext, mobilenetv2_100, efficientnet_b0; its resnets are named as timm's |
//! | the authors' own repositories, and timm before 0.9 | swin, convnext, resmlp |
//!
//! Before that, what wrappers have put in front of every name is taken away (DataParallel's `module.`, torch.compile's `_orig_mod.`).
use heterodyne_nn::{Result, Tensors};
use tch::Tensor;

/// The name in timm of the parameter whose name has these parts; `None` for one that has no counterpart.
type Rename = fn(&[&str]) -> Option<String>;

/// A way of naming.
struct Convention {
    family: &'static str,
    /// A parameter that only these names have.
    marker: &'static str,
    whose: &'static str,
    rename: Rename,
}

const CONVENTIONS: &[Convention] = &[
    Convention { family: "vit", marker: "encoder.pos_embedding", whose: "torchvision", rename: torchvision_vit },
    Convention { family: "swin", marker: "features.0.0.weight", whose: "torchvision", rename: torchvision_swin },
    Convention { family: "swin", marker: "layers.0.downsample.reduction.weight", whose: "the authors", rename: authors_swin },
    Convention { family: "convnext", marker: "features.0.0.weight", whose: "torchvision", rename: torchvision_convnext },
    Convention { family: "convnext", marker: "downsample_layers.0.0.weight", whose: "the authors", rename: authors_convnext },
    Convention { family: "efficientnet", marker: "features.1.conv.1.weight", whose: "torchvision", rename: torchvision_mobilenetv2 },
    Convention { family: "efficientnet", marker: "features.1.0.block.0.0.weight", whose: "torchvision", rename: torchvision_efficientnet },
    Convention { family: "resmlp", marker: "blocks.0.gamma_1", whose: "the authors", rename: authors_resmlp },
];

/// `tensors` under timm's names for a network of `family` whose own parameters are `own`, and a sentence for each change.
pub fn to_timm(family: &str, own: &Tensors, tensors: &Tensors) -> Result<(Tensors, Vec<String>)> {
    let mut tensors: Tensors = tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
    let mut notes = Vec::new();
    let prefix = common_prefix(own, &tensors);
    if !prefix.is_empty() {
        tensors = tensors.into_iter().filter_map(|(name, t)| Some((name.strip_prefix(&prefix)?.to_owned(), t))).collect();
        notes.push(format!("names: `{prefix}` taken away from the front"));
    }
    let Some(convention) = CONVENTIONS.iter().find(|c| c.family == family && tensors.contains_key(c.marker)) else {
        return Ok((tensors, notes));
    };
    notes.push(format!("names: those of {}, made timm's", convention.whose));
    let renamed = |(name, t): (String, Tensor)| -> Result<(String, Tensor)> {
        let parts: Vec<_> = name.split('.').collect();
        let name = (convention.rename)(&parts).unwrap_or(name);
        // The same values in another shape: a scale per channel as (C), (C,1,1) or (1,1,C).
        let t = match own.get(&name) {
            Some(like) if like.size() != t.size() && is_vector(like) && is_vector(&t) && like.numel() == t.numel() => {
                t.f_reshape(like.size())?
            }
            _ => t,
        };
        Ok((name, t))
    };
    Ok((tensors.into_iter().map(renamed).collect::<Result<_>>()?, notes))
}

/// Whether all but one of its sizes are 1.
fn is_vector(t: &Tensor) -> bool {
    t.size().into_iter().max() == Some(t.numel() as i64)
}

/// What stands before all names and is no part of the network's own; with its dots.
fn common_prefix(own: &Tensors, tensors: &Tensors) -> String {
    let mut prefix = String::new();
    // A weight average's counter stands beside the names that it wraps.
    let names = || tensors.keys().filter(|name| *name != "n_averaged");
    loop {
        let mut firsts = names().map(|name| name.strip_prefix(&prefix).and_then(|rest| rest.split_once('.')).map(|(first, _)| first));
        let Some(Some(first)) = firsts.next() else { return prefix };
        let next = format!("{first}.");
        if firsts.any(|other| other != Some(first)) || own.keys().any(|name| name.starts_with(&next)) {
            return prefix;
        }
        prefix += &next;
    }
}

fn torchvision_vit(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["class_token"] => "cls_token".to_owned(),
        ["encoder", "pos_embedding"] => "pos_embed".to_owned(),
        ["conv_proj", leaf] => format!("patch_embed.proj.{leaf}"),
        ["encoder", "ln", leaf] => format!("norm.{leaf}"),
        ["heads", "head", leaf] => format!("head.{leaf}"),
        ["encoder", "layers", layer, rest @ ..] => {
            let block = layer.strip_prefix("encoder_layer_")?;
            let inner = match rest {
                ["ln_1", leaf] => format!("norm1.{leaf}"),
                ["ln_2", leaf] => format!("norm2.{leaf}"),
                ["self_attention", "in_proj_weight"] => "attn.qkv.weight".to_owned(),
                ["self_attention", "in_proj_bias"] => "attn.qkv.bias".to_owned(),
                ["self_attention", "out_proj", leaf] => format!("attn.proj.{leaf}"),
                ["mlp", "0" | "linear_1", leaf] => format!("mlp.fc1.{leaf}"),
                ["mlp", "3" | "linear_2", leaf] => format!("mlp.fc2.{leaf}"),
                _ => return None,
            };
            format!("blocks.{block}.{inner}")
        }
        _ => return None,
    })
}

/// Stages and what reduces the grid between them take turns: 1, 3, 5, 7 and 2, 4, 6.
fn turn(index: &str) -> Option<(usize, bool)> {
    let index: usize = index.parse().ok()?;
    (1..=7).contains(&index).then_some((index / 2, index % 2 == 1))
}

fn torchvision_swin(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["features", "0", "0", leaf] => format!("patch_embed.proj.{leaf}"),
        ["features", "0", "2", leaf] => format!("patch_embed.norm.{leaf}"),
        ["head", leaf] => format!("head.fc.{leaf}"),
        ["features", index, rest @ ..] => match (turn(index)?, rest) {
            ((stage, true), [block, "mlp", "0", leaf]) => format!("layers.{stage}.blocks.{block}.mlp.fc1.{leaf}"),
            ((stage, true), [block, "mlp", "3", leaf]) => format!("layers.{stage}.blocks.{block}.mlp.fc2.{leaf}"),
            ((stage, true), [block, rest @ ..]) => format!("layers.{stage}.blocks.{block}.{}", rest.join(".")),
            ((stage, false), rest) => format!("layers.{stage}.downsample.{}", rest.join(".")),
            _ => return None,
        },
        _ => return None,
    })
}

/// There a stage ends with what reduces the grid; in timm the next one begins with it.
fn authors_swin(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["layers", stage, "downsample", rest @ ..] => format!("layers.{}.downsample.{}", stage.parse::<usize>().ok()? + 1, rest.join(".")),
        ["head", leaf] => format!("head.fc.{leaf}"),
        _ => return None,
    })
}

fn torchvision_convnext(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["features", "0", part, leaf] => format!("stem.{part}.{leaf}"),
        ["classifier", "0", leaf] => format!("head.norm.{leaf}"),
        ["classifier", "2", leaf] => format!("head.fc.{leaf}"),
        ["features", index, rest @ ..] => match (turn(index)?, rest) {
            ((stage, true), [block, "layer_scale"]) => format!("stages.{stage}.blocks.{block}.gamma"),
            ((stage, true), [block, "block", part, leaf]) => {
                let part = match *part {
                    "0" => "conv_dw",
                    "2" => "norm",
                    "3" => "mlp.fc1",
                    "5" => "mlp.fc2",
                    _ => return None,
                };
                format!("stages.{stage}.blocks.{block}.{part}.{leaf}")
            }
            ((stage, false), [part, leaf]) => format!("stages.{stage}.downsample.{part}.{leaf}"),
            _ => return None,
        },
        _ => return None,
    })
}

fn authors_convnext(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["downsample_layers", "0", part, leaf] => format!("stem.{part}.{leaf}"),
        ["downsample_layers", stage, part, leaf] => format!("stages.{stage}.downsample.{part}.{leaf}"),
        ["stages", stage, block, "dwconv", leaf] => format!("stages.{stage}.blocks.{block}.conv_dw.{leaf}"),
        ["stages", stage, block, "pwconv1", leaf] => format!("stages.{stage}.blocks.{block}.mlp.fc1.{leaf}"),
        ["stages", stage, block, "pwconv2", leaf] => format!("stages.{stage}.blocks.{block}.mlp.fc2.{leaf}"),
        ["stages", stage, block, rest @ ..] => format!("stages.{stage}.blocks.{block}.{}", rest.join(".")),
        ["norm", leaf] => format!("head.norm.{leaf}"),
        ["head", leaf] => format!("head.fc.{leaf}"),
        _ => return None,
    })
}

/// The blocks of MobileNetV2 per stage, which torchvision counts through from 1.
const MOBILENETV2: [usize; 7] = [1, 2, 3, 4, 3, 3, 1];

fn torchvision_mobilenetv2(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["features", "0", "0", leaf] => format!("conv_stem.{leaf}"),
        ["features", "0", "1", leaf] => format!("bn1.{leaf}"),
        ["features", "18", "0", leaf] => format!("conv_head.{leaf}"),
        ["features", "18", "1", leaf] => format!("bn2.{leaf}"),
        ["classifier", "1", leaf] => format!("classifier.{leaf}"),
        ["features", index, "conv", rest @ ..] => {
            let mut block = index.parse::<usize>().ok()?.checked_sub(1)?;
            let stage = MOBILENETV2.iter().position(|&blocks| {
                let here = block < blocks;
                block -= if here { 0 } else { blocks };
                here
            })?;
            // The first block does not widen.
            let (part, leaf) = match (stage, rest) {
                (0, ["0", "0", leaf]) => ("conv_dw", leaf),
                (0, ["0", "1", leaf]) => ("bn1", leaf),
                (0, ["1", leaf]) => ("conv_pw", leaf),
                (0, ["2", leaf]) => ("bn2", leaf),
                (_, ["0", "0", leaf]) => ("conv_pw", leaf),
                (_, ["0", "1", leaf]) => ("bn1", leaf),
                (_, ["1", "0", leaf]) => ("conv_dw", leaf),
                (_, ["1", "1", leaf]) => ("bn2", leaf),
                (_, ["2", leaf]) => ("conv_pwl", leaf),
                (_, ["3", leaf]) => ("bn3", leaf),
                _ => return None,
            };
            format!("blocks.{stage}.{block}.{part}.{leaf}")
        }
        _ => return None,
    })
}

fn torchvision_efficientnet(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["features", "0", "0", leaf] => format!("conv_stem.{leaf}"),
        ["features", "0", "1", leaf] => format!("bn1.{leaf}"),
        ["features", "8", "0", leaf] => format!("conv_head.{leaf}"),
        ["features", "8", "1", leaf] => format!("bn2.{leaf}"),
        ["classifier", "1", leaf] => format!("classifier.{leaf}"),
        ["features", stage, block, "block", rest @ ..] => {
            let stage = stage.parse::<usize>().ok()?.checked_sub(1)?;
            let (part, leaf) = match (stage, rest) {
                (0, ["0", "0", leaf]) => ("conv_dw", leaf),
                (0, ["0", "1", leaf]) => ("bn1", leaf),
                (0, ["1", "fc1", leaf]) | (_, ["2", "fc1", leaf]) => ("se.conv_reduce", leaf),
                (0, ["1", "fc2", leaf]) | (_, ["2", "fc2", leaf]) => ("se.conv_expand", leaf),
                (0, ["2", "0", leaf]) => ("conv_pw", leaf),
                (0, ["2", "1", leaf]) => ("bn2", leaf),
                (_, ["0", "0", leaf]) => ("conv_pw", leaf),
                (_, ["0", "1", leaf]) => ("bn1", leaf),
                (_, ["1", "0", leaf]) => ("conv_dw", leaf),
                (_, ["1", "1", leaf]) => ("bn2", leaf),
                (_, ["3", "0", leaf]) => ("conv_pwl", leaf),
                (_, ["3", "1", leaf]) => ("bn3", leaf),
                _ => return None,
            };
            format!("blocks.{stage}.{block}.{part}.{leaf}")
        }
        _ => return None,
    })
}

fn authors_resmlp(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["patch_embed", rest @ ..] => format!("stem.{}", rest.join(".")),
        ["blocks", block, "attn", leaf] => format!("blocks.{block}.linear_tokens.{leaf}"),
        ["blocks", block, "mlp", rest @ ..] => format!("blocks.{block}.mlp_channels.{}", rest.join(".")),
        ["blocks", block, "gamma_1"] => format!("blocks.{block}.ls1"),
        ["blocks", block, "gamma_2"] => format!("blocks.{block}.ls2"),
        _ => return None,
    })
}
