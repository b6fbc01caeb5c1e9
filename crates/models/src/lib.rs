//! Networks with timm's parameter names. Each file holds a configuration table, the blocks and the forward pass. To add
//! a model, add a row to a table. To add a family, add one file and its name to the list below.

mod conv_bn;
mod convnext;
pub mod described;
mod efficientnet;
mod mixer;
mod mobilenetv2_cifar;
mod names;
pub mod package;
mod resmlp;
mod resnet;
mod resnet_cifar;
mod select;
mod shufflenet;
mod stem;
mod swin;
mod tokens;
pub mod transformers;
mod translate;
mod vgg;
mod vit;
mod weights;
mod wide_resnet;

pub use heterodyne_nn::InputSpec as Input;
use heterodyne_nn::{Error, LoadReport, Module, ParamStore, Result, Scope, TapSpec, Tensors, catch};
use heterodyne_settings::{Checked, Key, KeyError, Named, Registry, Settings};
pub use select::Selection;
use tch::Device;

/// The registry.
static MODELS: Registry<ModelDef> = Registry::new(
    "model",
    &[
        resnet::MODELS,
        resnet_cifar::MODELS,
        wide_resnet::MODELS,
        vgg::MODELS,
        efficientnet::MODELS,
        mobilenetv2_cifar::MODELS,
        shufflenet::MODELS,
        convnext::MODELS,
        vit::MODELS,
        swin::MODELS,
        mixer::MODELS,
        resmlp::MODELS,
    ],
);

/// Upper limits: a mistyped larger value would exhaust the memory before any error appears.
const MAX_CLASSES: i64 = 1_000_000;
const MAX_IMG: i64 = 16_384;

/// One entry of the registry.
#[derive(Clone, Copy, Debug)]
pub struct ModelDef {
    /// Name in recipes; timm's name if timm has the model.
    pub name: &'static str,
    /// The file that defines it.
    pub family: &'static str,
    /// timm's input size and normalisation.
    pub input: Input,
    /// One-line summary.
    pub summary: &'static str,
    /// The keys of its options table.
    pub keys: &'static [Key],
    /// Every option with its default.
    pub defaults: fn() -> toml::Table,
    /// The classifier's name, the prefix of its parameters.
    pub head: &'static str,
    /// Creates the parameters in the scope and returns the network that uses them.
    pub build: fn(&Scope, &Request) -> Result<Box<dyn Module>>,
    /// Rejects an options table with unknown keys, or with values that are invalid at every image size.
    pub check_options: fn(&toml::Table) -> Result<(), KeyError>,
    /// The same network in timm; `None` if timm does not have it. The options must be valid.
    pub timm: fn(&Request) -> Option<Timm>,
}

impl ModelDef {
    /// The entry of a network without options that timm does not have.
    const fn plain(
        [name, family, head, summary]: [&'static str; 4],
        input: Input,
        build: fn(&Scope, &Request) -> Result<Box<dyn Module>>,
    ) -> Self {
        Self {
            name,
            family,
            input,
            summary,
            keys: NoOptions::KEYS,
            defaults: NoOptions::defaults,
            head,
            build,
            check_options: |table| NoOptions::read(table).map(drop),
            timm: |_| None,
        }
    }

    /// Whether `name`, timm's, is a parameter of the classifier.
    #[must_use]
    pub fn is_head(&self, name: &str) -> bool {
        // A distillation token has its own, second classifier.
        name.strip_prefix(self.head).is_some_and(|rest| rest.starts_with('.') || rest.starts_with("_dist."))
    }
}

/// The options of a family, and the network that they make. A model is a family with options of its own as defaults.
pub(crate) trait Family: Settings {
    /// The file that defines it.
    const FAMILY: &str;
    /// The classifier's name, the prefix of its parameters.
    const HEAD: &str = "head";

    /// Refuses options that contradict each other, or do not suit the model of this name.
    fn demands(&self, _model: &str) -> Checked {
        Ok(())
    }

