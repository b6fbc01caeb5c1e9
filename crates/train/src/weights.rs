//! Weights, wherever they come from: a file of heterodyne's, timm's or PyTorch's, a folder that timm reads, or the Hugging Face Hub.
use std::{collections::HashMap, io::Read, path::Path};

use heterodyne_models::{ModelDef, Selection};
use heterodyne_nn::{Tensors, file};
use heterodyne_pickle::Dtype;
use heterodyne_run::recipe::schema::NetworkTable;
use tch::{Kind, Tensor};

use crate::{Error, Result, card::Card, classes, present::Stated};

/// Where weights are.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// A safetensors file, what `torch.save` has written, a folder with `config.json` and weights as timm has them, or `hf-hub:` and
    /// the name of a repository.
    pub path: &'a Path,
    /// The dictionary of tensors in a PyTorch file, where it has several and another one than timm would take is wanted.
    pub section: Option<&'a str>,
    /// Only the tensors whose names begin with this; chosen by the names if not given.
    pub prefix: Option<&'a str>,
    /// Tensors that are left out: names, beginnings of names, or patterns.
    pub ignore: &'a [String],
}

impl<'a> Source<'a> {
    /// The weights that a recipe's table names.
    #[must_use]
    pub fn of(table: &'a NetworkTable) -> Option<Self> {
        let NetworkTable { weights, section, prefix, ignore, .. } = table;
        weights.as_deref().map(|path| Self { path, section: section.as_deref(), prefix: prefix.as_deref(), ignore })
    }

    fn selection(&self) -> Selection {
        Selection { prefix: self.prefix.map(str::to_owned), ignore: self.ignore.to_vec() }
    }
}

/// A weights file, read once.
pub struct Weights {
    /// What messages call it.
    pub name: String,
    pub(crate) tensors: Tensors,
    /// Which of them are meant.
    pub(crate) selection: Selection,
    card: Option<Card>,
    config: Option<Config>,
}

/// What timm's `config.json` says of its weights.
#[derive(Clone, Debug, PartialEq)]
struct Config {
    /// The file, for messages.
    path: String,
    architecture: String,
    /// The arguments with which timm builds the network.
    args: serde_json::Map<String, serde_json::Value>,
    input: Stated,
    class_names: Vec<String>,
}

impl Weights {
    /// Reads the weights; those of the Hub are downloaded unless they are on this machine.
    pub fn read(source: Source) -> Result<Self> {
        let Source { path, section, .. } = source;
        Ok(Self { selection: source.selection(), ..Self::found(path, section)? })
    }

    fn found(path: &Path, section: Option<&str>) -> Result<Self> {
        let shown = path.display().to_string();
        if heterodyne_hub::is_name(&shown) {
            let name = shown.parse().map_err(|e: heterodyne_hub::Error| Error::Plan(e.to_string()))?;
            let files = heterodyne_hub::fetch(&name, |_| {}).map_err(|e| Error::Plan(e.to_string()))?;
            let config = files.config.as_deref().map(Config::read).transpose()?;
            return Ok(Self { name: shown, config, ..Self::file(&files.weights, section)? });
        }
        if path.is_dir() {
            // What heterodyne has exported describes itself.
            let config = Some(path.join("config.json")).filter(|config| config.exists()).map(|config| Config::read(&config)).transpose()?;
            let weights = ["model.safetensors", "pytorch_model.bin"].map(|name| path.join(name)).into_iter().find(|file| file.exists());
            let weights =
                weights.ok_or_else(|| Error::Plan(format!("{shown}: the folder holds neither model.safetensors nor pytorch_model.bin")))?;
            return Ok(Self { config, ..Self::file(&weights, section)? });
        }
        Self::file(path, section)
    }

    fn file(path: &Path, section: Option<&str>) -> Result<Self> {
        if is_pytorch(path) {
            return Self::pytorch(path, section);
        }
        if let Some(section) = section {
            return Err(Error::Plan(format!("{}: a safetensors file has no sections; remove `section` (\"{section}\")", path.display())));
        }
        let (tensors, metadata) = file::read(path)?;
        let card = Card::of(&metadata).map_err(|e| Error::Plan(format!("{}: {e}", path.display())))?;
        Ok(Self { name: path.display().to_string(), tensors, selection: Selection::default(), card, config: None })
    }

