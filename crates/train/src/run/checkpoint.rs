//! Everything that a run needs to continue as if it had not stopped: weights, heads, optimizer, average, random
//! generator and position. Augmentation and shuffling depend only on (seed, epoch, sample), so the position is enough
//! to resume the data.
use std::{collections::HashMap, path::Path};

use heterodyne_nn::{Tensors, file};
use heterodyne_run::{
    metrics::{Eval, Extent},
    summary::{Detail, TeacherScore},
};
use heterodyne_shim::Rng;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::measure::Answers;
use crate::{
    Error, Result, device,
    network::values,
    session::{Session, origin::Origin},
};

/// The safetensors metadata key that holds a [`Position`] as JSON.
const KEY: &str = "position";
/// The metadata key that holds the [`Origin`] as JSON.
const ORIGIN: &str = "origin";

/// The progress of a run and its results so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Completed epochs, including their evaluations, if any.
    pub epoch: u32,
    /// Batches done in the current epoch.
    pub batch: usize,
    /// Optimizer steps done.
    pub step: u64,
    /// Wall time of training so far, in seconds.
    pub seconds: f64,
    /// Images trained on so far.
    pub images: u64,
    /// The last evaluation.
    pub last: Option<Eval>,
    /// The test evaluation of the best epoch.
    pub best: Option<Eval>,
    /// The accuracy that selected the best epoch, on the held-out images if there are any.
    pub best_on: Option<f64>,
    /// How well the teacher knew the data before the run.
    #[serde(default)]
    pub teacher: Option<TeacherScore>,
    /// The teacher's predictions in that check.
    #[serde(default)]
    pub answers: Option<Answers>,
    /// What the last evaluation shows besides its accuracy.
    #[serde(default)]
    pub detail: Option<Detail>,
    /// The extent of the metrics file.
    #[serde(default)]
    pub metrics: Option<Extent>,
}

/// The result of [`load`].
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Where the run continues.
    pub position: Position,
    /// Accepted changes since the checkpoint was written, or why they are unknown.
    pub notes: Vec<String>,
}

/// Writes a checkpoint; of several processes, rank 0 does. The previous one is kept until this one is complete, and if
/// the weights have diverged.
pub fn save(path: &Path, s: &Session, position: &Position) -> Result<()> {
    let device = s.learner.device();
    let generators = s.world.gather_bytes(&Rng::global(device)?.state()?)?;
    let heads = whole(s)?;
    if !s.world.leads() {
        return Ok(());
    }
    let mut all = Tensors::new();
    let mut put =
        |room: &str, tensors: Tensors| all.extend(tensors.into_iter().map(|(name, t)| (format!("{room}/{name}"), t)));
    let diverged = |of: &str, tensors: &Tensors| {
        values::flaw(tensors)?
            .map_or(Ok(()), |flaw| Err(Error::Diverged { step: position.step, flaw: format!("{flaw} ({of})") }))
    };
    diverged("the student", &s.learner.student.store.tensors())?;
    diverged("the heads of the methods", &s.learner.loss.heads.tensors())?;
    put("student", s.learner.student.store.tensors());
    put("heads", heads);
    put("optimizer", s.learner.optimizer.state());
    if let Some(ema) = &s.learner.ema {
        put("ema", ema.tensors());
    }
    if let Some(scaler) = &s.learner.scaler {
        put("scaler", scaler.state());
    }
    let named = generators.into_iter().enumerate().map(|(rank, state)| (generator(device, rank as u32), state));
    put("rng", named.collect());
    let json = serde_json::to_string(position).map_err(|e| Error::State(e.to_string()))?;
    let origin = serde_json::to_string(&s.origin).map_err(|e| Error::State(e.to_string()))?;
    let metadata = HashMap::from([(KEY.to_owned(), json), (ORIGIN.to_owned(), origin)]);
    Ok(file::write(path, all.iter().map(|(name, t)| (name.as_str(), t)), metadata)?)
}

