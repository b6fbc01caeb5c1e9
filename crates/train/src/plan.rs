//! A recipe with everything in it checked that can be checked without touching weights, data or a device.
use heterodyne_data::{Augment, Mix};
use heterodyne_methods::{Configured, standardise::standardised};
use heterodyne_models::ModelDef;
use heterodyne_run::recipe::{
    Layered, RecipeError,
    schema::{NetworkTable, Recipe},
};
use heterodyne_settings::{KeyError, Settings};

use crate::{Error, Result, present::Stated, weight::Weight};

/// What is to be done with a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Labels alone teach.
    Train,
    /// A teacher teaches too.
    Distill,
}

impl Command {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Distill => "distill",
        }
    }
}

/// A method's settings and its weight in the total.
#[derive(Debug)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Factor of all its terms, over the run.
    pub weight: Weight,
    /// Its own keys, checked.
    pub settings: Box<dyn Configured>,
}

/// A checked recipe.
#[derive(Debug)]
pub struct Plan {
    /// What is to be done.
    pub command: Command,
    /// The recipe, every method's table filled with the values in force.
    pub recipe: Recipe,
    /// The student's entry in the registry.
    pub student: &'static ModelDef,
    /// The teacher's; `None` for a package too.
    pub teacher: Option<&'static ModelDef>,
    /// The methods in the recipe's order.
    pub methods: Vec<Planned>,
    /// The augmentation of single images.
    pub augment: Augment,
    /// The mixing of batches.
    pub mix: Mix,
}

impl Plan {
    /// Checks a layered recipe; errors name file, line and the nearest valid key.
    pub fn resolve(layered: &Layered, command: Command) -> Result<Self> {
        let mut recipe = layered.recipe()?;
        let explain = |table: &str, e: KeyError| Error::Recipe(layered.explain(table, &e.key, &e.message));
        heterodyne_data::find(&recipe.data.name).map_err(|e| explain("data", KeyError::new("name", e.to_string())))?;
        let student = network(&recipe.student, "student", &explain)?;
        match (command, &recipe.teacher) {
            (Command::Train, Some(_)) => {
                return Err(explain(
                    "",
                    KeyError::new(
                        "teacher",
                        "`train` uses no teacher: run `heterodyne distill`, or remove [teacher] and [methods]",
                    ),
                ));
            }
            (Command::Distill, None) => {
                return Err(explain(
                    "",
                    KeyError::new(
                        "teacher",
                        "`distill` needs a [teacher] with model and weights (or run `heterodyne train`)",
                    ),
                ));
            }
            _ => {}
        }
        let registered = recipe.teacher.as_ref().filter(|t| t.package.is_none());
        let teacher = registered.map(|t| network(t, "teacher", &explain)).transpose()?;
        if registered.is_some_and(|t| t.weights.is_none()) {
            return Err(explain(
                "teacher",
                KeyError::new("weights", "a teacher needs weights: a random network teaches nothing"),
            ));
        }
        if command == Command::Train && !recipe.methods.is_empty() {
            return Err(explain(
                "",
                KeyError::new("methods", "`train` uses no methods: run `heterodyne distill`, or remove [methods]"),
            ));
        }
        if command == Command::Distill && recipe.methods.is_empty() {
            return Err(explain(
                "",
                KeyError::new("methods", "`distill` needs at least one method, for example [methods.kd]"),
            ));
        }
        let augment = Augment::parse(&recipe.data.augment).map_err(|e| explain("data.augment", e))?;
        let mix = Mix::parse(&recipe.data.mix).map_err(|e| explain("data.mix", e))?;
        if recipe.teacher.as_ref().is_some_and(|t| t.cache.is_some()) && mix.is_on() {
            let message = "a mixed image is none of the stored views: remove [data.mix], or the cache";
            return Err(explain("teacher", KeyError::new("cache", message)));
        }
        let mut methods = Vec::new();
        for (name, table) in &mut recipe.methods {
            let path = format!("methods.{name}");
            let def =
                heterodyne_methods::find(name).map_err(|e| explain("methods", KeyError::new(name, e.to_string())))?;
            let mut own = table.clone();
            let weight = Weight::take(&mut own, recipe.train.epochs).map_err(|e| explain(&path, e))?;
            let mut settings = (def.configure)(&own).map_err(|e| explain(&path, with_shared_keys(e)))?;
            *table = settings.resolved();
            table.extend(weight.table());
            if weight.logit_std {
                settings = standardised(name, settings).map_err(|e| explain(&path, e))?;
            }
            if weight.is_on() {
                methods.push(Planned { name: name.clone(), weight, settings });
            }
        }
        if recipe.loss.ce == 0.0 && methods.is_empty() {
            return Err(explain(
                "loss",
                KeyError::new("ce", "the loss has no terms: loss.ce is 0 and no method has a weight"),
            ));
        }
        let epochs = f64::from(recipe.train.epochs);
        if recipe.loss.ce == 0.0 && methods.iter().all(|m| m.weight.end(epochs).is_some_and(|end| end < epochs)) {
            let message = "the loss has no terms at the end: loss.ce is 0 and the weight of every method decays to 0 before the last epoch is over";
            return Err(explain("loss", KeyError::new("ce", message)));
        }
        Ok(Self { command, recipe, student, teacher, methods, augment, mix })
    }
}

/// Where a key is unknown, the keys that all methods have are among the valid ones.
fn with_shared_keys(mut e: KeyError) -> KeyError {
    if e.message.starts_with("unknown field") {
        Weight::KEYS.iter().for_each(|key| e.message += &format!(", `{}`", key.name));
    }
    e
}

fn network(table: &NetworkTable, role: &str, explain: &impl Fn(&str, KeyError) -> Error) -> Result<&'static ModelDef> {
    let def =
        heterodyne_models::find(&table.model).map_err(|e| explain(role, KeyError::new("model", e.to_string())))?;
    (def.check_options)(&table.options).map_err(|e| explain(&format!("{role}.options"), e))?;
    if table.std.is_some_and(|std| std.iter().any(|s| !(s.is_finite() && *s > 0.0))) {
        return Err(explain(role, KeyError::new("std", "every standard deviation must be greater than 0")));
    }
    let stated = Stated::by_table(table).map_err(|e| explain(role, e))?;
    if stated.crop_pct.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
        return Err(explain(role, KeyError::new("crop_pct", "a share of the image is above 0 and at most 1")));
    }
    Ok(def)
}

/// The recipe of a stored plan, as a layered one that can be resolved again.
pub fn stored(name: &str, json: &serde_json::Value) -> Result<Layered, RecipeError> {
    Layered::from_json(name, json)
}
