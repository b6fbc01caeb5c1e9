//! What a run is computed from and with. It is stored at the run's start, so that the run can be repeated and compared.
use std::io::Read;

use heterodyne_run::{Machine, RunFolder, Versions, read_json, write_json_atomic};
use serde::{Deserialize, Serialize};

use crate::{Result, Session, cache::key, device, session::origin::Origin};

/// Bytes of the program that are read at once.
const PART: usize = 1 << 20;

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `train` or `distill`.
    pub command: String,
    /// Hashes of the recipe, the teacher, the classes and the images.
    pub origin: Origin,
    /// Hash of the weights with which the student starts, if the recipe names some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// The processes that computed the run: the one that started it, and those that continued it.
    pub processes: Vec<Process>,
}

/// One process of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Optimizer steps done before it.
    pub step: u64,
    /// Accepted changes since the process before it, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Versions of the software.
    pub versions: Versions,
    /// CRC-32 of the program's file; `None` if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// `cpu` or `cuda`.
    pub device: String,
    /// The machine.
    pub machine: Machine,
    /// Number of processes that computed together.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub ranks: u32,
}

fn one() -> u32 {
    1
}

fn is_one(ranks: &u32) -> bool {
    *ranks == 1
}

impl Manifest {
    /// The manifest of a run that `s` is about to start; the student has not been trained yet.
    ///
    /// # Errors
    /// The student's weights cannot be fetched from its device.
    pub fn of(s: &Session) -> Result<Self> {
        let student = &s.learner.student;
        let start = s.plan.recipe.student.weights.as_ref().map(|_| key::weights(student)).transpose()?;
        Ok(Self {
            command: s.plan.mode.name().to_owned(),
            origin: s.origin.clone(),
            start,
            processes: vec![Process::this(s, 0, Vec::new())],
        })
    }

    /// Reads a run's manifest; `None` for a run of a version that wrote none.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(folder: &RunFolder) -> Result<Option<Self>> {
        let path = folder.manifest();
        Ok(path.exists().then(|| read_json(&path)).transpose()?)
    }

    /// Stores it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, folder: &RunFolder) -> Result<()> {
        Ok(write_json_atomic(&folder.manifest(), self)?)
    }

    /// What has changed in `now`, the manifest of a run with the same plan, one line each; empty for equal inputs.
    #[must_use]
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let mut lines = self.origin.changes(&now.origin);
        if self.start != now.start {
            lines.push("the weights with which the student starts have changed".to_owned());
        }
        lines
    }
}

impl Process {
    /// This process, which begins at `step`.
    #[must_use]
    pub fn this(s: &Session, step: u64, changes: Vec<String>) -> Self {
        Self {
            step,
            changes,
            versions: crate::versions(),
            program: program(),
            device: device::name(s.learner.device()).to_owned(),
            machine: device::machine(s.learner.device()),
            ranks: s.world.size(),
        }
    }

    /// In which respects `now` computes with something else, one line each. None of them is an obstacle, and any of
    /// them may change the last bits of a result.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let pairs = [
            ("machine", self.machine.to_string(), now.machine.to_string()),
            ("processes", self.ranks.to_string(), now.ranks.to_string()),
        ];
        self.software(now).into_iter().chain(lines(pairs.into_iter())).collect()
    }

    /// The same for the software and the kind of device.
    #[must_use]
    pub fn software(&self, now: &Self) -> Vec<String> {
        let Versions { heterodyne, libtorch } = &self.versions;
        let program = match (&self.program, &now.program) {
            (Some(then), Some(now)) if then != now => {
                Some(("program", "another build".to_owned(), "this one".to_owned()))
            }
            _ => None,
        };
        let pairs = [
            ("heterodyne", heterodyne.clone(), now.versions.heterodyne.clone()),
            ("libtorch", libtorch.clone(), now.versions.libtorch.clone()),
            ("device", self.device.clone(), now.device.clone()),
        ];
        lines(pairs.into_iter().chain(program)).collect()
    }
}

/// Each pair that differs in a line.
fn lines(pairs: impl Iterator<Item = (&'static str, String, String)>) -> impl Iterator<Item = String> {
    pairs.filter(|(_, then, now)| then != now).map(|(what, then, now)| format!("{what}: {then} then, {now} now"))
}

/// The checksum of the running program's file, which tells one build from another.
fn program() -> Option<String> {
    let mut file = std::fs::File::open(std::env::current_exe().ok()?).ok()?;
    let (mut sum, mut part) = (crc32fast::Hasher::new(), vec![0; PART]);
    loop {
        match file.read(&mut part).ok()? {
            0 => return Some(format!("{:08x}", sum.finalize())),
            count => sum.update(&part[..count]),
        }
    }
}