    /// Makes the parameters in the scope and the network that uses them.
    fn build(&self, scope: &Scope, request: &Request) -> Result<Box<dyn Module>>;

    /// The same network in timm; `None` if timm has none. `own` are the model's defaults.
    fn timm(&self, own: &Self, request: &Request) -> Option<Timm>;

    /// These options with those of a table over them.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong type or out of range, or a contradiction.
    fn over(&self, table: &toml::Table, model: &str) -> std::result::Result<Self, KeyError> {
        let options = self.with(table)?;
        options.demands(model)?;
        Ok(options)
    }
}

/// The entry of a model whose options are `$own`, a constant of the family `$Family`.
macro_rules! model {
    ($Family:ty, $name:expr, $summary:expr, $input:expr, $own:expr) => {{
        const OWN: $Family = $own;
        $crate::ModelDef {
            name: $name,
            family: <$Family as $crate::Family>::FAMILY,
            input: $input,
            summary: $summary,
            keys: <$Family as ::heterodyne_settings::Settings>::KEYS,
            defaults: || ::heterodyne_settings::Settings::table(&OWN),
            head: <$Family as $crate::Family>::HEAD,
            build: |scope, request| {
                let options = $crate::Family::over(&OWN, request.options, $name).map_err($crate::refused)?;
                $crate::Family::build(&options, scope, request)
            },
            check_options: |table| $crate::Family::over(&OWN, table, $name).map(drop),
            timm: |request| {
                let options = $crate::Family::over(&OWN, request.options, $name).ok()?;
                $crate::Family::timm(&options, &OWN, request)
            },
        }
    }};
}
pub(crate) use model;

/// How timm builds a network: `timm.create_model(architecture, **args)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Timm {
    /// A timm architecture.
    pub architecture: &'static str,
    /// Arguments other than the number of classes.
    pub args: serde_json::Map<String, serde_json::Value>,
}

impl Timm {
    /// `architecture` without arguments.
    fn plain(architecture: &'static str) -> Self {
        Self { architecture, args: serde_json::Map::new() }
    }

    /// `architecture` with `args`, a JSON object.
    fn sized(architecture: &'static str, args: serde_json::Value) -> Self {
        let serde_json::Value::Object(args) = args else { panic!("timm's arguments must be a JSON object") };
        Self { architecture, args }
    }
}

/// What a network is built for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Which network.
    pub def: &'static ModelDef,
    /// Number of classes.
    pub classes: i64,
    /// Side of the square input in pixels.
    pub img: i64,
    /// The family's options.
    pub options: &'a toml::Table,
}

/// All models, family by family.
pub fn all() -> impl Iterator<Item = &'static ModelDef> {
    MODELS.all().into_iter()
}

/// The model `name`. The error for an unknown name lists the nearest ones.
pub fn find(name: &str) -> Result<&'static ModelDef> {
    // timm appends a tag for the weights after a dot, as in `resnet18.a1_in1k`; the network is the same.
    let untagged = name.split_once('.').map_or(name, |(network, _)| network);
    MODELS.find(untagged).map_err(Error::invalid)
}

impl Named for ModelDef {
    fn name(&self) -> &'static str {
        self.name
    }
}

/// A network with its parameters.
pub struct Model {
    /// The network.
    pub net: Box<dyn Module>,
    /// Its parameters and buffers.
    pub store: ParamStore,
    /// Its entry in the registry.
    pub def: &'static ModelDef,
    /// Side of the input in pixels for which it was built.
    pub img: i64,
    /// The report on loading its weights, if they came from a file.
    pub loaded: Option<LoadReport>,
}

impl Model {
    /// Builds `def` for images of `img` pixels (default: the model's own size), with timm's initialisers drawn from
    /// `seed`. Invalid options and sizes are errors that name the model.
    pub fn build(
        def: &'static ModelDef,
        classes: i64,
        img: Option<i64>,
        options: &toml::Table,
        device: Device,
        seed: u64,
    ) -> Result<Self> {
        let model = Self::uninitialised(def, classes, img, options, device, seed)?;
        catch(|| format!("drawing the weights of {}", def.name), || model.store.draw())?;
        Ok(model)
    }

