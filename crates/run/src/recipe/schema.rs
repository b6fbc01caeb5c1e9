//! The recipe as typed tables. Every key has a default or is required; nothing is read from elsewhere.
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// A whole recipe. Tables that belong to a model, a method or the augmentation stay raw here; their owners read them
/// strictly.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Names the run folder and the report's row; defaults to the recipe's file name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Seed of everything random in the run.
    #[serde(default)]
    pub seed: u64,
    /// Where to compute.
    #[serde(default)]
    pub device: DeviceChoice,
    /// Threads that one operation may use on a CPU; 0 leaves it to libtorch (all cores). Tiny networks are faster with
    /// 1.
    #[serde(default)]
    pub threads: usize,
    /// What to learn from.
    pub data: Data,
    /// The network that is trained.
    pub student: NetworkTable,
    /// The network that teaches, for `distill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<NetworkTable>,
    /// Length and numerics of training.
    #[serde(default)]
    pub train: Train,
    /// Optimizer.
    #[serde(default)]
    pub optim: Optim,
    /// Learning rate over time.
    #[serde(default)]
    pub schedule: Schedule,
    /// Weight of the plain classification loss.
    #[serde(default)]
    pub loss: Loss,
    /// `[methods.NAME]`: a weight and the method's own keys, in the order written.
    #[serde(default)]
    pub methods: IndexMap<String, toml::Table>,
}

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// CUDA if libtorch finds a device, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA device, or an error.
    Cuda,
}

/// `[data]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Dataset; `heterodyne data` lists them.
    pub name: String,
    /// File or folder, relative to the working directory; not for embedded data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// What the training images are called: a folder, a list, or the start of file names, relative to `path`; the usual
    /// names (train, training) are known. An empty name leaves them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<String>,
    /// The same of the images to choose the best epoch on (val, valid, validation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<String>,
    /// The same of the images to report on (test, testing); the `val` images, if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// All classes in the order of their numbers: a list, or a file with a name a line or with JSON. In the order of
    /// their names if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassList>,
    /// A list of files and classes (CSV or text), for pictures that do not lie in class folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// The column of a table that holds the images, or the names of their files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_column: Option<String>,
    /// The column of a table that holds the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// Allow class folders without pictures.
    #[serde(default)]
    pub empty_classes: bool,
    /// Allow data of one class.
    #[serde(default)]
    pub one_class: bool,
    /// Turn pictures as their EXIF orientation says, as viewers do and timm does not.
    #[serde(default = "yes")]
    pub exif: bool,
    /// The most pixels that a picture may have.
    #[serde(default = "max_pixels")]
    pub max_pixels: u64,
    /// Side in pixels of the augmented image that both networks see, each resized to its own input; the dataset's own
    /// size, or the larger of both inputs for photographs, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub img: Option<i64>,
    /// Keep only this many training images of each class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_class: Option<usize>,
    /// Training images held out to choose the best epoch on; 0 chooses nothing and reports the last.
    #[serde(default)]
    pub holdout: usize,
    /// Seed that chooses the images of `per_class` and `holdout`; the run's if not given. Runs with different seeds
    /// learn from, and are held to, the same images if they give the same here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Threads that decode and augment; 0 chooses by the machine.
    #[serde(default)]
    pub workers: usize,
    /// Decode every image once before training, so that a broken one is found now and not after hours.
    #[serde(default = "yes")]
    pub audit: bool,
    /// `[data.augment]`, read by the data crate.
    #[serde(default)]
    pub augment: toml::Table,
    /// `[data.mix]`, mixup and CutMix, read by the data crate.
    #[serde(default)]
    pub mix: toml::Table,
}

/// `data.classes`
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum ClassList {
    /// The names themselves.
    Names(Vec<String>),
    /// The file that has them.
    File(PathBuf),
}

fn yes() -> bool {
    true
}

/// Twice the number at which Pillow warns of a decompression bomb; there it is an error.
fn max_pixels() -> u64 {
    178_956_970
}

/// `[student]` and `[teacher]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkTable {
    /// A name that `heterodyne models` lists.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Instead of `model` and `weights`, for a teacher: a file with a whole network, TorchScript or PT2. It is a
    /// program that runs with the rights of this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PathBuf>,
    /// Weights to start from, required for a teacher: a safetensors file, one that `torch.save` has written, a folder
    /// with timm's config.json, or `hf-hub:OWNER/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// The dictionary of tensors in a PyTorch file that holds several; an average of the weights if not given, else
    /// what timm takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
    /// Only the tensors of the weights whose names begin with this, which is taken away; chosen by the names if not
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Tensors of the weights that are left out knowingly: names, beginnings of names up to a dot, or patterns with `*`
    /// and `?`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Build a new classifier where the weights' number of classes differs from the data's.
    #[serde(default)]
    pub adapt_head: bool,
    /// Side of the input in pixels; what the weights file says, else the model's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub img: Option<i64>,
    /// Mean of the channels; what the weights file says, else the model's with weights and the data's without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f64; 3]>,
    /// Standard deviation of the channels; as `mean`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<[f64; 3]>,
    /// In evaluations, share of the resized side that the crop in the middle keeps; what the weights say, else 1 for
    /// images that are all of one size, else the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_pct: Option<f64>,
    /// In evaluations, `center` resizes the shorter side, `squash` both, `border` the longer; what the weights say,
    /// else `center`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_mode: Option<String>,
    /// In evaluations, the filter of the resizing; what the weights say, else `bicubic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<String>,
    /// Precision of this network alone; `train.precision` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Keeps what the teacher says of a fixed number of views of each image, so that it runs once per view; only for a
    /// teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheTable>,
    /// `[student.options]`, read by the model's family.
    #[serde(default)]
    pub options: toml::Table,
}

