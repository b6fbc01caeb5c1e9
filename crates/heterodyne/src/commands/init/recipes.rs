//! The three recipes as texts. Those in `recipes/photos/` are the same texts, for [`Folder::example`].
use heterodyne_models::ModelDef;

use super::rules::{Count, Settings, Start};

/// File names.
pub const TEACHER: &str = "teacher.toml";
/// See [`TEACHER`].
pub const STUDENT: &str = "student.toml";
/// See [`TEACHER`].
pub const SCRATCH: &str = "scratch.toml";

/// The run folder of [`TEACHER`].
const TEACHER_RUN: &str = "runs/teacher-s0";
/// The run folder of [`STUDENT`].
pub(super) const STUDENT_RUN: &str = "runs/student-s0";

/// Families that AdamW trains; the others are convolutional with batch norms.
const TOKENS: [&str; 5] = ["vit", "swin", "mixer", "resmlp", "convnext"];

/// The folder that the recipes are for.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Its path, as recipes have it.
    pub path: String,
    /// Its pictures.
    pub count: Count,
}

/// A network and its pretrained weights.
#[derive(Clone, Debug)]
pub struct Side {
    /// The model.
    pub def: &'static ModelDef,
    /// The weights on this machine, as recipes have them.
    pub weights: Option<String>,
    /// The name of pretrained weights on the Hub.
    pub on_hub: Option<String>,
}

impl Folder {
    /// The folder of the recipes in `recipes/photos/`: 2,000 training pictures of 10 classes, and test pictures.
    #[must_use]
    pub fn example() -> Self {
        Self { path: "photos".to_owned(), count: Count { train: 2000, smallest: 150, classes: 10, chooses: false } }
    }
}

impl Side {
    fn start(&self) -> Start {
        match &self.weights {
            Some(_) => Start::Weights,
            None if TOKENS.contains(&self.def.family) => Start::Tokens,
            None => Start::Convolutions,
        }
    }
}

/// The texts of [`TEACHER`], [`STUDENT`] and [`SCRATCH`].
#[must_use]
pub fn texts(folder: &Folder, teacher: &Side, student: &Side) -> [String; 3] {
    let data = data(folder);
    let network = |side: &Side| network(side, &folder.count);
    let (tuned, trained) = (network(teacher), network(student));
    [
        format!(
            "# The teacher: {} learns the classes from labels.\n\
             #   heterodyne train {TEACHER}\n{data}{tuned}",
            teacher.def.name
        ),
        format!(
            "# The student: {} learns from the labels and from the teacher.\n\
             #   heterodyne distill {STUDENT}      after the run of {TEACHER}\n{data}\
             [teacher]\n\
             weights = \"{}\"   # the run of {TEACHER}: model, input and classes come from it\n\n{trained}\n\
             [methods.kd]                  # the teacher's probabilities; `heterodyne methods` lists the others\n",
            student.def.name, TEACHER_RUN
        ),
        format!(
            "# The student from labels alone, for comparison: what is better than this is due to the teacher.\n\
             #   heterodyne train {SCRATCH}\n{data}{trained}"
        ),
    ]
}

fn data(folder: &Folder) -> String {
    let Folder { path, count } = folder;
    let path = toml::Value::from(path.as_str());
    let mut text = format!("\n[data]\nname = \"folder\"\npath = {path}\n");
    if count.holdout() > 0 {
        text += &format!(
            "holdout = {:<19} # training pictures set apart to choose the best epoch on\n\
             seed = 0                      # the same ones in runs with other seeds\n",
            count.holdout()
        );
    }
    // ImageNet's protocol goes down to 0.08, with more pictures per class than most folders have.
    text + "# A random part of at least a quarter of the picture, mirrored half of the time. Use flip = 0 if left and\n\
            # right matter (text, digits).\n\
            augment = { crop = \"resized\", scale = [0.25, 1.0], flip = 0.5 }\n\n"
}

fn network(side: &Side, count: &Count) -> String {
    let Side { def, weights, on_hub } = side;
    let mut text = format!("[student]                     # the network that is trained\nmodel = \"{}\"\n", def.name);
    const HEAD: &str = "adapt_head = true             # a new classifier for your classes\n";
    match (weights, on_hub) {
        (Some(weights), _) => text += &format!("weights = {}\n{HEAD}", toml::Value::from(weights.as_str())),
        (None, Some(name)) => {
            let Settings { epochs, optim, lr, decay, .. } = count.settings(Start::Weights);
            text += &format!(
                "# Nothing is downloaded unless you ask for it: the two lines below start from\n\
                 # pretrained weights, which the first run then downloads. With them, set epochs = {epochs}, and in\n\
                 # [optim] name = \"{optim}\", lr = {}, weight_decay = {decay}.\n\
                 # weights = \"{name}\"\n# {HEAD}",
                number(lr)
            );
        }
        (None, None) => {}
    }
    text + &training(side.start(), count)
}

fn training(start: Start, count: &Count) -> String {
    let Settings { epochs, optim, lr, decay, eval_every } = count.settings(start);
    let (used, batch) = (count.used(), count.batch());
    let why = match start {
        Start::Weights => "few, as the weights are pretrained",
        Start::Convolutions | Start::Tokens => "many, as the network starts from scratch",
    };
    let evaluations = match eval_every {
        1 => String::new(),
        n => format!("eval_every = {n:<16} # about 50 evaluations\n"),
    };
    let rate = match start {
        Start::Weights => "low, to keep what the weights know",
        Start::Convolutions => "0.05 for a batch of 64, in proportion",
        Start::Tokens => "5e-4 for a batch of 64, with the root of the batch",
    };
    format!(
        "\n[train]\n\
         epochs = {epochs:<20} # {why}\n\
         batch = {batch:<21} # {} steps per epoch of {used} pictures\n\
         {evaluations}\
         precision = \"auto\"            # bfloat16 where the device is faster with it\n\n\
         [optim]                       # a starting point, not tuned\n\
         name = \"{optim}\"\n\
         lr = {:<24} # {rate}\n\
         weight_decay = {decay}\n\n\
         [schedule]                    # then a cosine to 0\n\
         warmup_epochs = 1\n",
        used / batch,
        number(lr)
    )
}

/// A learning rate as TOML.
fn number(lr: f64) -> String {
    if lr < 0.001 { format!("{lr:e}") } else { lr.to_string() }
}
