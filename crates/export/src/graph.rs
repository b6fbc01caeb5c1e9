//! A network's forward pass as a graph for any batch size.
//!
//! libtorch's tracer bakes in the batch size. The network is traced with two batch sizes; both traces have the same
//! steps, and any integer that differs between them is a multiple of the batch size.
use std::{collections::BTreeMap, path::Path};

use heterodyne_models::Model;
use heterodyne_nn::{Error, Pass, Result, Role, catch};
use heterodyne_shim::{
    flops,
    script::{Program, Recording, Value, record},
};
use tch::{Kind, Tensor};

/// Batch sizes of the two traces.
const FIRST: i64 = 2;
const SECOND: i64 = 3;

/// The forward pass of a network in evaluation mode as libtorch operators: images (B,3,H,W) to logits (B,classes).
pub struct Graph {
    recording: Recording,
    /// The first trace.
    pub program: Program,
    /// For each integer that is a multiple of the batch size: the factor.
    pub counts: BTreeMap<usize, i64>,
    /// The sizes of each computed tensor.
    pub sizes: BTreeMap<usize, Vec<Size>>,
}

/// A tensor's size along one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A fixed size.
    Fixed(i64),
    /// A multiple of the batch size.
    PerImage(i64),
}

impl Graph {
    /// Traces `model` in evaluation mode, on the device and in the kind of its weights.
    pub fn of(model: &Model) -> Result<Self> {
        let (recording, program) = pass(model, FIRST)?;
        let (_, second) = pass(model, SECOND)?;
        if program.steps != second.steps
            || program.values.len() != second.values.len()
            || program.output != second.output
        {
            return Err(unexportable(model, "its steps depend on the batch size"));
        }
        let (mut counts, mut sizes) = (BTreeMap::new(), BTreeMap::new());
        for (i, (a, b)) in program.values.iter().zip(&second.values).enumerate() {
            match (a, b) {
                (Value::Computed(a), Value::Computed(b)) if a.len() == b.len() => {
                    let both = a.iter().zip(b).map(|(&a, &b)| size(a, b)).collect::<Option<_>>();
                    sizes.insert(
                        i,
                        both.ok_or_else(|| unexportable(model, "a size is not a multiple of the batch size"))?,
                    );
                }
                (Value::Int(a), Value::Int(b)) => match size(*a, *b) {
                    Some(Size::Fixed(_)) => {}
                    Some(Size::PerImage(factor)) => drop(counts.insert(i, factor)),
                    None => return Err(unexportable(model, "a number is not a multiple of the batch size")),
                },
                (a, b) if a == b => {}
                _ => return Err(unexportable(model, "a constant depends on the batch size")),
            }
        }
        Ok(Self { recording, program, counts, sizes })
    }

    /// Writes the graph as TorchScript, with `about` as the extra file `heterodyne.json`.
    pub fn save(self, path: &Path, about: &str) -> Result<()> {
        let counts: Vec<_> = self.counts.into_iter().collect();
        let bytes = self.recording.torchscript(&counts, about)?;
        std::fs::write(path, bytes).map_err(|e| Error::file(path, format!("cannot be written ({e})")))
    }
}

/// Classifies a size or number that is `a` for [`FIRST`] and `b` for [`SECOND`] images.
fn size(a: i64, b: i64) -> Option<Size> {
    if a == b {
        return Some(Size::Fixed(a));
    }
    (a % FIRST == 0 && a / FIRST * SECOND == b).then_some(Size::PerImage(a / FIRST))
}

fn pass(model: &Model, images: i64) -> Result<(Recording, Program)> {
    let tensors: Vec<_> =
        model.store.entries().into_iter().map(|(name, t, role)| (name, t, role != Role::Buffer)).collect();
    let x = Tensor::f_zeros([images, 3, model.img, model.img], (Kind::Float, model.store.device()))?;
    catch(
        || format!("tracing {}", model.def.name),
        || {
            let _plain = flops::Plain::begin();
            let recording = record(&tensors, &x, |x| model.net.forward(x, Pass::EVAL).logits)?;
            let program = recording.program()?;
            Ok((recording, program))
        },
    )
}

fn unexportable(model: &Model, why: &str) -> Error {
    Error::invalid(format!("{} cannot be exported as a graph: {why}", model.def.name))
}
