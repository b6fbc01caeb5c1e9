//! SGD and AdamW with one fused call per group (with or without weight decay) and a state that can be saved.
use heterodyne_nn::{Role, Tensors};
use heterodyne_run::recipe::schema::{Optim, OptimName};
use heterodyne_shim::{self as shim, Rate};
use tch::{Kind, Tensor};

use crate::{Error, Result};

/// Parameters with the same weight decay, and the optimizer's state for each.
#[derive(Debug)]
struct Group {
    weight_decay: f64,
    names: Vec<String>,
    params: Vec<Tensor>,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Sgd { momenta: Vec<Tensor> },
    AdamW { exp_avgs: Vec<Tensor>, exp_avg_sqs: Vec<Tensor>, steps: Vec<Tensor> },
}

/// The optimizer of a run, for the parameters of the student and of the methods' heads.
#[derive(Debug)]
pub struct Optimizer {
    config: Optim,
    groups: Vec<Group>,
    all: Vec<Tensor>,
}

impl Optimizer {
    /// Groups the parameters by role: norms, biases, tokens and position embeddings do not decay unless
    /// `optim.decay_all` is set.
    pub fn new(config: &Optim, parameters: Vec<(String, Tensor, Role)>) -> Result<Self> {
        let all = parameters.iter().map(|(_, t, _)| t.shallow_clone()).collect();
        let (decay, plain): (Vec<_>, Vec<_>) =
            parameters.into_iter().partition(|(_, _, role)| config.decay_all || *role == Role::Decay);
        let groups = [(decay, config.weight_decay), (plain, 0.0)]
            .into_iter()
            .filter(|(params, _)| !params.is_empty())
            .map(|(params, weight_decay)| Group::new(config.name, params, weight_decay))
            .collect::<Result<_>>()?;
        Ok(Self { config: config.clone(), groups, all })
    }

    /// All trained parameters.
    pub fn parameters(&self) -> &[Tensor] {
        &self.all
    }

    /// Names of the parameters, each with its tensor.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.groups.iter().flat_map(|g| g.names.iter().map(String::as_str).zip(&g.params))
    }

    /// Names of the parameters that no gradient has reached: the loss does not depend on them.
    #[must_use]
    pub fn without_gradient(&self) -> Vec<&str> {
        self.named().filter(|(_, parameter)| !parameter.grad().defined()).map(|(name, _)| name).collect()
    }

    /// Updates all parameters; changes nothing if `found_inf` (a float32 scalar on the device) is 1.
    pub fn step(&self, lr: Rate, found_inf: &Tensor) -> Result<()> {
        let c = &self.config;
        for g in &self.groups {
            match &g.memory {
                Memory::Sgd { momenta } => {
                    let h = shim::Sgd {
                        lr,
                        momentum: c.momentum,
                        weight_decay: g.weight_decay,
                        nesterov: c.nesterov && c.momentum > 0.0,
                    };
                    shim::sgd_step(&g.params, momenta, found_inf, h)?;
                }
                Memory::AdamW { exp_avgs, exp_avg_sqs, steps } => {
                    let h = shim::AdamW {
                        lr,
                        beta1: c.betas[0],
                        beta2: c.betas[1],
                        weight_decay: g.weight_decay,
                        eps: c.eps,
                    };
                    shim::adamw_step(&g.params, exp_avgs, exp_avg_sqs, steps, found_inf, h)?;
                }
            }
        }
        Ok(())
    }

    /// The state under `slot/parameter` names, as handles, not copies.
    #[must_use]
    pub fn state(&self) -> Tensors {
        let mut out = Tensors::new();
        for g in &self.groups {
            for (slot, tensors) in g.memory.slots() {
                out.extend(g.names.iter().zip(tensors).map(|(name, t)| (format!("{slot}/{name}"), t.shallow_clone())));
            }
        }
        out
    }

    /// Restores a saved state; names and shapes must match exactly.
    pub fn load_state(&self, saved: &Tensors) -> Result<()> {
        let _guard = shim::NoGrad::new();
        let own = self.state();
        if own.len() != saved.len() {
            return Err(Error::State(format!(
                "the optimizer has {} tensors, the checkpoint {}",
                own.len(),
                saved.len()
            )));
        }
        for (name, tensor) in &own {
            match saved.get(name) {
                Some(t) if t.size() == tensor.size() => {
                    tensor.shallow_clone().f_copy_(t).map_err(heterodyne_nn::Error::from)?
                }
                Some(t) => {
                    return Err(Error::State(format!(
                        "`{name}` has shape {:?} in the checkpoint and {:?} here",
                        t.size(),
                        tensor.size()
                    )));
                }
                None => return Err(Error::State(format!("the checkpoint lacks the optimizer's `{name}`"))),
            }
        }
        Ok(())
    }
}

impl Group {
    fn new(name: OptimName, params: Vec<(String, Tensor, Role)>, weight_decay: f64) -> Result<Self> {
        let (names, params): (Vec<_>, Vec<_>) = params.into_iter().map(|(name, t, _)| (name, t)).unzip();
        let zeros = || params.iter().map(|p| Ok(p.detach().f_zeros_like()?)).collect::<heterodyne_nn::Result<Vec<_>>>();
        let memory = match name {
            OptimName::Sgd => Memory::Sgd { momenta: zeros()? },
            OptimName::Adamw => {
                let steps = params.iter().map(|p| Tensor::zeros([], (Kind::Float, p.device()))).collect();
                Memory::AdamW { exp_avgs: zeros()?, exp_avg_sqs: zeros()?, steps }
            }
        };
        Ok(Self { weight_decay, names, params, memory })
    }
}

impl Memory {
    fn slots(&self) -> Vec<(&'static str, &[Tensor])> {
        match self {
            Self::Sgd { momenta } => vec![("momentum", momenta)],
            Self::AdamW { exp_avgs, exp_avg_sqs, steps } => {
                vec![("exp_avg", exp_avgs), ("exp_avg_sq", exp_avg_sqs), ("step", steps)]
            }
        }
    }
}

/// Scales all gradients to a total 2-norm of at most `max_norm`, on the device (`torch.nn.utils.clip_grad_norm_`).
pub fn clip(params: &[Tensor], norm: &Tensor, max_norm: f64) -> Result<()> {
    let factor = (max_norm / (norm + 1e-6)).clamp_max(1.0);
    Ok(shim::grad_scale(params, &factor)?)
}