/// The methods' heads, with the rows of all processes where this one has a part.
fn whole(s: &Session) -> Result<Tensors> {
    let mut heads = s.learner.loss.heads.tensors();
    for (name, rows) in s.learner.loss.heads.parts() {
        if let Some(own) = heads.get_mut(&name) {
            *own = s.world.join(own, rows as usize)?;
        }
    }
    Ok(heads)
}

/// The opposite of [`whole`].
fn own_parts(s: &Session, mut heads: Tensors) -> Result<Tensors> {
    for (name, rows) in s.learner.loss.heads.parts() {
        let part = s.world.part(rows as usize);
        if let Some(all) = heads.get_mut(&name).filter(|all| all.size()[0] == rows) {
            *all = all.f_narrow(0, part.start as i64, part.len() as i64)?;
        }
    }
    Ok(heads)
}

/// The seed of a process's generator for dropout: each process draws its own.
#[must_use]
pub fn seed_of(seed: u64, rank: u32) -> u64 {
    seed.wrapping_add(u64::from(rank).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The name of a process's random generator.
fn generator(device: Device, rank: u32) -> String {
    let device = device::name(device);
    if rank == 0 { device.to_owned() } else { format!("{device}.{rank}") }
}

/// Restores a checkpoint into a newly built session, which must match the checkpoint's [`Origin`] unless
/// [`Session::accept_changes`] is set.
pub fn load(path: &Path, s: &Session) -> Result<Loaded> {
    let (all, metadata) = file::read(path)?;
    let json =
        metadata.get(KEY).ok_or_else(|| Error::State(format!("{} is not a checkpoint of a run", path.display())))?;
    let position: Position = serde_json::from_str(json)
        .map_err(|e| Error::State(format!("{}: its position cannot be read ({e})", path.display())))?;
    let mut notes = match metadata.get(ORIGIN) {
        None => vec!["the checkpoint does not record its teacher and data, so they are not compared".to_owned()],
        Some(json) => {
            let origin: Origin = serde_json::from_str(json)
                .map_err(|e| Error::State(format!("{}: its origin cannot be read ({e})", path.display())))?;
            origin.changes(&s.origin)
        }
    };
    if metadata.contains_key(ORIGIN) && !notes.is_empty() && !s.accept_changes {
        return Err(Error::Changed { path: path.to_owned(), changes: notes });
    }
    let room = |room: &str| -> Tensors {
        let inside = |name: &String| name.strip_prefix(room).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned);
        all.iter().filter_map(|(name, t)| inside(name).map(|own| (own, t.shallow_clone()))).collect()
    };
    s.learner.student.store.load(&room("student"))?.strict("checkpoint, student")?;
    s.learner.loss.heads.load(&own_parts(s, room("heads"))?)?.strict("checkpoint, heads of the methods")?;
    s.learner.optimizer.load_state(&room("optimizer"))?;
    if let Some(ema) = &s.learner.ema {
        ema.load(&room("ema"))?;
    }
    if let Some(scaler) = &s.learner.scaler {
        scaler.load_state(&room("scaler"))?;
    }
    let (own, saved, device) = (Rng::global(s.learner.device())?, room("rng"), s.learner.device());
    match saved.get(&generator(device, s.world.rank())) {
        Some(state) if saved.len() == s.world.size() as usize => own.set_state(state)?,
        _ => {
            own.seed(seed_of(s.plan.recipe.seed.wrapping_add(position.step), s.world.rank()))?;
            let what = if saved.contains_key(&generator(device, 0)) {
                format!("the checkpoint is from {} processes, not {}", saved.len(), s.world.size())
            } else {
                "the checkpoint is from another kind of device".to_owned()
            };
            notes.push(format!(
                "{what}: the random generator of dropout starts anew, so the result differs from that of an \
                 uninterrupted run"
            ));
        }
    }
    Ok(Loaded { position, notes })
}
