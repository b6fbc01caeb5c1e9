//! Programs of PyTorch's: a forward pass recorded as TorchScript, and networks read from files that PyTorch has
//! written.
mod ffi;
mod stand_in;

use std::path::Path;

use cxx::UniquePtr;
use tch::{Device, Tensor};

use crate::{NoGrad, Result, address, device_code, take};
use ffi::bridge::{self, Sort};

/// A forward pass as libtorch's tracer has seen it, for one number of images.
pub struct Recording(UniquePtr<bridge::Trace>);

/// The steps of a recorded pass, in the order in which they ran.
#[derive(Debug)]
pub struct Program {
    /// Everything that goes into a step or comes out of one. The first is the images.
    pub values: Vec<Value>,
    /// libtorch's operators, and the making and taking apart of lists.
    pub steps: Vec<Step>,
    /// Which value the pass gives.
    pub output: usize,
}

/// A value of a program.
#[derive(Debug, PartialEq)]
pub enum Value {
    /// A tensor of these sizes that a step gives, or the images; the sizes are empty where they are not known (a list).
    Computed(Vec<i64>),
    /// A parameter, buffer or constant; numbers that have become tensors have no name.
    Held {
        /// Its name, `constants.` before those that are none of the network's.
        name: String,
        /// Its value.
        tensor: Tensor,
    },
    /// An integer or a truth value.
    Int(i64),
    /// A number.
    Real(f64),
    /// A string.
    Text(String),
    /// An argument that is left out.
    Nothing,
    /// A device, a module.
    Other,
}

/// One operator's run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name, for example `aten::linear`.
    pub operation: String,
    /// Indices of its arguments among the values.
    pub inputs: Vec<usize>,
    /// Indices of its results.
    pub outputs: Vec<usize>,
}

/// Stops the tracer also where the pass panics.
struct Abandon;

impl Drop for Abandon {
    fn drop(&mut self) {
        bridge::trace_abandon();
    }
}

/// Records what `pass` runs on the images `x` on this thread, without a graph for gradients. `tensors` are the
/// network's (name, tensor, whether it is a parameter and no buffer); they become attributes under their names, and
/// what else the pass reads becomes a constant.
pub fn record(
    tensors: &[(String, Tensor, bool)],
    x: &Tensor,
    pass: impl FnOnce(&Tensor) -> Tensor,
) -> Result<Recording> {
    let _no_grad = NoGrad::new();
    let names: Vec<_> = tensors.iter().map(|(name, ..)| name.clone()).collect();
    // Detached, they would be other tensors than those that the pass reads.
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

    /// The program as TorchScript, a file's bytes, with `about` as the extra file `heterodyne.json`. `counts` names the
    /// integers among the values that are the number of images times a factor; they follow the images from now on.
    pub fn torchscript(mut self, counts: &[(usize, i64)], about: &str) -> Result<Vec<u8>> {
        let (values, factors): (Vec<_>, Vec<_>) = counts.iter().copied().unzip();
        self.0.pin_mut().free_batch(&values, &factors)?;
        Ok(self.0.pin_mut().save(about)?.as_bytes().to_vec())
    }
}

/// A network in a file: TorchScript, or a package of compiled code.
///
/// What is loaded is a program that runs in this process; a compiled package is machine code with all of its rights.
pub struct Package(UniquePtr<bridge::Package>);

impl Package {
    /// Loads what `torch.jit.save` has written.
    pub fn torchscript(path: &Path, device: Device) -> Result<Self> {
        Ok(Self(bridge::load_torchscript(&path.display().to_string(), device_code(device))?))
    }

    /// Loads what `torch._inductor.aoti_compile_and_package` has written (PT2). It runs on the device that it was
    /// compiled for.
    pub fn compiled(path: &Path, device: Device) -> Result<Self> {
        stand_in::load().map_err(|e| crate::Error(format!("libtorch.so cannot be loaded for it ({e})")))?;
        Ok(Self(bridge::load_compiled(&path.display().to_string(), device_code(device))?))
    }

    /// The JSON that the file carries under the name `heterodyne`; empty without.
    pub fn about(&self) -> Result<String> {
        Ok(self.0.about()?)
    }

    /// Its outputs for images, in the program's order, under the names that it gives them; a single tensor, and the
    /// outputs of compiled code, have none (empty).
    pub fn run(&mut self, x: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let _no_grad = NoGrad::new();
        // SAFETY: the address is that of a live tensor.
        let outputs = unsafe { self.0.pin_mut().run(address(x))? };
        Ok(outputs.into_iter().map(|o| (o.name, take(o.tensor))).collect())
    }
}
