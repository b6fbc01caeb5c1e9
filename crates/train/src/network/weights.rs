//! Weights from all sources: files of heterodyne, timm or PyTorch, shards, folders of timm or transformers, and the
//! Hugging Face Hub.
use std::path::Path;

use heterodyne_models::{ModelDef, Selection};
use heterodyne_nn::{PartialInput, Tensors};
use heterodyne_run::{folder::RunFolder, recipe::schema::NetworkTable};
use tch::Tensor;

use super::{
    card::Card,
    classes,
    description::Description,
    files::{self, Stored},
};
use crate::{Error, Result};

/// The source of weights.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// A safetensors file, a file of `torch.save`, an index of shards, a folder with weights and the `config.json` of
    /// timm or transformers, a run folder (its `last` weights), or `hf-hub:` and the name of a repository.
    pub path: &'a Path,
    /// The dictionary of tensors to read from a PyTorch file that has several; timm's choice if not given.
    pub section: Option<&'a str>,
    /// Reads only tensors whose names begin with this; chosen from the names if not given.
    pub prefix: Option<&'a str>,
    /// Tensors to leave out: names, name prefixes, or patterns.
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

/// Weights that have been read.
pub struct Weights {
    /// The name used in messages.
    pub name: String,
    pub(crate) tensors: Tensors,
    /// The tensors to use.
    pub(crate) selection: Selection,
    card: Option<Card>,
    config: Option<Description>,
    /// timm's tag of the weights, if their description or their name on the Hub has one.
    tag: Option<String>,
}

impl Weights {
    /// Reads the weights; weights on the Hub are downloaded unless they are cached on this machine.
    ///
    /// # Errors
    /// The weights are missing, damaged or in an unknown format, or their description is not supported.
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
        } else if RunFolder::is_one(path) {
            (None, RunFolder::open(path)?.finished_weights()?, None, None)
        } else if path.is_dir() {
            // Files exported by heterodyne describe themselves.
            let file = files::in_folder(path)?;
            (None, file, Description::in_folder(path)?, None)
        } else {
            (None, path.to_owned(), None, None)
        };
        let Stored { name: own, tensors, card } = files::read(&file, section)?;
        let tag = config.as_ref().and_then(|config| config.tag.clone()).or(tag);
        Ok(Self { name: name.unwrap_or(own), tensors, selection: source.selection(), card, config, tag })
    }

    /// The file's self-description, if heterodyne has written it.
    #[must_use]
    pub fn card(&self) -> Option<&Card> {
        self.card.as_ref()
    }

    /// The model named by the file or its description.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.card.as_ref().map(|c| c.model.as_str()).or_else(|| self.config.as_ref().map(Description::model))
    }

    /// The input stated by the file and its description.
    #[must_use]
    pub fn input(&self) -> PartialInput {
        let card = self.card.as_ref().map(|card| card.input).unwrap_or_default();
        card.or(self.config.as_ref().map(|config| config.input).unwrap_or_default())
    }

    /// The options that turn `def` into the network of these weights, from the file or its description.
    ///
    /// # Errors
    /// The description states something that `def` does not support; the message names it.
    pub fn options(&self, def: &ModelDef) -> Result<toml::Table> {
        match (&self.card, &self.config) {
            (Some(card), _) => Ok(card.options.clone()),
            (None, Some(config)) => config.options(def),
            (None, None) => Ok(toml::Table::new()),
        }
    }

    /// Refuses a `model` whose tag, as in `resnet18.a1_in1k`, differs from that of these weights.
    ///
    /// # Errors
    /// The tags differ.
    pub fn check_tag(&self, model: &str) -> Result<()> {
        match (model.split_once('.'), &self.tag) {
            (Some((network, wanted)), Some(own)) if wanted != own => Err(Error::Plan(format!(
                "{}: these are the weights `{own}`, but `{model}` requires `{wanted}`: set the model to \
                 `{network}.{own}` or `{network}`, or use other weights",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    /// The class names in the classifier's order, if the file or its description has them.
    #[must_use]
    pub fn class_names(&self) -> &[String] {
        let card = self.card.as_ref().map_or(&[][..], |card| &card.class_names);
        if card.is_empty() { self.config.as_ref().map_or(&[][..], |config| &config.class_names) } else { card }
    }

    /// Reorders the classifier's rows to the data's classes and drops those of classes that the data lacks, if both
    /// sides have class names; returns a note. `images` describes the data with the classes `names`; `given` are the
    /// model's options besides those of the weights.
    ///
    /// # Errors
    /// The names do not match, or the file's classifier has another number of classes than its list of names.
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
                "{}: its {count} classes are not in the order of {images}, and it has no classifier `{}` with {count} \
                 rows to reorder",
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
            format!("{}: the {count} classes were matched by name and reordered to those of {images}", self.name)
        } else {
            format!(
                "{}: {} of its {count} classes match those of {images} by name; the others are dropped",
                self.name,
                rows.len()
            )
        }))
    }

    /// The number of classes of the classifier; `None` without a classifier. `given` are the model's options besides
    /// those of the weights.
    ///
    /// # Errors
    /// The weights belong to another model, or their description does not match the classifier.
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

    /// The classifier's tensors: the name of each in the file and in timm.
    fn classifier(&self, def: &'static ModelDef, given: &toml::Table) -> Result<Vec<(String, String)>> {
        let mut options = self.options(def)?;
        options.extend(given.clone());
        let found = heterodyne_models::classifier(def, &options, &self.tensors, &self.selection);
        found.map_err(|e| Error::Plan(format!("{}: {e}", self.name)))
    }
}

/// A path, as in a recipe.
impl<'a> From<&'a Path> for Source<'a> {
    fn from(path: &'a Path) -> Self {
        Self { path, section: None, prefix: None, ignore: &[] }
    }
}
