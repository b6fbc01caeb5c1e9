//! What is written, read back and run beside the network.
use std::path::Path;

use heterodyne_models::Model;
use heterodyne_nn::{Error, Result, shim::script::Package};
use tch::{Device, Kind, Tensor};
use tract_onnx::prelude::{DatumExt, Framework, InferenceModelExt, IntoRunnable, TractError, tvec};

use crate::{Subject, onnx, run};

/// Largest difference between two tensors, relative to the second's largest value.
fn difference(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
    if ours.size() != theirs.size() {
        return Err(Error::invalid(format!(
            "logits of shape {:?} where {:?} are expected",
            ours.size(),
            theirs.size()
        )));
    }
    let scale = theirs.f_abs()?.f_max()?.f_double_value(&[])?.max(1e-30);
    Ok(ours.f_sub(theirs)?.f_abs()?.f_max()?.f_double_value(&[])? / scale)
}

/// The network rebuilt from the weights file.
pub fn weights(subject: &Subject, path: &Path, x: &Tensor, logits: &Tensor) -> Result<f64> {
    let taps = subject.model.net.taps();
    let copy = Model::build(subject.model.def, taps.classes, Some(subject.model.img), subject.options, x.device(), 1)?;
    copy.load_file(path, false)?;
    difference(&run(&copy, x)?, logits)
}

/// The program run by libtorch, on one image, on all, and on more.
pub fn torchscript(path: &Path, x: &Tensor, logits: &Tensor) -> Result<f64> {
    let mut program = Package::torchscript(path, Device::Cpu)?;
    each(x, logits, |x| {
        let (_, y) = program.run(x)?.pop().ok_or_else(|| Error::file(path, "the program gives nothing"))?;
        Ok(y)
    })
}

/// The graph run by tract, which shares no code with what wrote it.
pub fn onnx(path: &Path, x: &Tensor, logits: &Tensor) -> Result<f64> {
    let failed = |e: TractError| Error::file(path, format!("tract cannot run it: {e:#}"));
    let model = tract_onnx::onnx().model_for_path(path).map_err(failed)?;
    each(x, logits, |x| {
        let sizes: Vec<usize> = x.size().iter().map(|&n| n as usize).collect();
        let mut values = vec![0f32; x.numel()];
        x.f_copy_data(&mut values, x.numel())?;
        let input = tract_onnx::prelude::Tensor::from_shape(&sizes, &values).map_err(failed)?;
        let fact = f32::fact(&sizes).into();
        let plan = model
            .clone()
            .with_input_fact(0, fact)
            .and_then(|m| m.into_optimized())
            .and_then(|m| m.into_runnable())
            .map_err(failed)?;
        let output = plan.run(tvec!(input.into())).map_err(failed)?;
        let output = output.first().ok_or_else(|| Error::file(path, format!("`{}` is not given", onnx::OUTPUT)))?;
        let shape: Vec<i64> = output.shape().iter().map(|&n| n as i64).collect();
        let plain = output.try_as_plain_ram().map_err(failed)?;
        Ok(tch::Tensor::f_from_slice(plain.as_slice::<f32>().map_err(failed)?)?.f_reshape(shape)?)
    })
}

/// The largest difference over several numbers of images.
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
        // A NaN stays one.
        largest = if d.is_nan() { d } else { largest.max(d) };
    }
    Ok(largest)
}
