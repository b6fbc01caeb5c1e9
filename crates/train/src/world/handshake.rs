//! Checks before the first step that all processes compute the same run.
use serde::{Deserialize, Serialize};

use super::World;
use crate::{Error, Result, run::manifest::Process, session::origin::Origin};

/// What all processes must agree in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Hashes of recipe, teacher, classes and images.
    pub origin: Origin,
    /// Hash of the weights with which the student starts, if the recipe names some.
    pub start: Option<String>,
    /// The software and the machine.
    pub process: Process,
}

impl Facts {
    /// How `other` differs in what a result depends on, one line each.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = self.origin.changes(&other.origin);
        if self.start != other.start {
            lines.push("the weights with which the student starts differ".to_owned());
        }
        lines.extend(self.process.software(&other.process));
        lines
    }
}

impl World {
    /// Compares the facts of all processes with those of rank 0.
    ///
    /// # Errors
    /// A process differs; the error names it and the difference. Or one cannot be reached.
    pub fn shake_hands(&self, own: &Facts) -> Result<()> {
        let Some(member) = &self.0 else { return Ok(()) };
        let (group, launch) = (&member.group, &member.launch);
        let state = |e: serde_json::Error| Error::State(e.to_string());
        group.put(&format!("facts/{}", launch.rank), &serde_json::to_string(own).map_err(state)?)?;
        let mut lines = Vec::new();
        let mut first: Option<Facts> = None;
        for rank in 0..launch.size {
            let facts: Facts = serde_json::from_str(&member.told_by(rank, "facts")?).map_err(state)?;
            let Some(first) = &first else {
                first = Some(facts);
                continue;
            };
            lines.extend(first.differences(&facts).into_iter().map(|line| format!("rank {rank}: {line}")));
        }
        if lines.is_empty() {
            return Ok(());
        }
        Err(Error::Ranks(format!(
            "the ranks do not compute the same run (\"then\" and \"was\" are rank 0's):\n  {}\n  hint: give all ranks \
             the same recipe, data, weights and program",
            lines.join("\n  ")
        )))
    }
}
