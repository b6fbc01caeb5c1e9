//! Parameters and buffers under their checkpoint names, in the order of construction.
use std::{cell::RefCell, ops::Range};

use heterodyne_shim::{NoGrad, Rng};
use indexmap::IndexMap;
use tch::{Device, Kind, Tensor};

use crate::{Error, Init, LoadReport, Result, Tensors};

/// How the optimizer treats an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Trained with weight decay.
    Decay,
    /// Trained without weight decay: norms, biases, position embeddings and tokens.
    NoDecay,
    /// Not trained: running statistics.
    Buffer,
}

/// One named tensor of a network.
#[derive(Debug)]
pub struct Entry {
    /// Shares its storage with the layer that uses it.
    pub tensor: Tensor,
    /// How the optimizer treats it.
    pub role: Role,
}

/// The parameters and buffers of one network, and their device. Names are unique; the order is that of construction.
#[derive(Debug)]
pub struct ParamStore {
    entries: RefCell<IndexMap<String, Entry>>,
    /// In a deferred store: the parameters without values yet.
    uninitialised: Option<RefCell<IndexMap<String, Init>>>,
    /// Buffers of which other processes have the other rows, with the number of all rows.
    parts: RefCell<Vec<(String, i64)>>,
    rng: Rng,
    seed: u64,
    device: Device,
    kind: Kind,
}

impl ParamStore {
    /// An empty float32 store whose initialisers draw from their own stream.
    #[must_use]
    pub fn new(device: Device, seed: u64) -> Self {
        Self::with_kind(device, Kind::Float, seed)
    }

    /// As [`ParamStore::new`], in another floating-point kind (float64 for gradient checks).
    #[must_use]
    pub fn with_kind(device: Device, kind: Kind, seed: u64) -> Self {
        let (entries, parts) = (RefCell::default(), RefCell::default());
        Self { entries, uninitialised: None, parts, rng: Rng::new(seed), seed, device, kind }
    }

    /// Makes this empty store expect loaded weights: parameters hold no meaningful values until [`ParamStore::load`] or
    /// [`ParamStore::draw`] sets them.
    #[must_use]
    pub fn deferred(self) -> Self {
        Self { uninitialised: Some(RefCell::default()), ..self }
    }

    /// Draws the parameters that a deferred store has not loaded, in the order of construction.
    pub fn draw(&self) -> Result<()> {
        let Some(uninitialised) = &self.uninitialised else { return Ok(()) };
        let _guard = NoGrad::new();
        for (name, init) in uninitialised.borrow_mut().drain(..) {
            let mut tensor = self.entries.borrow()[&name].tensor.shallow_clone();
            tensor.f_copy_(&self.drawn(&tensor.size(), init)?)?;
        }
        Ok(())
    }

    /// Draws on the CPU, so every device starts from the same weights.
    fn drawn(&self, shape: &[i64], init: Init) -> Result<Tensor> {
        let tensor = Tensor::f_empty(shape, (self.kind, Device::Cpu))?;
        init.fill(&tensor, &self.rng)?;
        Ok(tensor)
    }

