//! From the tensors of a file to timm's: which are meant, what they are called, and how they are split.
use std::collections::HashSet;

use heterodyne_nn::{Error, Result, Tensors};
use tch::Tensor;

use crate::{
    names::whole,
    select::{self, Selection},
};

/// Tensors under timm's names, with one sentence for each change and each omission.
pub(crate) struct Translated {
    pub tensors: Tensors,
    pub adapted: Vec<String>,
    pub left_out: Vec<String>,
}

/// Selects from `tensors` and renames to timm's names, for a network of `family` with the parameters `own`.
///
/// # Errors
/// As [`select::choose`]; also if parts of a fused projection are missing or have different shapes.
pub(crate) fn to_timm(family: &str, own: &Tensors, tensors: &Tensors, selection: &Selection) -> Result<Translated> {
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    let known: HashSet<String> = own.keys().cloned().collect();
    let chosen = select::choose(family, &known, &names, selection)?;
    let (mut made, mut parts) = (Tensors::new(), split(tensors, &chosen.names));
    for (file, timm) in &chosen.names {
        let t = &tensors[file];
        match whole(timm) {
            (_, None) => {
                made.insert(timm.clone(), like(own.get(timm), t)?);
            }
            (name, Some(_)) => {
                if let Some(fused) = parts.remove(&name) {
                    made.insert(name.clone(), fuse(&name, fused)?);
                }
            }
        }
    }
    Ok(Translated { tensors: made, adapted: chosen.adapted, left_out: chosen.left_out })
}

type Parts<'a> = std::collections::HashMap<String, [Option<(&'a str, &'a Tensor)>; 3]>;

/// The tensors that are parts of fused projections.
fn split<'a>(tensors: &'a Tensors, names: &'a [(String, String)]) -> Parts<'a> {
    let mut parts = Parts::new();
    for (file, timm) in names {
        if let (name, Some(part)) = whole(timm) {
            parts.entry(name).or_default()[part] = Some((file, &tensors[file]));
        }
    }
    parts
}

/// Concatenates query, key and value (D,D) or (D) into one projection (3*D,D) or (3*D).
fn fuse(name: &str, parts: [Option<(&str, &Tensor)>; 3]) -> Result<Tensor> {
    let given: Vec<_> = parts.iter().flatten().collect();
    let fit = given.iter().all(|(_, t)| t.size() == given[0].1.size() && t.kind() == given[0].1.kind() && t.dim() > 0);
    if given.len() < parts.len() || !fit {
        let list: Vec<_> = given.iter().map(|(file, t)| format!("`{file}` {:?} {:?}", t.kind(), t.size())).collect();
        return Err(Error::invalid(format!(
            "`{name}` is built from query, key and value of equal shape, but the file has {}",
            list.join(", ")
        )));
    }
    Ok(Tensor::f_cat(&given.iter().map(|(_, t)| *t).collect::<Vec<&Tensor>>(), 0)?)
}

/// Reshapes `t` like `own` if both are vectors: a scale per channel may be (C), (C,1,1) or (1,1,C).
fn like(own: Option<&Tensor>, t: &Tensor) -> Result<Tensor> {
    match own {
        Some(own) if own.size() != t.size() && is_vector(own) && is_vector(t) && own.numel() == t.numel() => {
            Ok(t.f_reshape(own.size())?)
        }
        _ => Ok(t.shallow_clone()),
    }
}

/// Whether at most one dimension is larger than 1.
fn is_vector(t: &Tensor) -> bool {
    t.size().into_iter().max() == Some(t.numel() as i64)
}
