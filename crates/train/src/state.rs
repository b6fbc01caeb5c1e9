//! All that a run needs to continue as if it had not stopped: weights, heads, optimizer, average, generator and position.
//! Augmentation and shuffling depend on (seed, epoch, sample) only, so a position is enough for the data.
use std::{collections::HashMap, path::Path};

use heterodyne_nn::{Tensors, file};
use heterodyne_run::metrics::Eval;
use heterodyne_shim::Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, session::Session};

/// The safetensors metadata key that holds a [`Position`] as JSON.
const KEY: &str = "position";

/// Where a run stands, and what it has found so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Epochs that are complete, with their evaluation.
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
    /// The accuracy that chose it, on the held-out images where there are some.
    pub best_on: Option<f64>,
}

/// Writes a checkpoint; the one before stays until this one is whole.
pub fn save(path: &Path, s: &Session, position: &Position) -> Result<()> {
    let mut all = Tensors::new();
    let mut put = |room: &str, tensors: Tensors| all.extend(tensors.into_iter().map(|(name, t)| (format!("{room}/{name}"), t)));
    put("student", s.pair.student.store.tensors());
    put("heads", s.pair.objective.heads.tensors());
    put("optimizer", s.pair.optimizer.state());
    if let Some(ema) = &s.pair.ema {
        put("ema", ema.tensors());
    }
    put("rng", Tensors::from([("global".to_owned(), Rng::global(s.pair.student.device())?.state()?)]));
    let json = serde_json::to_string(position).map_err(|e| Error::State(e.to_string()))?;
    let metadata = HashMap::from([(KEY.to_owned(), json)]);
    Ok(file::write(path, all.iter().map(|(name, t)| (name.as_str(), t)), metadata)?)
}

/// Puts a checkpoint back into a freshly built session.
pub fn load(path: &Path, s: &Session) -> Result<Position> {
    let (all, metadata) = file::read(path)?;
    let json = metadata.get(KEY).ok_or_else(|| Error::State(format!("{} is no checkpoint of a run", path.display())))?;
    let position =
        serde_json::from_str(json).map_err(|e| Error::State(format!("{}: its position cannot be read ({e})", path.display())))?;
    let room = |room: &str| -> Tensors {
        let inside = |name: &String| name.strip_prefix(room).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned);
        all.iter().filter_map(|(name, t)| inside(name).map(|own| (own, t.shallow_clone()))).collect()
    };
    s.pair.student.store.load(&room("student"))?.strict("checkpoint, student")?;
    s.pair.objective.heads.load(&room("heads"))?.strict("checkpoint, heads of the methods")?;
    s.pair.optimizer.load_state(&room("optimizer"))?;
    if let Some(ema) = &s.pair.ema {
        ema.load(&room("ema"))?;
    }
    let rng = room("rng");
    let state = rng.get("global").ok_or_else(|| Error::State(format!("{} lacks the generator's state", path.display())))?;
    Rng::global(s.pair.student.device())?.set_state(state)?;
    Ok(position)
}
