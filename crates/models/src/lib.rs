//! Networks with timm's parameter names: a configuration table, blocks and a forward pass per file, and nothing else.
//! Adding a model is a row in a table; adding a family is one file and its name in the list below.

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
mod vgg;
mod vit;
mod weights;
mod wide_resnet;

pub use heterodyne_nn::InputSpec as Input;
use heterodyne_nn::{Error, LoadReport, Module, ParamStore, Result, Scope, TapSpec, Tensors, catch};
use heterodyne_settings::KeyError;
pub use select::Selection;
use tch::Device;

/// The registry.
static FAMILIES: &[&[ModelDef]] = &[
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
];

/// Beyond these a slip of the keyboard would fill the memory before anything is said.
const MAX_CLASSES: i64 = 1_000_000;
const MAX_IMG: i64 = 16_384;

/// One key of a model's options table, for help and reference pages.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// Its name in `[student.options]`.
    pub name: &'static str,
    /// The default, as TOML text.
    pub default: &'static str,
    /// What it does, one sentence.
    pub doc: &'static str,
}

/// One entry of the registry.
#[derive(Clone, Copy, Debug)]
pub struct ModelDef {
    /// Name in recipes; timm's where timm has the model.
    pub name: &'static str,
    /// The file that defines it.
    pub family: &'static str,
    /// How timm presents images to it.
    pub input: Input,
    /// What it is, one line.
    pub summary: &'static str,
    /// The keys of its options table.
    pub options: &'static [Opt],
    /// The classifier's name, the prefix of its parameters.
    pub head: &'static str,
    /// Makes the parameters in the scope and the network that uses them.
    pub build: fn(&Scope, &Request) -> Result<Box<dyn Module>>,
    /// Refuses an options table with unknown keys or values that no image size could make valid.
    pub check_options: fn(&toml::Table) -> Result<(), KeyError>,
    /// The same network in timm; `None` where timm has none. The options are valid ones.
    pub timm: fn(&Request) -> Option<Timm>,
}

impl ModelDef {
    /// Whether `name`, timm's, is a parameter of the classifier.
    #[must_use]
    pub fn is_head(&self, name: &str) -> bool {
        // A distillation token has a classifier of its own beside the other.
        name.strip_prefix(self.head).is_some_and(|rest| rest.starts_with('.') || rest.starts_with("_dist."))
    }
}

/// How timm builds a network: `timm.create_model(architecture, **args)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Timm {
    /// A name of timm's.
    pub architecture: &'static str,
    /// Arguments besides the number of classes.
    pub args: serde_json::Map<String, serde_json::Value>,
}

impl Timm {
    /// `architecture` as it is.
    fn plain(architecture: &'static str) -> Self {
        Self { architecture, args: serde_json::Map::new() }
    }

    /// `architecture` with `args`, a JSON object.
    fn sized(architecture: &'static str, args: serde_json::Value) -> Self {
        let serde_json::Value::Object(args) = args else { panic!("arguments have names") };
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
    FAMILIES.iter().copied().flatten()
}

/// The model `name`; the error for an unknown one lists the nearest names.
pub fn find(name: &str) -> Result<&'static ModelDef> {
    // timm writes whose weights are meant behind a dot, `resnet18.a1_in1k`; the network is the same.
    let untagged = name.split_once('.').map_or(name, |(network, _)| network);
    if let Some(def) = all().find(|def| def.name == untagged) {
        return Ok(def);
    }
    let mut near: Vec<_> = all().map(|def| (strsim::jaro_winkler(name, def.name), def.name)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<_> = near.iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
    Err(Error::invalid(format!("there is no model `{name}`; the nearest names are {}", near.join(", "))))
}

/// A network with its parameters.
pub struct Model {
    /// The network.
    pub net: Box<dyn Module>,
    /// Its parameters and buffers.
    pub store: ParamStore,
    /// Its entry in the registry.
    pub def: &'static ModelDef,
    /// Side of the input in pixels that it was built for.
    pub img: i64,
    /// How its weights were found in a file, where it has any from one.
    pub loaded: Option<LoadReport>,
}

impl Model {
    /// Builds `def` for images of `img` pixels (the model's default where none is given), with timm's initialisers
    /// drawn from `seed`. Options and sizes that do not fit are errors that name the model.
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

    /// As [`Model::build`] with the weights of a file, strictly ([`Model::load_strict`]); only what the file leaves out
    /// is drawn.
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

    /// The taps of what [`Model::build`] would build.
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
                "{classes} classes and images of {img} px: both must be at least 1"
            ))));
        }
        if classes > MAX_CLASSES || img > MAX_IMG {
            let limits = format!("at most {MAX_CLASSES} classes and {MAX_IMG} px are taken");
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

/// Tensors on their way into a new network.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint<'a> {
    /// By name.
    pub tensors: &'a Tensors,
    /// What errors call them, the file's path.
    pub from: &'a str,
    /// Whether a classifier of other classes starts new.
    pub adapt_head: bool,
    /// Which of the tensors are meant.
    pub selection: &'a Selection,
}

/// The classifier among `tensors`, weights of `def` with `options`: of each of its tensors the name in the file, and in
/// timm. Empty where there is none.
///
/// # Errors
/// What the [`Selection`] asks for is not in the file, or several networks are.
pub fn classifier(
    def: &'static ModelDef,
    options: &toml::Table,
    tensors: &Tensors,
    selection: &Selection,
) -> Result<Vec<(String, String)>> {
    // Only names are wanted, for which any valid size will do.
    let build = |options: &toml::Table| Model::uninitialised(def, 1, None, options, Device::Cpu, 0);
    let own = build(options).or_else(|_| build(&toml::Table::new()))?.store.tensors().into_keys().collect();
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    let chosen = select::choose(def.family, &own, &names, selection)?;
    Ok(chosen.names.into_iter().filter(|(_, timm)| def.is_head(timm)).collect())
}

/// An options table that the family has refused, as an error of the build.
fn refused(e: KeyError) -> Error {
    Error::invalid(format!("options: {e}"))
}
