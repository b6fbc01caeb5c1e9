//! Reads tensors from a single file of any supported format, or from an index and its shards.
use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use heterodyne_hub::WEIGHTS;
use heterodyne_nn::{Tensors, error::missing, file};
use heterodyne_pickle::{Content, Dtype, Fault};
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::card::Card;
use crate::{Error, Result};

/// Number of names that a message lists.
const LISTED: usize = 5;

/// The contents of a weights file.
pub(crate) struct Stored {
    /// The name used in messages.
    pub name: String,
    pub tensors: Tensors,
    pub card: Option<Card>,
}

/// Finds the weights file in a folder: safetensors first, and a single file before an index of shards.
///
/// # Errors
/// The folder has no weights file.
pub(crate) fn in_folder(folder: &Path) -> Result<PathBuf> {
    let file = WEIGHTS.map(|name| folder.join(name)).into_iter().find(|file| file.exists());
    let [safetensors, index, bin, bin_index] = WEIGHTS;
    file.ok_or_else(|| {
        let message =
            format!("the folder has neither {safetensors} nor {bin}, nor an index of shards ({index}, {bin_index})");
        Error::Plan(format!("{}: {message}", folder.display()))
    })
}

/// Reads a weights file, or the shards of an index. The format is detected from the contents.
///
/// # Errors
/// The file is damaged, has another format, lacks `section`, or is one shard of several; or a shard is missing.
pub(crate) fn read(path: &Path, section: Option<&str>) -> Result<Stored> {
    if !path.exists() {
        return Err(wrong(path, &missing(path)));
    }
    if let Some(of) = shard_of(path) {
        return Err(wrong(
            path,
            &format!("is one of {of} shards: give the folder, or the index that lists the shards (*.index.json)"),
        ));
    }
    read_one(path, section)
}

fn read_one(path: &Path, section: Option<&str>) -> Result<Stored> {
    let content = Content::of(path).map_err(|e| Error::Plan(e.to_string()))?;
    match &content {
        Content::Zip | Content::Pickle => pytorch(path, section),
        Content::Json(_) => shards(path, &content, section),
        // Unknown contents are refused by the reader that the file's name suggests.
        Content::Unknown if has_pytorchs_name(path) => pytorch(path, section),
        Content::Safetensors | Content::Unknown => safetensors(path, section),
        other => Err(wrong(path, &format!("is {other}"))),
    }
}

fn wrong(path: &Path, what: &str) -> Error {
    Error::Plan(format!("{}: {what}", path.display()))
}

fn safetensors(path: &Path, section: Option<&str>) -> Result<Stored> {
    if let Some(section) = section {
        return Err(wrong(path, &format!("a safetensors file has no sections; remove `section` (\"{section}\")")));
    }
    let (tensors, metadata) = file::read(path)?;
    let card = Card::of(&metadata).map_err(|e| wrong(path, &e.to_string()))?;
    Ok(Stored { name: path.display().to_string(), tensors, card })
}

fn pytorch(path: &Path, section: Option<&str>) -> Result<Stored> {
    let damaged = |e: heterodyne_pickle::Error| {
        let advice = match e.fault {
            Fault::Program { .. } => "; to use it as a teacher, set `teacher.package`",
            _ => "",
        };
        Error::Plan(format!("{e}{advice}"))
    };
    let file = heterodyne_pickle::read(path).map_err(damaged)?;
    let section = file.section(section).map_err(damaged)?;
    let mut tensors = Tensors::new();
    for (name, stored) in section.tensors {
        let shape: Vec<i64> = stored.shape.iter().map(|&n| n as i64).collect();
        let tensor = Tensor::f_from_data_size(&stored.bytes(), &shape, kind(stored.dtype))
            .map_err(heterodyne_nn::Error::from)?;
        tensors.insert(name, tensor);
    }
    let place = if section.place.is_empty() { String::new() } else { format!(" [{}]", section.place) };
    Ok(Stored { name: format!("{}{place}", path.display()), tensors, card: None })
}

/// An index in the format of Hugging Face's libraries.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Reads the shards of the index `path` from the same folder.
fn shards(path: &Path, content: &Content, section: Option<&str>) -> Result<Stored> {
    let text = std::fs::read_to_string(path).map_err(|e| wrong(path, &e.to_string()))?;
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    if json.as_ref().is_none_or(|json| json.get("weight_map").is_none()) {
        return Err(wrong(path, &format!("is {content}")));
    }
    let index = json.map(serde_json::from_value::<Index>).transpose();
    let index = index
        .ok()
        .flatten()
        .ok_or_else(|| wrong(path, "`weight_map` is not a table of tensor names and file names"))?;
    if let Some(section) = section {
        return Err(wrong(path, &format!("the shards of an index have no sections; remove `section` (\"{section}\")")));
    }
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in &index.weight_map {
        files.entry(file).or_default().push(tensor);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    if let Some(file) = files
        .keys()
        .find(|file| !matches!(Path::new(file).components().collect::<Vec<_>>()[..], [Component::Normal(_)]))
    {
        return Err(wrong(path, &format!("`{file}` is not the name of a file in the same folder")));
    }
    let missing: Vec<_> = files.keys().filter(|file| !folder.join(file).exists()).collect();
    if !missing.is_empty() {
        let names = missing.iter().take(LISTED).map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ");
        let more = missing.len().saturating_sub(LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (verb, count) = (if missing.len() == 1 { "is" } else { "are" }, files.len());
        return Err(wrong(
            path,
            &format!("of its {count} shards, {names}{more} {verb} missing from the folder; was the download complete?"),
        ));
    }
    let mut tensors = Tensors::new();
    for (file, names) in files {
        let shard = folder.join(file);
        let part = read_one(&shard, None)?;
        if let Some(name) = names.iter().find(|name| !part.tensors.contains_key(**name)) {
            return Err(wrong(&shard, &format!("lacks the tensor `{name}`, which {} lists here", path.display())));
        }
        for (name, tensor) in part.tensors {
            if tensors.contains_key(&name) {
                return Err(wrong(
                    &shard,
                    &format!("the tensor `{name}` is also in another shard of {}", path.display()),
                ));
            }
            tensors.insert(name, tensor);
        }
    }
    Ok(Stored { name: path.display().to_string(), tensors, card: None })
}

/// The number of shards according to the file's name, as in `model-00001-of-00003.safetensors`.
fn shard_of(path: &Path) -> Option<u32> {
    let (start, of) = path.file_stem()?.to_str()?.rsplit_once("-of-")?;
    let (_, number) = start.rsplit_once('-')?;
    let (number, of): (u32, u32) = (number.parse().ok()?, of.parse().ok()?);
    (of > 1 && (1..=of).contains(&number)).then_some(of)
}

/// Whether the suffix is one that files of `torch.save` usually have.
fn has_pytorchs_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["pt", "pth", "bin", "ckpt", "tar"].iter().any(|known| e == *known))
}

fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::Bool => Kind::Bool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_known_by_its_name() {
        for (name, of) in [
            ("model-00001-of-00003.safetensors", Some(3)),
            ("a/pytorch_model-2-of-2.bin", Some(2)),
            ("model-00001-of-00001.safetensors", None),
            ("model-00004-of-00003.safetensors", None),
            ("best-of-3.pth", None),
            ("model.safetensors", None),
        ] {
            assert_eq!(shard_of(Path::new(name)), of, "{name}");
        }
    }
}
