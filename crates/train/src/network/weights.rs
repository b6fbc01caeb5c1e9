//! Weights, wherever they come from: a file of heterodyne's, timm's or PyTorch's, shards, a folder of timm's or
//! transformers', or the Hugging Face Hub.
use std::path::Path;

use heterodyne_models::{ModelDef, Selection};
use heterodyne_nn::{PartialInput, Tensors};
use heterodyne_run::recipe::schema::NetworkTable;
use tch::Tensor;

use super::{
    card::Card,
    classes,
    description::Description,
    files::{self, Stored},
};
use crate::{Error, Result};

/// Where weights are.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// A safetensors file, what `torch.save` has written, an index of shards, a folder with weights and `config.json`
    /// of timm's or transformers', or `hf-hub:` and the name of a repository.
    pub path: &'a Path,
    /// The dictionary of tensors in a PyTorch file, where it has several and another one than timm would take is
    /// wanted.
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
    config: Option<Description>,
    /// timm's tag of the weights, where their description or their name on the Hub has it.
    tag: Option<String>,
}

impl Weights {
    /// Reads the weights; those of the Hub are downloaded unless they are on this machine.
    ///
    /// # Errors
    /// They are not there, are something else, are damaged, or what describes them cannot be honoured.
    pub fn read(source: Source) -> Result<Self> {
        let Source { path, section, .. } = source;
        let shown = path.display().to_string();
        let (name, file, config, tag) = if heterodyne_hub::is_name(&shown) {
            let name: heterodyne_hub::Name =
                shown.parse().map_err(|e: heterodyne_hub::Error| Error::Plan(e.to_string()))?;
            let files = heterodyne_hub::fetch(&name, |_| {}).map_err(|e| Error::Plan(e.to_string()))?;
            let config = files
                .config
                .as_deref()
                .map(|config| Description::read(config, files.processor.as_deref()))
                .transpose()?;
            let tag =
                name.repo.split_once('.').map(|(_, tag)| tag.to_owned()).filter(|_| name.repo.starts_with("timm/"));
            (Some(shown), files.weights, config, tag)
        } else if path.is_dir() {
            // What heterodyne has exported describes itself.
            let file = files::in_folder(path)?;
            (None, file, Description::in_folder(path)?, None)
        } else {
            (None, path.to_owned(), None, None)
        };
        let Stored { name: own, tensors, card } = files::read(&file, section)?;
        let tag = config.as_ref().and_then(|config| config.tag.clone()).or(tag);
        Ok(Self { name: name.unwrap_or(own), tensors, selection: source.selection(), card, config, tag })
    }

    /// What the file says of itself, where heterodyne has written it.
    #[must_use]
    pub fn card(&self) -> Option<&Card> {
        self.card.as_ref()
    }

    /// The model that the file or timm's description names.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.card.as_ref().map(|c| c.model.as_str()).or_else(|| self.config.as_ref().map(Description::model))
    }

    /// What the file and timm's description say of the input.
    #[must_use]
    pub fn input(&self) -> PartialInput {
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
            (None, Some(config)) => config.options(def),
            (None, None) => Ok(toml::Table::new()),
        }
    }

    /// Refuses a `model` whose tag, as in `resnet18.a1_in1k`, is not that of these weights.
    ///
    /// # Errors
    /// They are known to be others.
    pub fn check_tag(&self, model: &str) -> Result<()> {
        match (model.split_once('.'), &self.tag) {
            (Some((network, wanted)), Some(own)) if wanted != own => Err(Error::Plan(format!(
                "{} has the weights `{own}`, and `{model}` asks for `{wanted}`: name the model `{network}.{own}`, \
                 `{network}`, or other weights",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    /// The names of the classes in the classifier's order, where the file or timm's description has them.
    #[must_use]
    pub fn class_names(&self) -> &[String] {
        let card = self.card.as_ref().map_or(&[][..], |card| &card.class_names);
        if card.is_empty() { self.config.as_ref().map_or(&[][..], |config| &config.class_names) } else { card }
    }

    /// Brings the classifier's rows into the order of the data's classes, and leaves out those of classes that the data
    /// does not have, where both sides name theirs; says so. `images` says whose `names` they are, `given` are the
    /// model's options besides those of the weights.
    ///
    /// # Errors
    /// The names do not match, or the file's classifier is not of as many classes as it names.
    pub fn order_classes(
        &mut self,
        def: &'static ModelDef,
        given: &toml::Table,
        names: &[String],
        images: &str,
    ) -> Result<Option<String>> {
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
        if let Some(config) = &mut self.config {
            config.reorder(names);
        }
        Ok(Some(if rows.len() as i64 == count {
            format!("{}: the {count} classes are matched by name, in the order of {images}", self.name)
        } else {
            format!(
                "{}: {} of its {count} classes are those of {images}, matched by name; the others are left out",
                self.name,
                rows.len()
            )
        }))
    }

    /// The number of classes of its classifier, `None` without one. `given` are the model's options besides those of
    /// the weights.
    ///
    /// # Errors
    /// They are weights of another model, or their description is of another classifier.
    pub fn classes(&self, def: &'static ModelDef, given: &toml::Table) -> Result<Option<i64>> {
        if let Some(card) = &self.card {
            if card.model != def.name {
                return Err(Error::Plan(format!("{} holds weights of {}, not of {}", self.name, card.model, def.name)));
            }
            return Ok(Some(card.classes));
        }
        let weight = format!("{}.weight", def.head);
        let Some((name, _)) = self.classifier(def, given)?.into_iter().find(|(_, timm)| *timm == weight) else {
            return Ok(None);
        };
        let shape = self.tensors[&name].size();
        if let (Some(config), Some(classes)) = (&self.config, shape.first()) {
            config.check_classifier(&self.name, *classes, shape.get(1).copied())?;
        }
        Ok(shape.first().copied())
    }

    /// The tensors of the classifier: the name of each in the file, and in timm.
    fn classifier(&self, def: &'static ModelDef, given: &toml::Table) -> Result<Vec<(String, String)>> {
        let mut options = self.options(def)?;
        options.extend(given.clone());
        let found = heterodyne_models::classifier(def, &options, &self.tensors, &self.selection);
        found.map_err(|e| Error::Plan(format!("{}: {e}", self.name)))
    }
}

/// As a recipe has it: a path.
impl<'a> From<&'a Path> for Source<'a> {
    fn from(path: &'a Path) -> Self {
        Self { path, section: None, prefix: None, ignore: &[] }
    }
}
