//! Checks a recipe as thoroughly as possible without weights, data or a device.
pub mod schedule;
pub mod term_weight;

use heterodyne_data::{Augment, Mix};
use heterodyne_methods::{Configured, standardise::standardised};
use heterodyne_models::ModelDef;
use heterodyne_run::recipe::{
    Layered, RecipeError,
    schema::{NetworkTable, Recipe},
};
use heterodyne_settings::{KeyError, Settings};

pub use self::term_weight::Weight;
use crate::{Error, Result, network::input};

/// The supervision of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Labels alone.
    Train,
    /// Labels and a teacher.
    Distill,
}

impl Mode {
    /// The command that runs it.
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
pub struct MethodPlan {
    /// The method's name.
    pub name: String,
    /// Factor of all its terms as a function of the epoch.
    pub weight: Weight,
    /// The method's own keys, checked.
    pub settings: Box<dyn Configured>,
}

/// A checked recipe.
#[derive(Debug)]
pub struct Plan {
    /// The supervision of the run.
    pub mode: Mode,
    /// The recipe, with every method's table filled with the values in effect.
    pub recipe: Recipe,
    /// The student's entry in the registry.
    pub student: &'static ModelDef,
    /// The teacher's entry; `None` without a teacher, for a package, or if its weights name the model.
    pub teacher: Option<&'static ModelDef>,
    /// The methods in the recipe's order.
    pub methods: Vec<MethodPlan>,
    /// Whether the recipe's teacher and methods were left out: `train` runs a distillation's recipe as its baseline.
    pub baseline: bool,
    /// The augmentation of single images.
    pub augment: Augment,
    /// The mixing of batches.
    pub mix: Mix,
}

impl Plan {
    /// Checks a layered recipe.
    ///
    /// # Errors
    /// The recipe has a mistake; the error names the file, the line and the nearest valid key.
    pub fn resolve(layered: &Layered, mode: Mode) -> Result<Self> {
        let mut recipe = layered.recipe()?;
        let at = Explain(layered);
        heterodyne_data::find(&recipe.data.name).map_err(at.key("data", "name"))?;
        let student = network(&recipe.student, "student", at)?;
        let baseline = mode == Mode::Train && (recipe.teacher.is_some() || !recipe.methods.is_empty());
        match mode {
            Mode::Train => (recipe.teacher, recipe.methods) = Default::default(),
            Mode::Distill => check_pair(&recipe, at)?,
        }
        let registered = recipe.teacher.as_ref().filter(|t| t.package.is_none());
        let named = registered.filter(|t| !t.model.is_empty());
        let teacher = named.map(|t| network(t, "teacher", at)).transpose()?;
        if registered.is_some_and(|t| t.weights.is_none()) {
            return Err(at.error("teacher", "weights", "a teacher needs weights: a random network teaches nothing"));
        }
        let augment = Augment::parse(&recipe.data.augment).map_err(|e| at.explain("data.augment", &e))?;
        let mix = Mix::read(&recipe.data.mix).map_err(|e| at.explain("data.mix", &e))?;
        if recipe.teacher.as_ref().is_some_and(|t| t.cache.is_some()) && mix.is_on() {
            let message =
                "cannot be combined with [data.mix]: a mixed image is not one of the stored views; remove one of them";
            return Err(at.error("teacher", "cache", message));
        }
        let methods = methods(&mut recipe, at)?;
        check_terms(&recipe, &methods, at)?;
        Ok(Self { mode, recipe, student, teacher, methods, baseline, augment, mix })
    }
}

/// Locates errors in the recipe.
#[derive(Clone, Copy)]
struct Explain<'a>(&'a Layered);

impl Explain<'_> {
    fn explain(self, table: &str, e: &KeyError) -> Error {
        Error::Recipe(self.0.explain(table, e))
    }

    fn error(self, table: &str, key: &str, message: &str) -> Error {
        self.explain(table, &KeyError::new(key, message))
    }

    /// Makes errors about one key.
    fn key<E: ToString>(self, table: &str, key: &str) -> impl Fn(E) -> Error {
        move |e| self.error(table, key, &e.to_string())
    }
}

/// `distill` needs a teacher and a method.
fn check_pair(recipe: &Recipe, at: Explain) -> Result<()> {
    let (key, message) = match (recipe.teacher.is_some(), recipe.methods.is_empty()) {
        (false, _) => ("teacher", "`distill` needs a [teacher] with model and weights (or run `heterodyne train`)"),
        (_, true) => ("methods", "`distill` needs at least one method, for example [methods.kd]"),
        _ => return Ok(()),
    };
    Err(at.error("", key, message))
}

/// The methods with a nonzero weight; every method's table is filled with the values in effect.
fn methods(recipe: &mut Recipe, at: Explain) -> Result<Vec<MethodPlan>> {
    let mut methods = Vec::new();
    for (name, table) in &mut recipe.methods {
        let path = format!("methods.{name}");
        let def = heterodyne_methods::find(name).map_err(at.key("methods", name))?;
        let mut own = table.clone();
        let weight = Weight::take(&mut own, recipe.train.epochs).map_err(|e| at.explain(&path, &e))?;
        // The weight's keys are valid in every method's table.
        let with_shared = |e: KeyError| at.explain(&path, &e.with_valid(Weight::KEYS));
        let mut settings = (def.configure)(&own).map_err(with_shared)?;
        *table = settings.resolved();
        table.extend(weight.table());
        if weight.logit_std {
            settings = standardised(name, settings).map_err(|e| at.explain(&path, &e))?;
        }
        if weight.is_on() {
            methods.push(MethodPlan { name: name.clone(), weight, settings });
        }
    }
    Ok(methods)
}

/// Checks that the loss has a term in every epoch.
fn check_terms(recipe: &Recipe, methods: &[MethodPlan], at: Explain) -> Result<()> {
    if recipe.loss.ce > 0.0 {
        return Ok(());
    }
    if methods.is_empty() {
        return Err(at.error("loss", "ce", "the loss has no terms: loss.ce is 0 and no method has a weight"));
    }
    let epochs = f64::from(recipe.train.epochs);
    if methods.iter().all(|m| m.weight.end(epochs).is_some_and(|end| end < epochs)) {
        let message = "the loss has no terms at the end: loss.ce is 0 and every method's weight decays to 0 before the \
                       last epoch ends";
        return Err(at.error("loss", "ce", message));
    }
    Ok(())
}

fn network(table: &NetworkTable, role: &str, at: Explain) -> Result<&'static ModelDef> {
    let def = heterodyne_models::find(&table.model).map_err(at.key(role, "model"))?;
    (def.check_options)(&table.options).map_err(|e| at.explain(&format!("{role}.options"), &e))?;
    if table.std.is_some_and(|std| std.iter().any(|s| !(s.is_finite() && *s > 0.0))) {
        return Err(at.error(role, "std", "every standard deviation must be greater than 0"));
    }
    let stated = input::stated(table).map_err(|e| at.explain(role, &e))?;
    if stated.crop_pct.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
        return Err(at.error(role, "crop_pct", "the share must be above 0 and at most 1"));
    }
    Ok(def)
}

/// Reads the recipe of a stored plan, ready to be resolved again.
///
/// # Errors
/// The plan is not a recipe.
pub fn stored(name: &str, json: &serde_json::Value) -> Result<Layered, RecipeError> {
    Layered::from_json(name, json)
}
