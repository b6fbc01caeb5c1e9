//! Runs the command in a temporary folder.
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use heterodyne::{
    models::Model,
    nn::{InputSpec, file},
    train::network::Card,
};
use image::{Rgb, RgbImage};
use tch::Device;

/// A run of about a second on the embedded digits.
pub const RECIPE: &str = r#"
name = "small"
device = "cpu"
threads = 1

[data]
name = "digits"
per_class = 4

[student]
model = "resnet8"

[train]
epochs = 2
batch = 10
log_every = 2

[optim]
lr = 0.02
"#;

/// The device of the runs: `HETERODYNE_TEST_DEVICE`, or the CPU.
pub fn test_device() -> String {
    std::env::var("HETERODYNE_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned())
}

/// A recipe for the CPU as one for `device`. Equal bits need operations in a fixed order, which a CPU has anyway.
fn on_device(recipe: &str, device: &str) -> String {
    let deterministic = if device == "cpu" { "" } else { "\ndeterministic = true" };
    recipe.replace(r#"device = "cpu""#, &format!("device = \"{device}\"{deterministic}"))
}

/// The same for the test's device.
pub fn on_test_device(recipe: &str) -> String {
    on_device(recipe, &test_device())
}

/// A temporary folder with recipes and a teacher.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self::on(&test_device())
    }

    /// With recipes for `device`.
    pub fn on(device: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let recipe = on_device(RECIPE, device);
        std::fs::write(place.path("small.toml"), &recipe).unwrap();
        let taught = recipe.replace(
            "[train]",
            "[teacher]\nmodel = \"vit_nano\"\nweights = \"teacher.safetensors\"\n\n[methods.kd]\n\n[train]",
        );
        std::fs::write(place.path("taught.toml"), taught).unwrap();
        place.write_teacher("teacher.safetensors", 10);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Random weights with `classes` classes.
    pub fn write_teacher(&self, name: &str, classes: i64) {
        let def = heterodyne::models::find("vit_nano").unwrap();
        let model = Model::build(def, classes, None, &toml::Table::new(), Device::Cpu, 1).unwrap();
        let card = Card {
            model: def.name.to_owned(),
            options: toml::Table::new(),
            classes,
            input: InputSpec::whole(8, [0.3; 3], [0.4; 3]).into(),
            class_names: Vec::new(),
        };
        let tensors = model.store.tensors();
        file::write(&self.path(name), tensors.iter().map(|(n, t)| (n.as_str(), t)), card.metadata().unwrap()).unwrap();
    }

    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heterodyne"));
        let device = test_device();
        let words = words.replace("--device cpu", &format!("--device {device}"));
        let words = words.replace("device=cpu", &format!("device={device}"));
        command.current_dir(self.0.path()).args(words.split_whitespace()).env_remove("RUST_BACKTRACE");
        command
    }

    pub fn run(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// Runs a command that must succeed; returns its output.
    pub fn good(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail, with exit code 1 (2 for a bad command line) and without a panic; returns its
    /// error.
    pub fn bad(&self, words: &str, parts: &[&str]) -> String {
        refused(&self.run(words), words, parts)
    }
}

/// Interrupts a run with SIGINT after its first line of metrics; returns its exit code.
pub fn interrupt(place: &Place, words: &str) -> Option<i32> {
    let mut child = place.command(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("epoch"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    lines.by_ref().for_each(drop);
    child.wait().unwrap().code()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn refused(output: &Output, words: &str, parts: &[&str]) -> String {
    let text = stderr(output);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{words}: {:?}\n{text}", output.status);
    assert!(!text.contains("panicked") && !text.contains("Exception raised"), "{words}:\n{text}");
    for part in parts {
        assert!(text.contains(part), "{words} says\n{text}\nwhich lacks {part:?}");
    }
    text
}

/// The path of real images or weights, or `None` with a printed reason.
pub fn real(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: shared/data/{name} is absent");
    None
}

/// A run of a second on the folder that [`fruit`] draws.
pub const FRUIT: &str = r#"
name = "fruit"
device = "cpu"
threads = 1

[data]
name = "folder"
path = "fruit"
img = 16

[student]
model = "resnet8"
img = 16

[train]
epochs = 2
batch = 6

[optim]
lr = 0.05
"#;

/// Draws `count` images of one colour.
pub fn draw(folder: &Path, colour: [u8; 3], count: u8) {
    std::fs::create_dir_all(folder).unwrap();
    for i in 0..count {
        RgbImage::from_fn(20, 20, |x, y| Rgb(colour.map(|c| c.saturating_add((x * 3 + y * 5) as u8 % 16 + i))))
            .save(folder.join(format!("{i}.png")))
            .unwrap();
    }
}

/// Draws the folder `fruit` with a number of pictures per class in each split, and writes `fruit.toml`.
pub fn fruit(place: &Place, splits: &[(&str, u8)]) {
    for (split, count) in splits {
        for (name, colour) in [("apple", [200, 20, 20]), ("banana", [200, 200, 20]), ("cherry", [20, 20, 200])] {
            draw(&place.path("fruit").join(split).join(name), colour, *count);
        }
    }
    std::fs::write(place.path("fruit.toml"), on_test_device(FRUIT)).unwrap();
}
