//! A cache and a server, new for each test.
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heterodyne_hub::{Error, Files, Name, Settings, fetch_with};
use tempfile::TempDir;

use crate::server::{Hub, Served};

pub struct World {
    pub hub: Hub,
    pub settings: Settings,
    pub folder: TempDir,
}

/// Larger than the buffers in between, so a cut falls into the middle.
pub fn weights() -> Vec<u8> {
    (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub fn small(name: &'static str) -> Served {
    Served { name, bytes: format!("{{\"file\": \"{name}\"}}").into_bytes(), large: false }
}

pub fn large(name: &'static str) -> Served {
    Served { name, bytes: weights(), large: true }
}

/// The files of timm's repositories.
pub fn usual() -> Vec<Served> {
    let other = Served { bytes: b"the older format".to_vec(), ..large("pytorch_model.bin") };
    vec![small(".gitattributes"), small("README.md"), small("config.json"), large("model.safetensors"), other]
}

impl World {
    pub fn new(files: &[Served]) -> Self {
        let (hub, folder) = (Hub::new(files), tempfile::tempdir().unwrap());
        let settings = Settings {
            cache: folder.path().join("hub"),
            endpoint: hub.endpoint(),
            token: None,
            offline: false,
            timeout: Duration::from_secs(5),
        };
        Self { hub, settings, folder }
    }

    pub fn fetch(&self, name: &str) -> Result<Files, Error> {
        fetch_with(&self.settings, &name.parse::<Name>().unwrap(), |_| {})
    }

    pub fn tiny(&self) -> Result<Files, Error> {
        self.fetch("hf-hub:timm/tiny")
    }

    pub fn offline(&self) -> Settings {
        Settings { offline: true, ..self.settings.clone() }
    }

    pub fn repository(&self) -> PathBuf {
        self.settings.cache.join("models--timm--tiny")
    }
}

/// All files and links below a folder, sorted; links as `path -> target`.
pub fn tree(folder: &Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            let short = path.strip_prefix(folder).unwrap().display().to_string();
            match fs::read_link(&path) {
                Ok(target) => found.push(format!("{short} -> {}", target.display())),
                Err(_) if path.is_dir() => open.push(path),
                Err(_) => found.push(short),
            }
        }
    }
    found.sort();
    found
}
