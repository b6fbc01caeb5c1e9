//! Weights files (safetensors), read without trust and replaced atomically.
use std::{collections::HashMap, io::Write, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result, Tensors};

const KINDS: [(Dtype, Kind); 9] = [
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];

/// Reads all tensors of a safetensors file onto the CPU, with the file's text metadata.
pub fn read(path: &Path) -> Result<(Tensors, HashMap<String, String>)> {
    let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
    let broken = |e: &dyn std::fmt::Display| {
        Error::file(path, format!("not a whole safetensors file ({e}); was the download or the copy cut short?"))
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(&e))?;
    let parsed = SafeTensors::deserialize(&bytes).map_err(|e| broken(&e))?;
    let mut tensors = Tensors::new();
    let mut views = parsed.tensors();
    views.sort_by_key(|(_, view)| view.data().as_ptr() as usize);
    for (name, view) in views {
        let Some((_, kind)) = KINDS.iter().find(|(dtype, _)| *dtype == view.dtype()) else {
            return Err(Error::file(path, format!("tensor `{name}` has type {:?}, which is not supported", view.dtype())));
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        tensors.insert(name, Tensor::f_from_data_size(view.data(), &shape, *kind)?);
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

/// Writes tensors and text metadata; the old file stays until the new one is complete on disk.
pub fn write<'a>(path: &Path, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>, metadata: HashMap<String, String>) -> Result<()> {
    let mut blobs = Vec::new();
    for (name, tensor) in tensors {
        let Some((dtype, kind)) = KINDS.iter().find(|(_, kind)| *kind == tensor.kind()) else {
            return Err(Error::file(path, format!("tensor `{name}` has type {:?}, which cannot be written", tensor.kind())));
        };
        let tensor = tensor.detach().f_to(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        blobs.push((name.to_owned(), *dtype, shape, bytes));
    }
    let views = blobs
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            Ok((name.clone(), TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| Error::file(path, e))?))
        })
        .collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| Error::file(path, e))?;
    let old = if path.exists() { "; what was there before is unchanged" } else { "" };
    replace(path, &bytes).map_err(|e| Error::file(path, format!("cannot be written ({e}){old}")))
}

/// Writes beside the target, flushes to disk, then renames over it.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".new-");
    // A temporary file is private by default; this one becomes an ordinary file (the umask still applies).
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
