//! The machine that computes a run.
use std::fmt;

use serde::{Deserialize, Serialize};

/// What the results of a run depend on to the last bit, besides its inputs and the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name, as the system reports it.
    pub processor: String,
    /// The instructions that the kernels use, as in `HETERODYNE_CPU`.
    pub instructions: String,
    /// Threads of an operation on the CPU.
    pub threads: usize,
    /// The GPU that computes, with its driver and the version of CUDA; `None` on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { processor, instructions, threads, gpu } = self;
        gpu.iter().try_for_each(|gpu| write!(f, "{gpu}, "))?;
        let plural = if *threads == 1 { "" } else { "s" };
        write!(f, "{processor} ({instructions}), {threads} thread{plural}")
    }
}