    fn pytorch(path: &Path, section: Option<&str>) -> Result<Self> {
        let damaged = |e: heterodyne_pickle::Error| {
            let text = e.to_string();
            let program = text.contains("TorchScript archive") || text.contains("PT2 package");
            Error::Plan(if program { text + "; as a teacher it is a `package`" } else { text })
        };
        let file = heterodyne_pickle::read(path).map_err(damaged)?;
        let section = file.section(section).map_err(damaged)?;
        let mut tensors = Tensors::new();
        for (name, stored) in section.tensors {
            let shape: Vec<i64> = stored.shape.iter().map(|&n| n as i64).collect();
            let tensor = Tensor::f_from_data_size(&stored.bytes(), &shape, kind(stored.dtype)).map_err(heterodyne_nn::Error::from)?;
            tensors.insert(name, tensor);
        }
        let place = if section.place.is_empty() { String::new() } else { format!(" [{}]", section.place) };
        Ok(Self { name: format!("{}{place}", path.display()), tensors, selection: Selection::default(), card: None, config: None })
    }

    /// What the file says of itself, where heterodyne has written it.
    #[must_use]
    pub fn card(&self) -> Option<&Card> {
        self.card.as_ref()
    }

    /// The model that the file or timm's description names.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.card.as_ref().map(|c| c.model.as_str()).or(self.config.as_ref().map(|c| c.architecture.as_str()))
    }

    /// What the file and timm's description say of the input.
    #[must_use]
    pub fn input(&self) -> Stated {
        let card = self.card.as_ref().map(|card| card.input).unwrap_or_default();
        card.or(self.config.as_ref().map(|config| config.input).unwrap_or_default())
    }

    /// The options that make `def` the network whose weights these are, as the file or timm's description says.
    ///
    /// # Errors
    /// The description says something of the network that `def` cannot be; the message names it.
    pub fn options(&self, def: &ModelDef) -> Result<toml::Table> {
        match (&self.card, &self.config) {
            (Some(card), _) => Ok(card.options.clone()),
            (None, Some(config)) => {
                heterodyne_models::described::options(def, &config.args).map_err(|e| Error::Plan(format!("{}: {e}", config.path)))
            }
            (None, None) => Ok(toml::Table::new()),
        }
    }

    /// The names of the classes in the classifier's order, where the file or timm's description has them.
    #[must_use]
    pub fn class_names(&self) -> &[String] {
        let card = self.card.as_ref().map_or(&[][..], |card| &card.class_names);
        if card.is_empty() { self.config.as_ref().map_or(&[][..], |config| &config.class_names) } else { card }
    }

    /// Brings the classifier's rows into the order of the data's classes, and leaves out those of classes that the data does not have, where
    /// both sides name theirs; says so. `images` says whose `names` they are, `given` are the model's options besides those of the weights.
    ///
    /// # Errors
    /// The names do not match, or the file's classifier is not of as many classes as it names.
    pub fn order_classes(&mut self, def: &'static ModelDef, given: &toml::Table, names: &[String], images: &str) -> Result<Option<String>> {
        let own = self.class_names();
        if own.is_empty() || names.is_empty() {
            return Ok(None);
        }
        let Some(rows) = classes::rows(own, names, &self.name, images)? else { return Ok(None) };
        let count = own.len() as i64;
        let index = Tensor::from_slice(&rows);
        let mut ordered = 0;
        for (name, _) in self.classifier(def, given)? {
            let Some(tensor) = self.tensors.get_mut(&name) else { continue };
            if tensor.size().first() == Some(&count) {
                *tensor = tensor.f_index_select(0, &index).map_err(heterodyne_nn::Error::from)?;
                ordered += 1;
            }
        }
        if ordered == 0 {
            return Err(Error::Plan(format!(
                "{} names {count} classes in another order than {images}, and has no classifier `{}` of as many that could be put into that order",
                self.name, def.head
            )));
        }
        if let Some(card) = &mut self.card {
            (card.classes, card.class_names) = (rows.len() as i64, names.to_vec());
        }
        Ok(Some(if rows.len() as i64 == count {
            format!("{}: the {count} classes are matched by name, in the order of {images}", self.name)
        } else {
            format!("{}: {} of its {count} classes are those of {images}, matched by name; the others are left out", self.name, rows.len())
        }))
    }

    /// The number of classes of its classifier, `None` without one. `given` are the model's options besides those of the weights.
    pub fn classes(&self, def: &'static ModelDef, given: &toml::Table) -> Result<Option<i64>> {
        if let Some(card) = &self.card {
            if card.model != def.name {
                return Err(Error::Plan(format!("{} holds weights of {}, not of {}", self.name, card.model, def.name)));
            }
            return Ok(Some(card.classes));
        }
        let weight = format!("{}.weight", def.head);
        let found = self.classifier(def, given)?.into_iter().find(|(_, timm)| *timm == weight);
        Ok(found.and_then(|(name, _)| self.tensors[&name].size().first().copied()))
    }

    /// The tensors of the classifier: the name of each in the file, and in timm.
    fn classifier(&self, def: &'static ModelDef, given: &toml::Table) -> Result<Vec<(String, String)>> {
        let mut options = self.options(def)?;
        options.extend(given.clone());
        let found = heterodyne_models::classifier(def, &options, &self.tensors, &self.selection);
        found.map_err(|e| Error::Plan(format!("{}: {e}", self.name)))
    }
}

