//! A plan made real: networks, heads, optimizer and loaders. Whatever does not fit is refused here, the teacher and the methods
//! before any data is read.
use std::{collections::HashMap, path::Path, sync::Arc};

use heterodyne_data::{Batch, Dataset, EvalLoader, LoaderConfig, TrainLoader, View, Views};
use heterodyne_models::{Checkpoint, Model, ModelDef};
use heterodyne_nn::{TapSpec, Tensors, file};
use heterodyne_run::recipe::schema::{DeviceChoice, NetworkTable, Precision};
use heterodyne_shim::{Rng, packed::fast_bf16};
use tch::{Device, Tensor};

use crate::{
    Error, Plan, Result,
    cache::{self, Cache},
    card::Card,
    net::Net,
    objective::Lesson,
    pair::Pair,
};

/// Everything a run needs.
pub struct Session {
    /// The plan, its networks' inputs filled in.
    pub plan: Plan,
    /// The networks, the loss and the optimizer.
    pub pair: Pair,
    /// What the teacher has said before.
    pub cache: Option<Cache>,
    /// Training batches.
    pub train: TrainLoader,
    /// Held-out training images.
    pub validation: Option<EvalLoader>,
    /// Test images.
    pub test: EvalLoader,
    /// What a weights file of this student says of itself.
    pub card: Card,
    /// The data, in words.
    pub data: String,
    /// Number of training images.
    pub train_images: usize,
}

impl Session {
    /// Builds a plan.
    pub fn build(mut plan: Plan) -> Result<Self> {
        let device = device(plan.recipe.device)?;
        if let Ok(threads @ 1..) = i32::try_from(plan.recipe.threads) {
            tch::set_num_threads(threads);
        }
        let train = &mut plan.recipe.train;
        train.precision = concrete(train.precision, device);
        for table in [Some(&mut plan.recipe.student), plan.recipe.teacher.as_mut()].into_iter().flatten() {
            table.precision = table.precision.map(|precision| concrete(precision, device));
        }
        let seed = plan.recipe.seed;
        Rng::global(device)?.seed(seed)?;

        let mut teacher = None;
        if let (Some(def), Some(table)) = (plan.teacher, plan.recipe.teacher.as_mut()) {
            let weights = table.weights.as_deref().map(Weights::read).transpose()?;
            let classes = weights.as_ref().map_or(Ok(None), |w| w.classes(def)).and_then(|n| {
                n.ok_or_else(|| {
                    Error::Plan(format!("{}: the weights have no classifier, so the teacher's classes are unknown", show(table)))
                })
            })?;
            let input = Input::of(table, def, weights.as_ref(), None)?;
            let net = Net::build(def, table, input, classes, weights.as_ref(), plan.recipe.train.precision, device, seed)?;
            net.model.store.freeze();
            teacher = Some(net);
        }

        let student_weights = plan.recipe.student.weights.as_deref().map(Weights::read).transpose()?;
        if let Some(teacher) = &teacher {
            // The teacher's classes and the dataset's own image size are known now, so the pair is refused before data is opened.
            let shape = student_shape(&plan, student_weights.as_ref(), teacher.model.net.taps().classes)?;
            check_pair(&plan, &shape, teacher.model.net.taps())?;
        }

        let data = &plan.recipe.data;
        let splits = heterodyne_data::open(&data.name, data.path.as_deref())?;
        let classes = splits.train.classes().len() as i64;
        if let Some(teacher) = &teacher {
            let known = teacher.model.net.taps().classes;
            if known != classes {
                return Err(Error::Plan(format!(
                    "the teacher ({}) knows {known} classes and the data ({}) has {classes}: take a teacher that was fine-tuned on this data (`heterodyne train` does it)",
                    teacher.model.def.name,
                    splits.train.describe(),
                )));
            }
        }
        if data.audit {
            heterodyne_data::audit(&*splits.train, data.workers)?;
            heterodyne_data::audit(&*splits.test, data.workers)?;
        }
        let table = &mut plan.recipe.student;
        let input = Input::of(table, plan.student, student_weights.as_ref(), Some((splits.side, splits.mean, splits.std)))?;
        let student = Net::build(plan.student, table, input, classes, student_weights.as_ref(), plan.recipe.train.precision, device, seed)?;

        let side = *plan.recipe.data.img.get_or_insert_with(|| {
            let largest = student.model.img.max(teacher.as_ref().map_or(0, |t| t.model.img));
            splits.side.map_or(largest, i64::from)
        });
        let crop = if splits.side == u32::try_from(side).ok() { 1.0 } else { student.model.def.input.crop };
        let loaders = Loaders::new(&plan, &splits.train, &splits.test, side, crop)?;

        let pair = Pair::new(student, teacher, &plan.methods, &plan.recipe)?;
        let card = Card {
            model: plan.student.name.to_owned(),
            options: plan.recipe.student.options.clone(),
            classes,
            img: input.img,
            mean: input.mean,
            std: input.std,
            class_names: splits.train.classes().to_vec(),
        };
        let Loaders { mut train, validation, test, train_images } = loaders;
        let mut cache = None;
        if let (Some(teacher), Some(table)) = (&pair.teacher, plan.recipe.teacher.as_ref().and_then(|t| t.cache.as_ref())) {
            let about = cache::about(&plan, teacher, &pair.objective, &train, table)?;
            let opened = Cache::open(table, &about, &pair.objective, train_images)?;
            opened.join(&mut train);
            cache = Some(opened);
        }
        Ok(Self { pair, cache, train, validation, test, card, data: splits.train.describe(), train_images, plan })
    }

