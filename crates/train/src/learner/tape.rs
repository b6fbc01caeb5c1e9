//! Runs work that is equal in every step from a recording: on a GPU as a CUDA graph, whose kernels are launched
//! together instead of one by one.
use heterodyne_shim::{
    NoGrad,
    graph::{Graph, Pool},
};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// Times that work runs unrecorded: cuDNN chooses its algorithms and memory is allocated in the first ones.
pub const WARM_UP: u32 = 3;

/// What work makes: tensors, with something around them.
pub trait Made {
    /// The tensors.
    fn tensors(&self) -> Vec<&Tensor>;

    /// The same with handles, not copies.
    fn handles(&self) -> Self;
}

/// What a recording depends on: the work's variant, and kind and shape of each input.
type Key = (Vec<bool>, Vec<(Kind, Vec<i64>)>);

/// Recordings of one piece of work, one for each variant and shape that occurs.
pub struct Tapes<T> {
    tapes: Vec<(Key, Tape<T>)>,
}

enum Tape<T> {
    /// Runs so far.
    WarmingUp(u32),
    Recorded {
        inputs: Vec<Tensor>,
        made: T,
        /// `None` on a CPU, where the work runs again on the same inputs.
        graph: Option<Graph>,
    },
}

impl<T> Default for Tapes<T> {
    fn default() -> Self {
        Self { tapes: Vec::new() }
    }
}

impl<T: Made> Tapes<T> {
    /// What `work` makes of `inputs`, all on one device. The result of a recorded run is overwritten by the next one.
    /// `work` must depend on nothing else than `variant`, the inputs' values, and tensors that keep their place.
    /// Recordings of another variant are dropped.
    ///
    /// # Errors
    /// `work` fails, or it cannot be recorded because it needs a value on the host.
    pub fn run(
        &mut self,
        pool: Option<&Pool>,
        variant: &[bool],
        inputs: &[Tensor],
        work: impl Fn(&[Tensor]) -> Result<T>,
    ) -> Result<T> {
        self.tapes.retain(|((of, _), _)| of == variant);
        let shapes: Vec<_> = inputs.iter().map(|t| (t.kind(), t.size())).collect();
        let known = self.tapes.iter().position(|((_, of), _)| *of == shapes);
        let number = known.unwrap_or_else(|| {
            self.tapes.push(((variant.to_vec(), shapes), Tape::WarmingUp(0)));
            self.tapes.len() - 1
        });
        let tape = &mut self.tapes[number].1;
        match tape {
            Tape::WarmingUp(runs) if *runs < WARM_UP => {
                *runs += 1;
                work(inputs)
            }
            Tape::WarmingUp(_) => {
                *tape = Tape::record(pool, inputs, work)?;
                tape.result()
            }
            Tape::Recorded { inputs: own, made, graph } => {
                fill(own, inputs)?;
                match graph {
                    Some(graph) => graph.launch()?,
                    None => fill(&made.tensors(), &work(own)?.tensors())?,
                }
                tape.result()
            }
        }
    }
}

impl<T: Made> Tape<T> {
    fn record(pool: Option<&Pool>, inputs: &[Tensor], work: impl Fn(&[Tensor]) -> Result<T>) -> Result<Self> {
        // These tensors become the place of later inputs. What another recording makes is then in place already.
        let inputs: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
        let (graph, made) = match pool {
            Some(pool) => {
                let (graph, made) = Graph::record(pool, || work(&inputs)).map_err(|e| {
                    Error::Plan(format!("the step cannot be recorded: {e}\n  hint: set train.graph = false"))
                })?;
                graph.launch()?;
                (Some(graph), made)
            }
            None => (None, work(&inputs)?),
        };
        Ok(Self::Recorded { inputs, made, graph })
    }

    fn result(&self) -> Result<T> {
        match self {
            Self::Recorded { made, .. } => Ok(made.handles()),
            Self::WarmingUp(_) => Err(Error::State("the step has not been recorded".to_owned())),
        }
    }
}

/// Copies values to where a recording expects them; a tensor that is there already stays.
fn fill<A: std::borrow::Borrow<Tensor>, B: std::borrow::Borrow<Tensor>>(to: &[A], from: &[B]) -> Result<()> {
    let _guard = NoGrad::new();
    for (to, from) in to.iter().zip(from) {
        let (to, from) = (to.borrow(), from.borrow());
        if to.data_ptr() != from.data_ptr() {
            to.shallow_clone().f_copy_(from).map_err(heterodyne_nn::Error::from)?;
        }
    }
    Ok(())
}

/// Numbers on `device`, float32 on a GPU and float64 on a CPU; the host does not wait.
pub fn numbers(values: &[f64], device: Device) -> Result<Tensor> {
    let host = Tensor::from_slice(values);
    if device == Device::Cpu {
        return Ok(host);
    }
    let upload = || host.to_kind(Kind::Float).f_pin_memory(device)?.f_to_device_(device, Kind::Float, true, false);
    Ok(upload().map_err(heterodyne_nn::Error::from)?)
}