    /// As [`Model::build`], but loads the weights of a file strictly ([`Model::load_strict`]). Only parameters that the
    /// file does not provide are drawn.
    pub fn with_weights(
        def: &'static ModelDef,
        classes: i64,
        img: Option<i64>,
        options: &toml::Table,
        device: Device,
        seed: u64,
        weights: &Checkpoint,
    ) -> Result<Self> {
        let mut model = Self::uninitialised(def, classes, img, options, device, seed)?;
        model.loaded = Some(model.load_checkpoint(weights)?);
        catch(|| format!("drawing the weights of {}", def.name), || model.store.draw())?;
        Ok(model)
    }

    /// The taps of the model that [`Model::build`] would build.
    pub fn shapes(def: &'static ModelDef, classes: i64, img: Option<i64>, options: &toml::Table) -> Result<TapSpec> {
        Ok(Self::uninitialised(def, classes, img, options, Device::Cpu, 0)?.net.taps().clone())
    }

    fn uninitialised(
        def: &'static ModelDef,
        classes: i64,
        img: Option<i64>,
        options: &toml::Table,
        device: Device,
        seed: u64,
    ) -> Result<Self> {
        let img = img.unwrap_or(def.input.img);
        let in_model = |e| match e {
            Error::Invalid(message) => Error::Invalid(format!("{}: {message}", def.name)),
            other => other,
        };
        if classes < 1 || img < 1 {
            return Err(in_model(Error::invalid(format!(
                "{classes} classes and images of {img} px: both numbers must be at least 1"
            ))));
        }
        if classes > MAX_CLASSES || img > MAX_IMG {
            let limits = format!("at most {MAX_CLASSES} classes and {MAX_IMG} px are allowed");
            return Err(in_model(Error::invalid(format!("{classes} classes and images of {img} px: {limits}"))));
        }
        (def.check_options)(options).map_err(|e| in_model(Error::invalid(format!("options: {e}"))))?;
        catch(
            || format!("building {} for {img} px and {classes} classes", def.name),
            || {
                let store = ParamStore::new(device, seed).deferred();
                let net = (def.build)(&store.root(), &Request { def, classes, img, options })?;
                Ok(Self { net, store, def, img, loaded: None })
            },
        )
        .map_err(in_model)
    }
}

/// Tensors to load into a new network.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint<'a> {
    /// The tensors by name.
    pub tensors: &'a Tensors,
    /// The source that error messages name: the file's path.
    pub from: &'a str,
    /// Whether to start with a new classifier if the file's has another number of classes.
    pub adapt_head: bool,
    /// Which of the tensors to load.
    pub selection: &'a Selection,
}

/// The classifier among `tensors`, the weights of `def` with `options`: each tensor's name in the file and in timm.
/// Empty if the file has no classifier.
///
/// # Errors
/// The file does not contain what the [`Selection`] asks for, or it contains several networks.
pub fn classifier(
    def: &'static ModelDef,
    options: &toml::Table,
    tensors: &Tensors,
    selection: &Selection,
) -> Result<Vec<(String, String)>> {
    // Only the names matter here, so any valid size will do.
    let build = |options: &toml::Table| Model::uninitialised(def, 1, None, options, Device::Cpu, 0);
    let own = build(options).or_else(|_| build(&toml::Table::new()))?.store.tensors().into_keys().collect();
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    let chosen = select::choose(def.family, &own, &names, selection)?;
    Ok(chosen.names.into_iter().filter(|(_, timm)| def.is_head(timm)).collect())
}

heterodyne_settings::settings! {
    /// A family without options.
    pub(crate) struct NoOptions {}
}

/// An options table that the family has refused, as an error of the build.
pub(crate) fn refused(e: KeyError) -> Error {
    Error::invalid(format!("options: {e}"))
}