    /// The teacher's part of a training batch whose images are on the device as `images`; `None` without a teacher.
    pub fn lesson(&self, batch: &Batch, images: &Tensor) -> Result<Option<Lesson>> {
        match (&self.pair.teacher, &self.cache) {
            (None, _) => Ok(None),
            (Some(_), None) => self.pair.teach(images).map(Some),
            (Some(_), Some(cache)) => cache.lesson(batch, images, |images| self.pair.teach(images)).map(Some),
        }
    }

    /// Optimizer steps of the whole run.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.train.batches_per_epoch() as u64 * u64::from(self.plan.recipe.train.epochs)
    }
}

/// The device that a recipe names, its libraries loaded.
pub fn device(choice: DeviceChoice) -> Result<Device> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(heterodyne_shim::load_cuda().map_or(Device::Cpu, |()| Device::Cuda(0))),
        DeviceChoice::Cuda => {
            heterodyne_shim::load_cuda()?;
            Ok(Device::Cuda(0))
        }
    }
}

/// Why `auto` chose the CPU on a machine with an NVIDIA driver; `None` where there is no driver, or CUDA works.
#[must_use]
pub fn cuda_problem() -> Option<String> {
    let driver = Path::new("/dev/nvidiactl").exists();
    heterodyne_shim::load_cuda().err().filter(|_| driver).map(|e| e.to_string())
}

/// A weights file, read once.
pub struct Weights {
    path: String,
    tensors: Tensors,
    metadata: HashMap<String, String>,
}

impl Weights {
    /// Reads a safetensors file.
    pub fn read(path: &Path) -> Result<Self> {
        let (tensors, metadata) = file::read(path)?;
        Ok(Self { path: path.display().to_string(), tensors, metadata })
    }

    /// What the file says of itself.
    #[must_use]
    pub fn card(&self) -> Option<Card> {
        Card::of(&self.metadata)
    }

    /// The number of classes of its classifier, `None` without one.
    pub fn classes(&self, def: &ModelDef) -> Result<Option<i64>> {
        let card = self.card();
        if let Some(card) = &card
            && card.model != def.name
        {
            return Err(Error::Plan(format!("{} holds weights of {}, not of {}", self.path, card.model, def.name)));
        }
        let head = format!("{}.weight", def.head);
        Ok(card.map(|c| c.classes).or_else(|| self.tensors.get(&head).and_then(|t| t.size().first().copied())))
    }
}

/// How a network wants its images, from the recipe, else the weights file, else the data or the model.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Side in pixels.
    pub img: i64,
    /// Channel means.
    pub mean: [f64; 3],
    /// Channel standard deviations.
    pub std: [f64; 3],
}

impl Input {
    /// Settles the input and writes it into the recipe's table. A network that starts from scratch takes the data's size and
    /// statistics; one with weights those that it was trained with.
    pub fn of(
        table: &mut NetworkTable,
        def: &ModelDef,
        weights: Option<&Weights>,
        data: Option<(Option<u32>, [f64; 3], [f64; 3])>,
    ) -> Result<Self> {
        let own = (def.input.img, def.input.mean, def.input.std);
        let (img, mean, std) = match (weights, data) {
            (Some(w), _) => w.card().map_or(own, |c| (c.img, c.mean, c.std)),
            (None, Some((side, mean, std))) => (side.map_or(own.0, i64::from), mean, std),
            (None, None) => own,
        };
        if let (true, Some(card)) = (table.options.is_empty(), weights.and_then(Weights::card)) {
            table.options = card.options;
        }
        Ok(Self { img: *table.img.get_or_insert(img), mean: *table.mean.get_or_insert(mean), std: *table.std.get_or_insert(std) })
    }
}

