//! Reads written files back and compares them with the network.
use std::{fmt::Display, path::Path};

use heterodyne_models::Model;
use heterodyne_nn::{Error, Result, shim::script::Package};
use rten_tensor::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::{Subject, onnx, run};

/// Largest difference between two tensors, relative to the second's largest value.
fn difference(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
    if ours.size() != theirs.size() {
        return Err(Error::invalid(format!(
            "its logits have the shape {:?}, expected {:?}",
            ours.size(),
            theirs.size()
        )));
    }
    let scale = theirs.f_abs()?.f_max()?.f_double_value(&[])?.max(1e-30);
    Ok(ours.f_sub(theirs)?.f_abs()?.f_max()?.f_double_value(&[])? / scale)
}

/// Compares the network rebuilt from the weights file.
pub fn weights(subject: &Subject, path: &Path, x: &Tensor, logits: &Tensor) -> Result<f64> {
    let taps = subject.model.net.taps();
    let copy = Model::build(subject.model.def, taps.classes, Some(subject.model.img), subject.options, x.device(), 1)?;
    copy.load_file(path, false)?;
    difference(&run(&copy, x)?, logits)
}

/// Runs the program in libtorch on one image, on all, and on more.
pub fn torchscript(path: &Path, x: &Tensor, logits: &Tensor) -> Result<f64> {
    let mut program = Package::torchscript(path, Device::Cpu)?;
    each(x, logits, |x| {
        let (_, y) = program.run(x)?.pop().ok_or_else(|| Error::file(path, "the program returns nothing"))?;
        Ok(y)
    })
}

/// Runs the graph in rten, which shares no code with the exporter.
pub fn onnx(path: &Path, x: &Tensor, logits: &Tensor) -> Result<f64> {
    let failed = |e: &dyn Display| Error::file(path, format!("rten cannot run it: {e}"));
    let model = rten::Model::load_file(path).map_err(|e| failed(&e))?;
    each(x, logits, |x| {
        let sizes: Vec<usize> = x.size().iter().map(|&n| n as usize).collect();
        let mut values = vec![0f32; x.numel()];
        x.f_copy_data(&mut values, x.numel())?;
        let input = rten_tensor::Tensor::from_data(sizes.as_slice(), values);
        let output = model.run_one(input.view().into(), None).map_err(|e| failed(&e))?;
        let output: rten_tensor::Tensor<f32> =
            output.into_tensor().ok_or_else(|| failed(&format!("`{}` is not float32", onnx::OUTPUT)))?;
        let shape: Vec<i64> = output.shape().iter().map(|&n| n as i64).collect();
        Ok(Tensor::f_from_slice(&output.to_vec())?.f_reshape(shape)?)
    })
}

/// The largest difference over several batch sizes.
fn each(
    x: &tch::Tensor,
    logits: &tch::Tensor,
    mut program: impl FnMut(&tch::Tensor) -> Result<tch::Tensor>,
) -> Result<f64> {
    let mut largest: f64 = 0.0;
    for (x, logits) in [
        (x.f_narrow(0, 0, 1)?, logits.f_narrow(0, 0, 1)?),
        (x.shallow_clone(), logits.shallow_clone()),
        (tch::Tensor::f_cat(&[x, x], 0)?, tch::Tensor::f_cat(&[logits, logits], 0)?),
    ] {
        let d = difference(&program(&x)?.f_to_kind(Kind::Float)?, &logits)?;
        // A NaN stays NaN.
        largest = if d.is_nan() { d } else { largest.max(d) };
    }
    Ok(largest)
}
