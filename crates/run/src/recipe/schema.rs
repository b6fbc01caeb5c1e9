//! The recipe as typed tables: every key once, with its text, its default and its range. Only what contradicts another
//! key is checked elsewhere (`check.rs`).
use std::path::PathBuf;

use heterodyne_settings::settings;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// More threads than any machine has processors; beyond it the system only refuses them one by one.
const MOST_THREADS: i64 = 1024;
/// Side of an image. A batch of larger ones does not fit into a machine's memory.
const MOST_PIXELS: i64 = 4096;
/// A weight of the loss. Above it the square of a gradient soon overflows float32.
const MOST_WEIGHT: f64 = 1e9;

settings! {
    /// Keys outside of tables, and the tables. Those of a model, a method or the augmentation are read by their owners.
    pub struct Recipe {
        /// Names the run folder and the report's row; the file's name if not given.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String = String::new(), Plain;
        /// Seed of everything random in the run.
        pub seed: u64 = 0, Plain;
        /// Where to compute: `auto` (the GPU if libtorch can use one, else the CPU), `cpu` or `cuda`. The plan records
        /// the choice. `CUDA_VISIBLE_DEVICES` selects one of several GPUs.
        pub device: DeviceChoice = DeviceChoice::Auto, Plain;
        /// Threads that one operation may use on a CPU; 0: all cores. Tiny networks are faster with 1.
        pub threads: usize = 0, Plain, whole(0, MOST_THREADS);
        /// Use only operations whose result does not depend on timing, so that two runs on one GPU are equal to the
        /// last bit; slower, and an operation without such a form is an error. A CPU needs no such setting.
        pub deterministic: bool = false, Plain;
        /// What to learn from.
        pub data: Data = Data::default(), Plain;
        /// The network that is trained.
        pub student: NetworkTable = NetworkTable::default(), Plain;
        /// The network that teaches, for `distill`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub teacher: Option<NetworkTable> = None, Plain;
        /// Length and numerics of training.
        pub train: Train = Train::default(), Plain;
        /// Optimizer.
        pub optim: Optim = Optim::default(), Plain;
        /// Learning rate over time.
        pub schedule: Schedule = Schedule::default(), Plain;
        /// Weight of the plain classification loss.
        pub loss: Loss = Loss::default(), Plain;
        /// Several processes that train together.
        pub distributed: Distributed = Distributed::default(), Plain;
        /// `[methods.NAME]`: a weight and the method's own keys, in the order written.
        pub methods: IndexMap<String, toml::Table> = IndexMap::new(), Plain;
    }
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

settings! {
    /// A dataset with validation and test images chooses the best epoch on the former and reports the latter. A dataset
    /// with only one of them reports that one.
    ///
    /// The augmentation of a sample depends only on the seed, the epoch and the sample, not on threads, batch size or a
    /// restart.
    pub struct Data {
        /// Required: the dataset ([data.md](data.md), `heterodyne data`).
        pub name: String = String::new(), Plain;
        /// File or folder of the dataset; `digits` has none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub path: Option<PathBuf> = None, Plain;
        /// Name of the training images: a folder, a list, or the beginning of file names, relative to `path`. `"."` is
        /// `path` itself, `""` leaves the split out. The usual names (`train`, `training`) are found.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub train: Option<String> = None, Plain;
        /// The same for the images on which the best epoch is chosen (`val`, `valid`, `validation`).
        #[serde(skip_serializing_if = "Option::is_none")]
        pub val: Option<String> = None, Plain;
        /// The same for the images that are reported (`test`, `testing`); without them, the `val` images.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub test: Option<String> = None, Plain;
        /// All classes in the order of their numbers: a list, or a file with one name per line or with JSON (a list,
        /// `class_to_idx`, `{"0": "name"}`). It may name more classes than the images have. Sorted by name if not
        /// given.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub classes: Option<ClassList> = None, Plain;
        /// A list of files and classes (CSV or text), for pictures that are not in class folders.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub labels: Option<PathBuf> = None, Plain;
        /// The column of a list or of Parquet that holds the images or the names of their files; found by its usual
        /// names if not given.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_column: Option<String> = None, Plain;
        /// The column that holds the classes; of `aircraft`: `variant`, `family` or `manufacturer`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub label_column: Option<String> = None, Plain;
        /// Allow class folders without pictures.
        pub empty_classes: bool = false, Plain;
        /// Allow data of one class, which usually is the wrong level of a folder.
        pub one_class: bool = false, Plain;
        /// Turn pictures by their EXIF orientation. Viewers and Hugging Face's `datasets` do; **timm and torchvision do
        /// not**: `false` shows the pixels that they see.
        pub exif: bool = true, Plain;
        /// The largest number of pixels of a picture; a larger one is an error that names its size. (Twice the number
        /// at which Pillow warns of a decompression bomb; there it is an error.)
        pub max_pixels: u64 = 178_956_970, Plain;
        /// Side in pixels of the augmented image that both networks see in training; each resizes it to its own input.
        /// The dataset's own size if not given; for photographs the larger of both inputs. Evaluations do not use it:
        /// they apply each network's own transform.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub img: Option<i64> = None, Plain, whole(1, MOST_PIXELS);
        /// Keep only this many training images of each class.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub per_class: Option<usize> = None, Plain, at_least_1;
        /// Training images held out to choose the best epoch on, for data without validation images; 0 chooses nothing
        /// and reports the last epoch.
        pub holdout: usize = 0, Plain;
        /// Chooses the images of `per_class` and `holdout`; the run's seed if not given. Set it to compare runs with
        /// different seeds on the same images.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub seed: Option<u64> = None, Plain;
        /// Threads that decode and augment; 0 chooses by the machine.
        pub workers: usize = 0, Plain, whole(0, MOST_THREADS);
        /// Decode every image once before training, so a broken one is found now; costs one pass over the files.
        pub audit: bool = true, Plain;
        /// Augmentation of single images: `[data.augment]` below.
        pub augment: toml::Table = toml::Table::new(), Plain;
        /// Mixup and CutMix: `[data.mix]` below. Both networks see the mixed batch.
        pub mix: toml::Table = toml::Table::new(), Plain;
    }
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

settings! {
    /// `[student]` and `[teacher]` take the same keys. `crop_pct`, `crop_mode` and `interpolation` are, with `img`,
    /// `mean` and `std`, the evaluation transform, named as in timm.
    pub struct NetworkTable {
        /// A name that `heterodyne models` lists. Required for a student; a teacher's weights may name it.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub model: String = String::new(), Plain;
        /// For a teacher, instead of `model` and `weights`: a file with a whole network, TorchScript or PT2. It is a
        /// program that runs with the rights of this process ([packages](weights.md#packages)).
        #[serde(skip_serializing_if = "Option::is_none")]
        pub package: Option<PathBuf> = None, Plain;
        /// Weights to start from, required for a teacher: a file, the folder of a run, or any other source of
        /// [weights.md](weights.md). Missing, extra and mis-shaped tensors are errors that list them.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub weights: Option<PathBuf> = None, Plain;
        /// The dictionary of tensors in a PyTorch file that holds several; an average of the weights if there is one,
        /// else timm's choice.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub section: Option<String> = None, Plain;
        /// Use only tensors whose names begin with this, and remove it (`"teacher"`, `"student.backbone"`; `""`: names
        /// as they are). Found from the network's own names if not given.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub prefix: Option<String> = None, Plain;
        /// Tensors to leave out knowingly: names (`"mask_token"`), beginnings of names up to a dot (`"head"`) and
        /// patterns (`"decoder_*"`).
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub ignore: Vec<String> = Vec::new(), Plain;
        /// Start with a new classifier if the weights' number of classes differs from the data's (fine-tuning).
        pub adapt_head: bool = false, Plain;
        /// Side of the input in pixels; from the weights file, else the model's if weights are given, else the data's.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub img: Option<i64> = None, Plain, whole(1, MOST_PIXELS);
        /// Mean of the channels, of values in 0..1; chosen like `img`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub mean: Option<[f64; 3]> = None, Plain;
        /// Standard deviation of the channels; chosen like `img`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub std: Option<[f64; 3]> = None, Plain;
        /// Share of the resized side that the centre crop keeps; from the weights, else 1 for images of one size, else
        /// the model's.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub crop_pct: Option<f64> = None, Plain, share;
        /// `center` resizes the shorter side to floor(img / crop_pct), `squash` both sides, `border` the longer; from
        /// the weights, else `center`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub crop_mode: Option<String> = None, Plain;
        /// Filter of the resizing: `nearest`, `box`, `bilinear`, `hamming`, `bicubic`, `lanczos`; from the weights,
        /// else `bicubic`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub interpolation: Option<String> = None, Plain;
        /// Precision of this network alone; `train.precision` if not given.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub precision: Option<Precision> = None, Plain;
        /// For a teacher: stores its outputs for a fixed number of views of each image
        /// ([Store the teacher](../guide.md#store-the-teacher)).
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cache: Option<CacheTable> = None, Plain;
        /// The family's own keys: `heterodyne models NAME` or [models.md](models.md).
        pub options: toml::Table = toml::Table::new(), Plain;
    }
}

settings! {
    /// The teacher then runs once per view and never again.
    pub struct CacheTable {
        /// Required: augmented views of each image; epoch e shows view e mod `views`.
        pub views: u32 = 0, Plain, at_least_1;
        /// Seed of the views; the run's if not given. Runs with different seeds share a cache if they give the same
        /// here.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub seed: Option<u64> = None, Plain;
        /// Folder of all caches.
        pub path: PathBuf = PathBuf::from("cache"), Plain;
    }
}

/// Number format of the heavy operations; weights and losses are float32 in all of them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32 throughout.
    #[default]
    Fp32,
    /// `Fp32`, with the networks' products in TF32 on a GPU.
    Tf32,
    /// bfloat16 autocast.
    Bf16,
    /// float16 autocast, with a loss that is scaled so that small gradients survive.
    Fp16,
    /// `Bf16` where the device is faster with it, else `Fp16` on a GPU that is faster with that, else `Fp32`; a run's
    /// plan says which.
    Auto,
}

impl Precision {
    /// Its name in recipes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
            Self::Auto => "auto",
        }
    }
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