/// Whether the file begins as `torch.save` begins one: a zip archive, or a pickle of protocol 2 and later.
fn is_pytorch(path: &Path) -> bool {
    let mut head = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    let pickle = path.extension().is_some_and(|e| ["pt", "pth", "bin", "ckpt", "tar"].iter().any(|known| e == *known));
    pickle || (read.is_ok() && (head.starts_with(b"PK\x03\x04") || head[0] == 0x80 && (2..=5).contains(&head[1])))
}

fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::Bool => Kind::Bool,
    }
}

impl Config {
    /// Reads `config.json` as `timm.models.push_to_hf_hub` writes it; in older files the description of the input is not in
    /// `pretrained_cfg` but beside the architecture.
    fn read(path: &Path) -> Result<Self> {
        let wrong = |what: String| Error::Plan(format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let json: HashMap<String, serde_json::Value> = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let architecture = json.get("architecture").and_then(|a| a.as_str());
        let architecture = architecture.ok_or_else(|| wrong("there is no `architecture` in it: is it timm's?".to_owned()))?.to_owned();
        let of = |key: &str| json.get("pretrained_cfg").and_then(|cfg| cfg.get(key)).or_else(|| json.get(key)).filter(|v| !v.is_null());
        let mut args = match json.get("model_args").filter(|args| !args.is_null()) {
            None => serde_json::Map::new(),
            Some(serde_json::Value::Object(args)) => args.clone(),
            Some(other) => return Err(wrong(format!("`model_args` is {other}, not a table of arguments"))),
        };
        if let Some(pool) = of("global_pool") {
            args.entry("global_pool").or_insert_with(|| pool.clone());
        }
        let built_for = args.get("img_size").and_then(|v| v.as_i64().or_else(|| v.get(0)?.as_i64()));
        let side = read::<[i64; 3]>(of("input_size"), "input_size").and_then(square).map_err(&wrong)?;
        let input = Stated {
            img: built_for.or(side),
            mean: read(of("mean"), "mean").map_err(&wrong)?,
            std: read(of("std"), "std").map_err(&wrong)?,
            crop_pct: read(of("crop_pct"), "crop_pct").map_err(&wrong)?,
            crop_mode: read(of("crop_mode"), "crop_mode").map_err(&wrong)?,
            interpolation: read(of("interpolation"), "interpolation").map_err(&wrong)?,
        };
        let class_names = read(of("label_names"), "label_names").map_err(&wrong)?.unwrap_or_default();
        Ok(Self { path: path.display().to_string(), architecture, args, input, class_names })
    }
}

/// A value of the description, where it has one.
fn read<T: serde::de::DeserializeOwned>(value: Option<&serde_json::Value>, key: &str) -> Result<Option<T>, String> {
    value.map(|v| serde_json::from_value(v.clone()).map_err(|e| format!("`{key}` is {v}: {e}"))).transpose()
}

/// The side of a square input of three channels.
fn square(size: Option<[i64; 3]>) -> Result<Option<i64>, String> {
    match size {
        None => Ok(None),
        Some([3, h, w]) if h == w => Ok(Some(h)),
        Some(other) => Err(format!("`input_size` is {other:?}: inputs are square and have three channels, [3, 224, 224] for instance")),
    }
}

/// As a recipe has it: a path.
impl<'a> From<&'a Path> for Source<'a> {
    fn from(path: &'a Path) -> Self {
        Self { path, section: None, prefix: None, ignore: &[] }
    }
}