/// `[teacher.cache]`
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CacheTable {
    /// Augmented views of each image; epoch e shows view e mod `views`.
    pub views: u32,
    /// Seed of the views; the run's if not given. Runs with different seeds share a cache if they give the same here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Folder of all caches, relative to the working directory.
    #[serde(default = "cache_path")]
    pub path: PathBuf,
}

fn cache_path() -> PathBuf {
    PathBuf::from("cache")
}

/// Number format of the heavy operations; weights and losses are float32 in all of them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32 throughout.
    #[default]
    Fp32,
    /// bfloat16 autocast.
    Bf16,
    /// `Bf16` where the device has fast arithmetic for it (a GPU, a CPU with AMX), else `Fp32`; a run's plan says
    /// which.
    Auto,
}

/// When the test images are measured.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TestWhen {
    /// In every evaluation.
    #[default]
    Every,
    /// Once, after the last epoch; before it, held-out images alone.
    Last,
    /// Never: held-out images are all that is measured, for choosing settings.
    Never,
}

/// `[train]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Passes over the training images.
    pub epochs: u32,
    /// Images per step.
    pub batch: usize,
    /// Images per step of an evaluation.
    pub eval_batch: usize,
    /// Number format.
    pub precision: Precision,
    /// Label smoothing of the cross-entropy, in [0,1).
    pub label_smoothing: f64,
    /// Largest 2-norm of the whole gradient; none if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad: Option<f64>,
    /// Decay of the exponential moving average of the weights; none if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// Steps between lines of the metrics.
    pub log_every: u64,
    /// Epochs between evaluations; the last epoch is always evaluated.
    pub eval_every: u32,
    /// When the test images are measured: `every` evaluation, after the `last` epoch alone, or `never`; but for `every`
    /// there must be held-out images.
    pub test: TestWhen,
    /// Epochs between resumable checkpoints; one is also written when interrupted and at the end.
    pub checkpoint_every: u32,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 100,
            batch: 64,
            eval_batch: 256,
            precision: Precision::Fp32,
            label_smoothing: 0.0,
            clip_grad: None,
            ema_decay: None,
            log_every: 50,
            eval_every: 1,
            test: TestWhen::Every,
            checkpoint_every: 1,
        }
    }
}

/// Kind of optimizer.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum OptimName {
    /// Stochastic gradient descent with momentum.
    #[default]
    Sgd,
    /// Adam with decoupled weight decay.
    Adamw,
}

/// `[optim]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optim {
    /// Kind.
    pub name: OptimName,
    /// Base learning rate.
    pub lr: f64,
    /// SGD's momentum.
    pub momentum: f64,
    /// SGD's Nesterov variant.
    pub nesterov: bool,
    /// AdamW's decays of the two moments.
    pub betas: [f64; 2],
    /// AdamW's epsilon.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Also decay norms, biases, tokens and position embeddings.
    pub decay_all: bool,
}

impl Default for Optim {
    fn default() -> Self {
        Self {
            name: OptimName::Sgd,
            lr: 0.05,
            momentum: 0.9,
            nesterov: true,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 5e-4,
            decay_all: false,
        }
    }
}

/// Shape of the learning rate over time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleName {
    /// Half a cosine from `lr` to `min_lr`.
    #[default]
    Cosine,
    /// Multiplied by `gamma` at each of `milestones`.
    Step,
    /// Always `lr`.
    Constant,
}

/// The time from which a cosine is counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum CosineFrom {
    /// The end of the warm-up: the rate falls from `lr` without a jump.
    #[default]
    Warmup,
    /// The start of the run, as timm counts (its `warmup_prefix = False`): after the warm-up the rate steps down to
    /// where the cosine has come by then.
    Start,
}

/// `[schedule]`; times are in epochs, the rate changes at every step.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Shape.
    pub name: ScheduleName,
    /// Epochs of linear rise from `warmup_lr` to `lr`.
    pub warmup_epochs: f64,
    /// Where the rise starts.
    pub warmup_lr: f64,
    /// Where the cosine ends.
    pub min_lr: f64,
    /// Where the cosine begins.
    pub cosine_from: CosineFrom,
    /// Epochs at which `step` multiplies.
    pub milestones: Vec<f64>,
    /// `step`'s factor.
    pub gamma: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            name: ScheduleName::Cosine,
            warmup_epochs: 0.0,
            warmup_lr: 0.0,
            min_lr: 0.0,
            cosine_from: CosineFrom::Warmup,
            milestones: Vec::new(),
            gamma: 0.1,
        }
    }
}

/// `[loss]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Loss {
    /// Weight of the cross-entropy between the student's logits and the labels.
    pub ce: f64,
}

impl Default for Loss {
    fn default() -> Self {
        Self { ce: 1.0 }
    }
}

impl Data {
    /// A dataset by name, everything else as a recipe without those keys has it.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: None,
            train: None,
            val: None,
            test: None,
            classes: None,
            labels: None,
            image_column: None,
            label_column: None,
            empty_classes: false,
            one_class: false,
            exif: true,
            max_pixels: max_pixels(),
            img: None,
            per_class: None,
            holdout: 0,
            seed: None,
            workers: 0,
            audit: true,
            augment: toml::Table::new(),
            mix: toml::Table::new(),
        }
    }
}

impl NetworkTable {
    /// A model by name, everything else as a recipe without those keys has it.
    #[must_use]
    pub fn of(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            package: None,
            weights: None,
            section: None,
            prefix: None,
            ignore: Vec::new(),
            adapt_head: false,
            img: None,
            mean: None,
            std: None,
            crop_pct: None,
            crop_mode: None,
            interpolation: None,
            precision: None,
            cache: None,
            options: toml::Table::new(),
        }
    }
}