settings! {
    /// Length and numerics of training.
    pub struct Train {
        /// Passes over the training images.
        pub epochs: u32 = 100, Plain, at_least_1;
        /// Images per step, of all processes together.
        pub batch: usize = 64, Plain, at_least_1;
        /// Images per step of an evaluation.
        pub eval_batch: usize = 256, Plain, at_least_1;
        /// `fp32`; `bf16`: heavy operations in bfloat16, while weights, statistics and losses stay float32; `fp16`: the
        /// same in float16, with a scaled loss; `tf32`: `fp32` with the networks' own products in TF32 on a GPU;
        /// `auto`: `bf16` where the device is faster with it (GPUs from compute capability 8.0, CPUs with AMX, AMD CPUs
        /// with AVX512_BF16), else `fp16` on a GPU from 7.0, else `fp32`. Without the key: `auto` on a GPU, `fp32` on a
        /// CPU. The plan records the choice ([numerics](../numerics.md)).
        #[serde(skip_serializing_if = "Option::is_none")]
        pub precision: Option<Precision> = None, Plain;
        /// On a GPU, record the training step as a CUDA graph and repeat it: one launch in place of thousands of
        /// operations, for small networks that leave the GPU idle. It keeps more memory, and the learning rate is
        /// rounded to float32. Refused for methods that compute on the host (`crd`).
        pub graph: bool = false, Plain;
        /// Label smoothing of the cross-entropy.
        pub label_smoothing: f64 = 0.0, Plain, below_1;
        /// Largest 2-norm of the whole gradient; without it nothing is clipped.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub clip_grad: Option<f64> = None, Plain, positive;
        /// Decay of the moving average of the weights, which evaluations then use; without it there is no average.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ema_decay: Option<f64> = None, Plain, inside_01;
        /// Steps between lines of the metrics.
        pub log_every: u64 = 50, Plain, at_least_1;
        /// Epochs between evaluations; the last epoch is always evaluated.
        pub eval_every: u32 = 1, Plain, at_least_1;
        /// When the test images are measured: in `every` evaluation, after the `last` epoch only, or `never`, for
        /// choosing settings. `last` and `never` need held-out images; the check of the teacher then uses these too.
        pub test: TestWhen = TestWhen::Every, Plain;
        /// Epochs between resumable checkpoints; one is also written on an interruption and at the end.
        pub checkpoint_every: u32 = 1, Plain, at_least_1;
        /// Minutes after which a checkpoint is written within an epoch, for long epochs; never if not given.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub checkpoint_minutes: Option<f64> = None, Plain, positive;
        /// Number of checkpoints kept during the run: the latest, and older ones as `checkpoint/step-N.safetensors`.
        pub checkpoints: usize = 1, Plain, at_least_1;
        /// Keep the checkpoints after the last epoch. Without it they are removed: the weights remain.
        pub keep_checkpoints: bool = false, Plain;
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

settings! {
    /// Optimizer. Norms, biases, tokens and position embeddings do not decay unless `decay_all` is set.
    pub struct Optim {
        /// `sgd` or `adamw`.
        pub name: OptimName = OptimName::Sgd, Plain;
        /// Base learning rate.
        pub lr: f64 = 0.05, Plain, positive;
        /// SGD's momentum.
        pub momentum: f64 = 0.9, Plain, below_1;
        /// SGD's Nesterov variant.
        pub nesterov: bool = true, Plain;
        /// AdamW's decays of the two moments.
        pub betas: [f64; 2] = [0.9, 0.999], Plain;
        /// AdamW's epsilon.
        pub eps: f64 = 1e-8, Plain, positive;
        /// Weight decay.
        pub weight_decay: f64 = 5e-4, Plain, non_negative;
        /// Decay norms, biases, tokens and position embeddings too.
        pub decay_all: bool = false, Plain;
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

settings! {
    /// Learning rate over time. Times are in epochs, the rate changes at every step.
    pub struct Schedule {
        /// `cosine` to `min_lr`; `step`: times `gamma` at each of `milestones`; `constant`.
        pub name: ScheduleName = ScheduleName::Cosine, Plain;
        /// Epochs of linear rise from `warmup_lr` to `optim.lr`.
        pub warmup_epochs: f64 = 0.0, Plain, non_negative;
        /// Where the rise starts.
        pub warmup_lr: f64 = 0.0, Plain, non_negative;
        /// Where the cosine ends.
        pub min_lr: f64 = 0.0, Plain, non_negative;
        /// The cosine falls from the end of the `warmup`, or from the `start` of the run, as timm counts.
        pub cosine_from: CosineFrom = CosineFrom::Warmup, Plain;
        /// Epochs at which `step` multiplies.
        pub milestones: Vec<f64> = Vec::new(), Plain;
        /// The factor of `step`.
        pub gamma: f64 = 0.1, Plain, share;
    }
}

settings! {
    /// Weight of the plain classification loss.
    pub struct Loss {
        /// Weight of the cross-entropy between the student's logits and the labels.
        pub ce: f64 = 1.0, Plain, between(0.0, MOST_WEIGHT);
    }
}

/// Whose statistics a batch norm uses in training.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum NormScope {
    /// Those of the process's own images.
    #[default]
    Local,
    /// Those of the whole batch.
    Synced,
}

/// The format in which gradients are sent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum GradientFormat {
    /// As they are.
    #[default]
    Fp32,
    /// Rounded to float16.
    Fp16,
}

settings! {
    /// Several processes that train together, launched by torchrun, Slurm or an operator ([guide](../guide.md)).
    /// Without them the table has no effect.
    pub struct Distributed {
        /// Statistics of batch norms in training: `local`, of each process's own images; `synced`, of the whole batch,
        /// as if one process had it all.
        pub batch_norm: NormScope = NormScope::Local, Plain;
        /// Format in which gradients are sent: `fp32`, or `fp16`, half as many bytes for slow networks.
        pub gradients: GradientFormat = GradientFormat::Fp32, Plain;
        /// Seconds that a process waits for the others before the run ends with an error.
        pub timeout: f64 = 600.0, Plain, positive;
    }
}

impl Data {
    /// A dataset by name, everything else by default.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

impl NetworkTable {
    /// A model by name, everything else by default.
    #[must_use]
    pub fn of(model: &str) -> Self {
        Self { model: model.to_owned(), ..Self::default() }
    }
}
