//! The environment in which torchrun, Slurm scripts and Kubernetes operators start the processes of a run.
use std::env;

use crate::{Error, Result};

/// This process among those that were launched together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its number, from 0 (`RANK`).
    pub rank: u32,
    /// Number of processes (`WORLD_SIZE`).
    pub size: u32,
    /// Its number among those of its machine (`LOCAL_RANK`, 0 if not set), which selects its GPU.
    pub local_rank: u32,
    /// Number of processes on its machine (`LOCAL_WORLD_SIZE`, 1 if not set), which share the cores.
    pub local_size: u32,
    /// Where the processes meet (`MASTER_ADDR`).
    pub host: String,
    /// The port there (`MASTER_PORT`).
    pub port: u16,
    /// Whether rank 0 serves the meeting point; torchrun does it itself (`TORCHELASTIC_USE_AGENT_STORE`).
    pub serves: bool,
    /// How often the launcher has started the processes again (`TORCHELASTIC_RESTART_COUNT`, 0 if not set).
    pub attempt: u32,
}

impl Launch {
    /// Reads the process's environment; `None` for a process of its own.
    ///
    /// # Errors
    /// A variable is missing or not a number in its range.
    pub fn from_env() -> Result<Option<Self>> {
        Self::of(|name| env::var(name).ok())
    }

    /// The same from any source of variables.
    ///
    /// # Errors
    /// As [`Launch::from_env`].
    pub fn of(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let wrong = |message: String| {
            Error::Ranks(format!(
                "{message}\n  hint: start the processes with torchrun, or set RANK, WORLD_SIZE, MASTER_ADDR and \
                 MASTER_PORT for each of them; unset them all to run alone"
            ))
        };
        let number = |name: &str| {
            let text = get(name).filter(|text| !text.is_empty());
            let parse = |text: String| {
                text.trim().parse::<u32>().map_err(|_| wrong(format!("{name} is \"{text}\", which is not a number")))
            };
            text.map(parse).transpose()
        };
        let (rank, size) = match (number("RANK")?, number("WORLD_SIZE")?) {
            (None, None) => return Ok(None),
            (None, Some(1)) | (Some(0), Some(1)) => return Ok(None),
            (None, Some(size)) => return Err(wrong(format!("WORLD_SIZE is {size}, but RANK is not set"))),
            (Some(rank), None) => return Err(wrong(format!("RANK is {rank}, but WORLD_SIZE is not set"))),
            (Some(rank), Some(size)) if rank >= size => {
                return Err(wrong(format!("RANK is {rank}, but with WORLD_SIZE {size} the last rank is {}", size - 1)));
            }
            (Some(rank), Some(size)) => (rank, size),
        };
        let needed = |name: &str| {
            let what = if name == "MASTER_ADDR" { "the host of rank 0" } else { "a free port on the host of rank 0" };
            get(name).filter(|text| !text.is_empty()).ok_or_else(|| wrong(format!("{name}, {what}, is not set")))
        };
        let port = needed("MASTER_PORT")?;
        let port = port.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let agent = get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|text| text == "True");
        Ok(Some(Self {
            rank,
            size,
            local_rank: number("LOCAL_RANK")?.unwrap_or(0),
            local_size: number("LOCAL_WORLD_SIZE")?.unwrap_or(1).max(1),
            host: needed("MASTER_ADDR")?,
            port: port.ok_or_else(|| wrong("MASTER_PORT is not a port, 1 to 65535".to_owned()))?,
            serves: rank == 0 && !agent,
            attempt: number("TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(set: &[(&str, &str)]) -> Result<Option<Launch>> {
        Launch::of(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    const MASTER: [(&str, &str); 2] = [("MASTER_ADDR", "node0"), ("MASTER_PORT", "29500")];

    #[test]
    fn torchruns_environment_is_read() {
        let torchrun = [("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RESTART_COUNT", "2")];
        let ranks = [("RANK", "0"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "2")];
        let all = [&MASTER[..], &torchrun[..], &ranks[..]].concat();
        let Launch { rank, size, local_size, port, serves, attempt, .. } = launch(&all).unwrap().unwrap();
        assert_eq!((rank, size, local_size, port, serves, attempt), (0, 4, 2, 29500, false, 2));
        let plain = launch(&[&MASTER[..], &[("RANK", "0"), ("WORLD_SIZE", "2")]].concat()).unwrap().unwrap();
        assert_eq!((plain.serves, plain.local_rank, plain.attempt), (true, 0, 0));
    }

    #[test]
    fn one_process_needs_nothing() {
        assert_eq!(launch(&[]).unwrap(), None);
        assert_eq!(launch(&[("WORLD_SIZE", "1")]).unwrap(), None);
        assert_eq!(launch(&[("WORLD_SIZE", "1"), ("RANK", "0")]).unwrap(), None);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let with = |set: &[(&str, &str)]| launch(&[&MASTER[..], set].concat()).unwrap_err().to_string();
        for (set, part) in [
            (&[("WORLD_SIZE", "2")][..], "WORLD_SIZE is 2, but RANK is not set"),
            (&[("RANK", "1")], "RANK is 1, but WORLD_SIZE is not set"),
            (&[("RANK", "2"), ("WORLD_SIZE", "2")], "the last rank is 1"),
            (&[("RANK", "one"), ("WORLD_SIZE", "2")], "RANK is \"one\""),
            (&[("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "-1")], "LOCAL_RANK is \"-1\""),
        ] {
            let e = with(set);
            assert!(e.contains(part) && e.contains("torchrun"), "{e}");
        }
        let e = launch(&[("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_PORT", "1")]).unwrap_err().to_string();
        assert!(e.contains("MASTER_ADDR"), "{e}");
        let port = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a"), ("MASTER_PORT", "99999")];
        assert!(launch(&port).unwrap_err().to_string().contains("MASTER_PORT is not a port"));
    }
}