impl Net {
    /// Builds a network as its table says and loads its weights strictly.
    #[expect(clippy::too_many_arguments, reason = "one call from each role; a struct of these would be the table again")]
    pub fn build(
        def: &'static ModelDef,
        table: &NetworkTable,
        input: Input,
        classes: i64,
        weights: Option<&Weights>,
        precision: Precision,
        device: Device,
        seed: u64,
    ) -> Result<Self> {
        let (img, options) = (Some(input.img), &table.options);
        let model = match weights {
            None => Model::build(def, classes, img, options, device, seed)?,
            Some(w) => {
                w.classes(def)?;
                let checkpoint = Checkpoint { tensors: &w.tensors, from: &w.path, adapt_head: table.adapt_head };
                Model::with_weights(def, classes, img, options, device, seed, &checkpoint)?
            }
        };
        let view = View::new(input.img, input.mean, input.std, device)?;
        Ok(Self { model, view, precision: concrete(table.precision.unwrap_or(precision), device) })
    }
}

fn show(table: &NetworkTable) -> String {
    table.weights.as_deref().map_or_else(|| table.model.clone(), |p| p.display().to_string())
}

/// The number format that `precision` asks for on `device`: never `Auto`.
#[must_use]
pub fn concrete(precision: Precision, device: Device) -> Precision {
    match precision {
        Precision::Auto if fast_bf16(device) => Precision::Bf16,
        Precision::Auto => Precision::Fp32,
        given => given,
    }
}

/// The student's taps as they will be: from the recipe, else the weights file, else the dataset's own size.
fn student_shape(plan: &Plan, weights: Option<&Weights>, classes: i64) -> Result<TapSpec> {
    let mut table = plan.recipe.student.clone();
    let side = heterodyne_data::find(&plan.recipe.data.name)?.side;
    let input = Input::of(&mut table, plan.student, weights, Some((side, [0.0; 3], [1.0; 3])))?;
    Ok(Model::outline(plan.student, classes, Some(input.img), &table.options)?)
}

fn check_pair(plan: &Plan, student: &TapSpec, teacher: &TapSpec) -> Result<()> {
    plan.methods.iter().try_for_each(|m| Ok(m.settings.check(student, teacher, plan.recipe.train.batch)?))
}

struct Loaders {
    train: TrainLoader,
    validation: Option<EvalLoader>,
    test: EvalLoader,
    train_images: usize,
}

impl Loaders {
    fn new(plan: &Plan, train: &Arc<dyn Dataset>, test: &Arc<dyn Dataset>, side: i64, crop: f64) -> Result<Self> {
        let (data, t) = (&plan.recipe.data, &plan.recipe.train);
        let side = u32::try_from(side).ok().filter(|s| *s > 0).ok_or_else(|| Error::Plan(format!("data.img = {side} is no image size")))?;
        let chosen = heterodyne_data::select(&**train, data.per_class, data.validation, plan.recipe.seed)?;
        let train_images = chosen.train.len();
        let cached = plan.recipe.teacher.as_ref().and_then(|t| t.cache.as_ref());
        let views = cached.map_or(Views::Fresh, |c| Views::Fixed { count: c.views, seed: c.seed.unwrap_or(plan.recipe.seed) });
        let config =
            LoaderConfig { batch: t.batch, side, seed: plan.recipe.seed, workers: data.workers, augment: plan.augment.clone(), views };
        let evaluator = |dataset: &Arc<dyn Dataset>, indices: Vec<usize>| {
            EvalLoader::new(Arc::clone(dataset), indices, t.eval_batch, side, crop, data.workers)
        };
        let validation = (!chosen.validation.is_empty()).then(|| evaluator(train, chosen.validation)).transpose()?;
        Ok(Self {
            train: TrainLoader::new(Arc::clone(train), chosen.train, config)?,
            validation,
            test: evaluator(test, (0..test.len()).collect())?,
            train_images,
        })
    }
}