    /// The scope without a prefix.
    #[must_use]
    pub fn root(&self) -> Scope<'_> {
        Scope { store: self, prefix: String::new() }
    }

    /// The device of the tensors.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// All entries in order, as (name, handle, role). The handles share storage with the network.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, Tensor, Role)> {
        self.entries.borrow().iter().map(|(name, e)| (name.clone(), e.tensor.shallow_clone(), e.role)).collect()
    }

    /// The trained entries in order.
    #[must_use]
    pub fn parameters(&self) -> Vec<(String, Tensor, Role)> {
        self.entries().into_iter().filter(|(_, _, role)| *role != Role::Buffer).collect()
    }

    /// Parameters and buffers as in a weights file; handles, not copies.
    #[must_use]
    pub fn tensors(&self) -> Tensors {
        self.entries().into_iter().map(|(name, tensor, _)| (name, tensor)).collect()
    }

    /// The buffers of which this process has a part of the rows only, with the number of all rows.
    #[must_use]
    pub fn parts(&self) -> Vec<(String, i64)> {
        self.parts.borrow().clone()
    }

    /// Number of trained values.
    #[must_use]
    pub fn num_parameters(&self) -> usize {
        self.parameters().iter().map(|(_, t, _)| t.numel()).sum()
    }

    /// Freezes all parameters, as for a teacher.
    pub fn freeze(&self) {
        for (_, tensor, _) in self.parameters() {
            let _ = tensor.set_requires_grad(false);
        }
    }

    /// Copies the tensors whose names and shapes agree and reports the rest. Matching tensors are copied even if the
    /// report is not clean; call [`LoadReport::strict`] on the result to require a full match.
    pub fn load(&self, tensors: &Tensors) -> Result<LoadReport> {
        let _guard = NoGrad::new();
        let entries = self.entries.borrow();
        let mut report = LoadReport::default();
        for (name, entry) in entries.iter() {
            match tensors.get(name) {
                None => report.missing.push(name.clone()),
                Some(t) if t.size() != entry.tensor.size() => {
                    report.mismatched.push((name.clone(), t.size(), entry.tensor.size()))
                }
                Some(t) => {
                    entry.tensor.shallow_clone().f_copy_(t)?;
                    if let Some(uninitialised) = &self.uninitialised {
                        uninitialised.borrow_mut().shift_remove(name);
                    }
                    report.loaded += 1;
                }
            }
        }
        for name in tensors.keys().filter(|name| !entries.contains_key(*name)) {
            // PyTorch's counter of batches in a batch norm; nothing here reads it.
            if !name.ends_with("num_batches_tracked") {
                report.unexpected.push(name.clone());
            }
        }
        Ok(report)
    }

    fn insert(&self, name: String, tensor: Tensor, role: Role) -> Result<Tensor> {
        let mut entries = self.entries.borrow_mut();
        if entries.contains_key(&name) {
            return Err(Error::Duplicate(name));
        }
        let handle = tensor.shallow_clone();
        entries.insert(name, Entry { tensor, role });
        Ok(handle)
    }
}

/// A name prefix in a [`ParamStore`].
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    store: &'a ParamStore,
    prefix: String,
}

impl<'a> Scope<'a> {
    /// The scope `name` inside this one; `name` may be an index.
    #[must_use]
    pub fn sub(&self, name: impl std::fmt::Display) -> Self {
        Self { store: self.store, prefix: self.join(&name.to_string()) }
    }

    /// Creates a parameter. Tensors of two or more dimensions decay; vectors and scalars do not.
    pub fn param(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let role = if shape.len() >= 2 { Role::Decay } else { Role::NoDecay };
        self.param_as(name, shape, init, role)
    }

    /// Creates a parameter that never decays (class token, position embedding).
    pub fn param_no_decay(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        self.param_as(name, shape, init, Role::NoDecay)
    }

    /// Creates a buffer filled with a constant.
    pub fn buffer(&self, name: &str, shape: &[i64], value: f64) -> Result<Tensor> {
        let tensor = Tensor::f_full(shape, value, (self.store.kind, self.store.device))?;
        self.store.insert(self.join(name), tensor, Role::Buffer)
    }

    /// Creates a buffer drawn by `init`.
    pub fn buffer_drawn(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let tensor = self.store.drawn(shape, init)?.f_to(self.store.device)?;
        self.store.insert(self.join(name), tensor, Role::Buffer)
    }

    /// The rows `rows` of such a buffer; other processes have the others. The drawn values are those of the whole
    /// buffer.
    pub fn buffer_part(&self, name: &str, shape: &[i64], init: Init, rows: Range<i64>) -> Result<Tensor> {
        let whole = self.store.drawn(shape, init)?;
        let own = whole.f_narrow(0, rows.start, rows.end - rows.start)?.copy().f_to(self.store.device)?;
        self.store.parts.borrow_mut().push((self.join(name), shape[0]));
        self.store.insert(self.join(name), own, Role::Buffer)
    }

    /// The device of this scope's tensors.
    #[must_use]
    pub fn device(&self) -> Device {
        self.store.device
    }

    /// The floating-point kind of this scope's parameters.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.store.kind
    }

    /// The seed of the store, for layers that also draw random numbers during training.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.store.seed
    }

    fn param_as(&self, name: &str, shape: &[i64], init: Init, role: Role) -> Result<Tensor> {
        let name = self.join(name);
        let mut tensor = match &self.store.uninitialised {
            None => self.store.drawn(shape, init)?,
            Some(uninitialised) => {
                uninitialised.borrow_mut().insert(name.clone(), init);
                Tensor::f_empty(shape, (self.store.kind, Device::Cpu))?
            }
        };
        if shape.len() == 4 {
            tensor = heterodyne_shim::channels_last(&tensor)?;
        }
        let tensor = tensor.f_to(self.store.device)?.set_requires_grad(true);
        self.store.insert(name, tensor, role)
    }

    fn join(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }
}
