//! PyTorch programs: a forward pass recorded as TorchScript, and networks from files that PyTorch wrote.
mod ffi;
mod stand_in;

use std::path::Path;

use cxx::UniquePtr;
use tch::{Device, Tensor};

use crate::{NoGrad, Result, address, device_code, take};
use ffi::bridge::{self, Sort};

/// A forward pass recorded by libtorch's tracer for one batch size.
pub struct Recording(UniquePtr<bridge::Trace>);

/// The steps of a recorded pass, in the order in which they ran.
#[derive(Debug)]
pub struct Program {
    /// All inputs and outputs of steps. The first is the images.
    pub values: Vec<Value>,
    /// libtorch's operators, and the construction and unpacking of lists.
    pub steps: Vec<Step>,
    /// Index of the value that the pass returns.
    pub output: usize,
}

/// A value of a program.
#[derive(Debug, PartialEq)]
pub enum Value {
    /// A tensor of these sizes that a step returns, or the images; the sizes are empty if they are not known (a list).
    Computed(Vec<i64>),
    /// A parameter, buffer or constant; numbers that have become tensors have no name.
    Held {
        /// Its name; tensors that do not belong to the network have the prefix `constants.`.
        name: String,
        /// Its value.
        tensor: Tensor,
    },
    /// An integer or a Boolean.
    Int(i64),
    /// A floating-point number.
    Real(f64),
    /// A string.
    Text(String),
    /// An omitted argument.
    Nothing,
    /// A device, a module.
    Other,
}

/// One run of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name, for example `aten::linear`.
    pub operation: String,
    /// Indices of its arguments among the values.
    pub inputs: Vec<usize>,
    /// Indices of its results.
    pub outputs: Vec<usize>,
}

/// Stops the tracer even if the pass panics.
struct Abandon;

impl Drop for Abandon {
    fn drop(&mut self) {
        bridge::trace_abandon();
    }
}

/// Records the operators that `pass` runs on the images `x` on this thread, without a graph for gradients. `tensors`
/// are the network's, as (name, tensor, whether it is a parameter rather than a buffer). They become attributes under
/// their names; any other tensor that the pass reads becomes a constant.
pub fn record(
    tensors: &[(String, Tensor, bool)],
    x: &Tensor,
    pass: impl FnOnce(&Tensor) -> Tensor,
) -> Result<Recording> {
    let _no_grad = NoGrad::new();
    let names: Vec<_> = tensors.iter().map(|(name, ..)| name.clone()).collect();
    // Not detached: detached tensors would differ from those that the pass reads.
    let addresses: Vec<_> = tensors.iter().map(|(_, t, _)| address(t)).collect();
    let trained: Vec<_> = tensors.iter().map(|(.., trained)| *trained).collect();
    // SAFETY: the addresses are those of live tensors.
    let mut trace = unsafe { bridge::trace_begin(&names, &addresses, &trained, address(x))? };
    let abandon = Abandon;
    let y = pass(x);
    // SAFETY: as above.
    unsafe { trace.pin_mut().finish(address(&y))? };
    drop(abandon);
    Ok(Recording(trace))
}

impl Recording {
    /// The steps.
    pub fn program(&self) -> Result<Program> {
        let program = self.0.program()?;
        let value = |v: bridge::Value| match v.sort {
            Sort::Computed => Value::Computed(v.sizes),
            Sort::Held => Value::Held { name: v.text, tensor: take(v.tensor) },
            Sort::Int => Value::Int(v.integer),
            Sort::Real => Value::Real(v.real),
            Sort::Text => Value::Text(v.text),
            Sort::Nothing => Value::Nothing,
            _ => Value::Other,
        };
        let step = |s: bridge::Step| Step { operation: s.operation, inputs: s.inputs, outputs: s.outputs };
        Ok(Program {
            values: program.values.into_iter().map(value).collect(),
            steps: program.steps.into_iter().map(step).collect(),
            output: program.output,
        })
    }

    /// The program as the bytes of a TorchScript file, with `about` as the extra file `heterodyne.json`. `counts` lists
    /// the integers among the values that are the batch size times a factor; in the file they depend on the images.
    pub fn torchscript(mut self, counts: &[(usize, i64)], about: &str) -> Result<Vec<u8>> {
        let (values, factors): (Vec<_>, Vec<_>) = counts.iter().copied().unzip();
        self.0.pin_mut().free_batch(&values, &factors)?;
        Ok(self.0.pin_mut().save(about)?.as_bytes().to_vec())
    }
}

/// Checks the kind of device for which code was compiled; empty if it is not stated.
fn fits(compiled_for: &str, device: Device) -> Result<()> {
    let own = if device == Device::Cpu { "cpu" } else { "cuda" };
    if compiled_for.is_empty() || compiled_for == own {
        return Ok(());
    }
    Err(crate::Error(format!(
        "it was compiled for {compiled_for} and the run is on {own}: make it with `tools/package_teacher.py --device \
         {own}`, or set device = \"{compiled_for}\""
    )))
}

/// A network in a file: TorchScript, or a package of compiled code.
///
/// It is a program that runs in this process; a compiled package is machine code with all of the process's rights.
pub struct Package(UniquePtr<bridge::Package>);

impl Package {
    /// Loads a file written by `torch.jit.save`.
    pub fn torchscript(path: &Path, device: Device) -> Result<Self> {
        Ok(Self(bridge::load_torchscript(&path.display().to_string(), device_code(device))?))
    }

    /// Loads a file written by `torch._inductor.aoti_compile_and_package` (PT2). It runs on the kind of device for
    /// which it was compiled: another one's addresses would end the process.
    ///
    /// # Errors
    /// It was compiled for another kind of device, or is not such a file.
    pub fn compiled(path: &Path, device: Device) -> Result<Self> {
        stand_in::load().map_err(|e| crate::Error(format!("cannot load libtorch.so for the package ({e})")))?;
        let name = path.display().to_string();
        fits(&bridge::compiled_for(&name)?, device)?;
        Ok(Self(bridge::load_compiled(&name, device_code(device))?))
    }

    /// The JSON that the file contains under the name `heterodyne`; empty if there is none.
    pub fn about(&self) -> Result<String> {
        Ok(self.0.about()?)
    }

    /// Its outputs for images, in the program's order and under its names. The name is empty for a single tensor and
    /// for the outputs of compiled code.
    pub fn run(&mut self, x: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let _no_grad = NoGrad::new();
        // SAFETY: the address is that of a live tensor.
        let outputs = unsafe { self.0.pin_mut().run(address(x))? };
        Ok(outputs.into_iter().map(|o| (o.name, take(o.tensor))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_for_another_device_is_refused() {
        assert!(fits("cpu", Device::Cpu).is_ok() && fits("cuda", Device::Cuda(0)).is_ok());
        assert!(fits("", Device::Cpu).is_ok() && fits("", Device::Cuda(0)).is_ok());
        let text = fits("cpu", Device::Cuda(0)).unwrap_err().to_string();
        assert!(text.contains("compiled for cpu and the run is on cuda") && text.contains("--device cuda"), "{text}");
        assert!(fits("cuda", Device::Cpu).is_err() && fits("xpu", Device::Cpu).is_err());
    }
}
