//! Converts other libraries' parameter names to timm's.
//!
//! | source | networks |
//! |---|---|
//! | torchvision 0.26 | vit, swin, convnext, mobilenetv2_100, efficientnet_b0; its resnets are named as timm's |
//! | the authors' own repositories, and timm before 0.9 | swin, convnext, resmlp |
//! | Hugging Face's transformers, in files since 4.0 and in memory since 5.0 | vit, deit |
//!
//! Wrapper prefixes are removed first (`select.rs`).
/// timm's name for the parameter whose dotted name has these parts; `None` if it has no counterpart.
type Rename = fn(&[&str]) -> Option<String>;

/// A naming convention.
pub(crate) struct Convention {
    family: &'static str,
    /// A parameter name that identifies the convention.
    marker: &'static str,
    pub(crate) whose: &'static str,
    rename: Rename,
}

const CONVENTIONS: &[Convention] = &[
    Convention { family: "vit", marker: "encoder.pos_embedding", whose: "torchvision", rename: torchvision_vit },
    Convention { family: "vit", marker: "vit.embeddings.cls_token", whose: "transformers", rename: transformers_vit },
    Convention { family: "vit", marker: "deit.embeddings.cls_token", whose: "transformers", rename: transformers_vit },
    Convention { family: "vit", marker: "embeddings.cls_token", whose: "transformers", rename: transformers_vit },
    Convention { family: "swin", marker: "features.0.0.weight", whose: "torchvision", rename: torchvision_swin },
    Convention {
        family: "swin",
        marker: "layers.0.downsample.reduction.weight",
        whose: "the authors",
        rename: authors_swin,
    },
    Convention {
        family: "convnext",
        marker: "features.0.0.weight",
        whose: "torchvision",
        rename: torchvision_convnext,
    },
    Convention {
        family: "convnext",
        marker: "downsample_layers.0.0.weight",
        whose: "the authors",
        rename: authors_convnext,
    },
    Convention {
        family: "efficientnet",
        marker: "features.1.conv.1.weight",
        whose: "torchvision",
        rename: torchvision_mobilenetv2,
    },
    Convention {
        family: "efficientnet",
        marker: "features.1.0.block.0.0.weight",
        whose: "torchvision",
        rename: torchvision_efficientnet,
    },
    Convention { family: "resmlp", marker: "blocks.0.gamma_1", whose: "the authors", rename: authors_resmlp },
];

/// The conventions that `names` may follow for a network of `family`. `None`, timm's own, is always among them.
pub(crate) fn conventions(family: &str, names: &[&str]) -> impl Iterator<Item = Option<&'static Convention>> {
    let fits = |c: &&Convention| c.family == family && names.contains(&c.marker);
    let found: Vec<_> = CONVENTIONS.iter().filter(fits).collect();
    std::iter::once(None).chain(found.into_iter().map(Some))
}

/// timm's name for `name`; `name` itself if it has no counterpart.
pub(crate) fn renamed(convention: Option<&Convention>, name: &str) -> String {
    let rename = |c: &Convention| (c.rename)(&name.split('.').collect::<Vec<_>>());
    convention.and_then(rename).unwrap_or_else(|| name.to_owned())
}

/// The parts of a fused projection, in timm's order.
const FUSED: [&str; 3] = [".attn.q.", ".attn.k.", ".attn.v."];

/// The fused tensor that `name` is part of, and the index of the part; `name` itself if it is a complete tensor.
pub(crate) fn whole(name: &str) -> (String, Option<usize>) {
    match FUSED.iter().position(|part| name.contains(part)) {
        Some(part) => (name.replace(FUSED[part], ".attn.qkv."), Some(part)),
        None => (name.to_owned(), None),
    }
}

/// transformers keeps query, key and value separate, and may put the network under `vit` or `deit`, next to its
/// classifiers.
fn transformers_vit(parts: &[&str]) -> Option<String> {
    let inner = match parts {
        ["vit" | "deit", inner @ ..] => inner,
        _ => parts,
    };
    Some(match inner {
        ["embeddings", "cls_token"] => "cls_token".to_owned(),
        ["embeddings", "distillation_token"] => "dist_token".to_owned(),
        ["embeddings", "position_embeddings"] => "pos_embed".to_owned(),
        ["embeddings", "patch_embeddings", "projection", leaf] => format!("patch_embed.proj.{leaf}"),
        ["layernorm", leaf] => format!("norm.{leaf}"),
        ["classifier" | "cls_classifier", leaf] => format!("head.{leaf}"),
        ["distillation_classifier", leaf] => format!("head_dist.{leaf}"),
        ["encoder", "layer", block, rest @ ..] | ["layers", block, rest @ ..] => {
            let inner = match rest {
                ["layernorm_before", leaf] => format!("norm1.{leaf}"),
                ["layernorm_after", leaf] => format!("norm2.{leaf}"),
                ["attention", "attention", "query", leaf] | ["attention", "q_proj", leaf] => format!("attn.q.{leaf}"),
                ["attention", "attention", "key", leaf] | ["attention", "k_proj", leaf] => format!("attn.k.{leaf}"),
                ["attention", "attention", "value", leaf] | ["attention", "v_proj", leaf] => format!("attn.v.{leaf}"),
                ["attention", "output", "dense", leaf] | ["attention", "o_proj", leaf] => format!("attn.proj.{leaf}"),
                ["intermediate", "dense", leaf] | ["mlp", "fc1", leaf] => format!("mlp.fc1.{leaf}"),
                ["output", "dense", leaf] | ["mlp", "fc2", leaf] => format!("mlp.fc2.{leaf}"),
                _ => return None,
            };
            format!("blocks.{block}.{inner}")
        }
        _ => return None,
    })
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

/// Stages (1, 3, 5, 7) alternate with downsampling layers (2, 4, 6).
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

/// The authors' stages end with the downsampling; timm's next stage begins with it.
fn authors_swin(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["layers", stage, "downsample", rest @ ..] => {
            format!("layers.{}.downsample.{}", stage.parse::<usize>().ok()? + 1, rest.join("."))
        }
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

/// Blocks per stage of MobileNetV2; torchvision numbers all blocks consecutively from 1.
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
            // The first block has no expansion.
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
