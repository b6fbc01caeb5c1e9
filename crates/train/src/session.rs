//! A plan made real: networks, heads, optimizer and loaders. Whatever does not fit is refused here, the teacher and the
//! methods before any data is read.
use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use heterodyne_data::{Batch, Dataset, EvalLoader, LoaderConfig, Splits, TrainLoader, View, Views};
use heterodyne_models::{
    Checkpoint, Model, ModelDef,
    package::{self, Package},
};
use heterodyne_nn::{InputSpec, ParamStore, TapSpec};
use heterodyne_run::recipe::schema::{DeviceChoice, NetworkTable, Precision, TestWhen};
use heterodyne_shim::{Rng, cpu::fast_bf16};
use tch::{Device, Tensor};

use crate::{
    Error, Plan, Result,
    cache::{self, Cache},
    card::Card,
    data,
    net::Net,
    objective::Lesson,
    origin::Origin,
    pair::Pair,
    preflight,
    present::{self, Images},
    sound,
    weights::{Source, Weights},
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
    /// Images to choose on: held-out training images, or a split of their own.
    pub validation: Option<EvalLoader>,
    /// Test images.
    pub test: EvalLoader,
    /// A part of the test images as the teacher is shown them, for a look at it beforehand.
    pub look: Option<EvalLoader>,
    /// What a weights file of this student says of itself.
    pub card: Card,
    /// The data, in words.
    pub data: String,
    /// What was matched or left out on the way, a sentence each.
    pub notes: Vec<String>,
    /// Number of training images.
    pub train_images: usize,
    /// What a checkpoint of this session is made with.
    pub origin: Origin,
    /// Whether a run may go on from a checkpoint that was made with something else.
    pub accept_changes: bool,
}

impl Session {
    /// Builds a plan.
    ///
    /// # Errors
    /// Something does not fit or cannot be read; [`heterodyne_nn::Error::Stopped`] soon after `stop` is set while the
    /// images are audited.
    pub fn build(mut plan: Plan, stop: &AtomicBool) -> Result<Self> {
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

        // What can be said of the pair without data is said before any is opened.
        let package = match (plan.teacher, plan.recipe.teacher.as_mut()) {
            (None, Some(table)) => Some(Net::package(table, device)?),
            _ => None,
        };
        let mut teacher_weights = plan.recipe.teacher.as_ref().map(weights).transpose()?.flatten();
        let mut student_weights = weights(&plan.recipe.student)?;
        let outline = match (plan.teacher, &teacher_weights, &plan.recipe.teacher) {
            (Some(def), Some(weights), Some(table)) => {
                Some(shape(table, def, Some(weights), &plan, teacher_classes(weights, def, table)?)?)
            }
            _ => package.as_ref().map(|net| net.taps().clone()),
        };
        let sized = !heterodyne_data::find(&plan.recipe.data.name)?.side_in_files;
        if let Some(teacher) = outline.as_ref().filter(|_| sized) {
            let student = shape(&plan.recipe.student, plan.student, student_weights.as_ref(), &plan, teacher.classes)?;
            check_pair(&plan, &student, teacher)?;
        }

        let data = &plan.recipe.data;
        let splits = data::open(data)?;
        let (learned, reported) = (splits.train()?, splits.reported()?);
        let (names, about) = (learned.classes(), learned.describe());
        let mut notes = splits.notices.clone();
        if let (Some(val), 1..) = (splits.chosen_on(), data.validation) {
            return Err(Error::Plan(format!(
                "data.validation = {} holds out training images to choose on, and the data has images for that ({}): \
                 remove data.validation, or set data.val = \"\"",
                data.validation,
                val.describe()
            )));
        }
        let resized = |side: &u32| data.img.is_some_and(|img| img != i64::from(*side));
        let images = Images {
            side: splits.side,
            resized: splits.side.as_ref().is_some_and(resized),
            statistics: Some((splits.mean, splits.std)),
        };
        if let (Some(def), Some(weights), Some(table)) = (plan.teacher, &mut teacher_weights, &plan.recipe.teacher) {
            notes.extend(weights.order_classes(def, &table.options, names, &about)?);
        }
        if let Some(weights) = student_weights.as_mut().filter(|_| !plan.recipe.student.adapt_head) {
            notes.extend(weights.order_classes(plan.student, &plan.recipe.student.options, names, &about)?);
        }
        let teacher = match (plan.teacher, &teacher_weights, plan.recipe.teacher.as_mut()) {
            (Some(def), Some(weights), Some(table)) => {
                let input = present::settle(table, def, Some(weights), images)?;
                let classes = teacher_classes(weights, def, table)?;
                let net =
                    Net::build(def, table, input, classes, Some(weights), plan.recipe.train.precision, device, seed)?;
                net.store.freeze();
                Some(net)
            }
            _ => package,
        };

        let classes = names.len() as i64;
        if let Some(teacher) = &teacher {
            let known = teacher.taps().classes;
            if known != classes {
                return Err(Error::Plan(format!(
                    "the teacher ({}) knows {known} classes and the data ({about}) has {classes}: take a teacher that \
                     was fine-tuned on this data (`heterodyne train` does it)",
                    teacher.name,
                )));
            }
        }
        if plan.recipe.data.audit {
            let data = &plan.recipe.data;
            for split in [Some(learned), splits.chosen_on(), Some(reported)].into_iter().flatten() {
                heterodyne_data::audit(&**split, data.workers, stop)?;
            }
        }
        let table = &mut plan.recipe.student;
        let input = present::settle(table, plan.student, student_weights.as_ref(), images)?;
        let student = Net::build(
            plan.student,
            table,
            input,
            classes,
            student_weights.as_ref(),
            plan.recipe.train.precision,
            device,
            seed,
        )?;
        if let Some(teacher) = teacher.as_ref().filter(|_| !sized) {
            check_pair(&plan, student.taps(), teacher.taps())?;
        }

        let side = *plan.recipe.data.img.get_or_insert_with(|| {
            let largest = student.view.img.max(teacher.as_ref().map_or(0, |t| t.view.img));
            splits.side.map_or(largest, i64::from)
        });
        let loaders = Loaders::new(&plan, &splits, side, images.loaded(student.input))?;

        let looked_at = match (plan.recipe.train.test, &loaders.validation) {
            (TestWhen::Every, _) => (reported, (0..reported.len()).collect::<Vec<_>>()),
            (_, Some(held_out)) => (splits.chosen_on().unwrap_or(learned), held_out.indices().to_vec()),
            (_, None) => {
                return Err(Error::Plan(
                    "train.test leaves the test images alone, and no images are held out to measure instead: set \
                     data.validation"
                        .to_owned(),
                ));
            }
        };
        let look = teacher.as_ref().map(|teacher| {
            preflight::look(looked_at.0, looked_at.1.clone(), images.loaded(teacher.input), plan.recipe.data.workers)
        });
        let look = look.transpose()?;
        let pair = Pair::new(student, teacher, &plan.methods, &plan.recipe, &loaders.sample_classes)?;
        let card = Card {
            model: plan.student.name.to_owned(),
            options: plan.recipe.student.options.clone(),
            classes,
            input: input.into(),
            class_names: names.to_vec(),
        };
        let Loaders { mut train, validation, test, train_images, .. } = loaders;
        let mut cache = None;
        let identity = pair.teacher.as_ref().map(|teacher| cache::key::identity(&plan, teacher)).transpose()?;
        if let (Some(teacher), Some(identity), Some(table)) =
            (&pair.teacher, &identity, plan.recipe.teacher.as_ref().and_then(|t| t.cache.as_ref()))
        {
            let about = cache::about(&plan, (teacher, identity), &pair.objective, &train, table)?;
            let opened = Cache::open(table, &about, &pair.objective, train_images)?;
            opened.join(&mut train);
            cache = Some(opened);
        }
        let origin = Origin::of(&plan.recipe, identity, &splits)?;
        Ok(Self {
            pair,
            cache,
            train,
            validation,
            test,
            look,
            card,
            data: about,
            notes,
            train_images,
            origin,
            accept_changes: false,
            plan,
        })
    }

    /// The teacher's part of a training batch whose images are on the device as `images`; `None` where there is no
    /// teacher, or nobody learns from it any more at this `epoch`.
    pub fn lesson(&self, batch: &Batch, images: &Tensor, epoch: f64) -> Result<Option<Lesson>> {
        if !self.pair.objective.needs_teacher(epoch) {
            return Ok(None);
        }
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

impl Net {
    /// Builds a network as its table says and loads its weights strictly.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call from each role; a struct of these would be the table again"
    )]
    pub fn build(
        def: &'static ModelDef,
        table: &NetworkTable,
        input: InputSpec,
        classes: i64,
        weights: Option<&Weights>,
        precision: Precision,
        device: Device,
        seed: u64,
    ) -> Result<Self> {
        let model = model(def, table, input, classes, weights, device, seed)?;
        Self::of(model, input, concrete(table.precision.unwrap_or(precision), device))
    }

    /// Loads the table's `package`. What the recipe does not say of its input the file does; both are written into the
    /// table.
    pub fn package(table: &mut NetworkTable, device: Device) -> Result<Self> {
        let path = table
            .package
            .clone()
            .ok_or_else(|| Error::Plan("a teacher is a `model` with `weights`, or a `package`".to_owned()))?;
        let Package { net, about, img } = package::open(&path, device, table.img)?;
        let unknown = |key: &str| {
            Error::Plan(format!("{}: does not say for which `{key}` it was made: set teacher.{key}", path.display()))
        };
        let mean = table.mean.or(about.as_ref().map(|a| a.mean)).ok_or_else(|| unknown("mean"))?;
        let std = table.std.or(about.as_ref().map(|a| a.std)).ok_or_else(|| unknown("std"))?;
        let crop_pct = about.as_ref().and_then(|a| a.crop).unwrap_or(1.0);
        let input = present::by_table(table)?.complete(InputSpec { crop_pct, ..InputSpec::whole(img, mean, std) });
        input.check()?;
        present::write(table, input);
        let file = || path.file_name().map_or_else(|| "package".to_owned(), |name| name.to_string_lossy().into_owned());
        Ok(Self {
            name: about.as_ref().map_or_else(file, |a| a.name.clone()),
            network: net,
            store: ParamStore::new(device, 0),
            view: View::new(img, mean, std, device)?,
            input,
            // Its own: autocast would not reach into compiled code.
            precision: Precision::Fp32,
            loaded: None,
        })
    }
}

/// As [`Net::build`], the network alone.
pub fn model(
    def: &'static ModelDef,
    table: &NetworkTable,
    input: InputSpec,
    classes: i64,
    weights: Option<&Weights>,
    device: Device,
    seed: u64,
) -> Result<Model> {
    let (img, options) = (Some(input.img), &table.options);
    let Some(w) = weights else { return Ok(Model::build(def, classes, img, options, device, seed)?) };
    w.classes(def, options)?;
    let checkpoint =
        Checkpoint { tensors: &w.tensors, from: &w.name, adapt_head: table.adapt_head, selection: &w.selection };
    let model = Model::with_weights(def, classes, img, options, device, seed, &checkpoint)?;
    match sound::flaw(&model.store.tensors())? {
        None => Ok(model),
        Some(flaw) => Err(Error::Plan(format!(
            "{}: these weights of {} cannot be used: {flaw}; take another copy or another file",
            w.name, def.name
        ))),
    }
}

/// The weights that a table names.
fn weights(table: &NetworkTable) -> Result<Option<Weights>> {
    Source::of(table).map(Weights::read).transpose()
}

/// The number of a teacher's classes.
fn teacher_classes(weights: &Weights, def: &'static ModelDef, table: &NetworkTable) -> Result<i64> {
    let unknown = || {
        Error::Plan(format!("{}: the weights have no classifier, so the teacher's classes are unknown", weights.name))
    };
    weights.classes(def, &table.options)?.ok_or_else(unknown)
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

/// A network's taps as they will be: from the recipe, else the weights file, else the dataset's own size.
fn shape(
    table: &NetworkTable,
    def: &'static ModelDef,
    weights: Option<&Weights>,
    plan: &Plan,
    classes: i64,
) -> Result<TapSpec> {
    let mut table = table.clone();
    let side = heterodyne_data::find(&plan.recipe.data.name)?.side;
    let input = present::settle(&mut table, def, weights, Images { side, ..Images::default() })?;
    Ok(Model::outline(def, classes, Some(input.img), &table.options)?)
}

fn check_pair(plan: &Plan, student: &TapSpec, teacher: &TapSpec) -> Result<()> {
    plan.methods.iter().try_for_each(|m| Ok(m.settings.check(student, teacher, plan.recipe.train.batch)?))
}

struct Loaders {
    train: TrainLoader,
    validation: Option<EvalLoader>,
    test: EvalLoader,
    train_images: usize,
    /// Class of each training image.
    sample_classes: Vec<i64>,
}

impl Loaders {
    fn new(plan: &Plan, splits: &Splits, side: i64, evaluation: InputSpec) -> Result<Self> {
        let (train, test) = (splits.train()?, splits.reported()?);
        let (data, t) = (&plan.recipe.data, &plan.recipe.train);
        let side = u32::try_from(side)
            .ok()
            .filter(|s| *s > 0)
            .ok_or_else(|| Error::Plan(format!("data.img = {side} is no image size")))?;
        let chosen =
            heterodyne_data::select(&**train, data.per_class, data.validation, data.seed.unwrap_or(plan.recipe.seed))?;
        let train_images = chosen.train.len();
        let sample_classes = chosen.train.iter().map(|&index| train.label(index) as i64).collect();
        let cached = plan.recipe.teacher.as_ref().and_then(|t| t.cache.as_ref());
        let views =
            cached.map_or(Views::Fresh, |c| Views::Fixed { count: c.views, seed: c.seed.unwrap_or(plan.recipe.seed) });
        let config = LoaderConfig {
            batch: t.batch,
            side,
            seed: plan.recipe.seed,
            workers: data.workers,
            augment: plan.augment.clone(),
            views,
        };
        let evaluator = |dataset: &Arc<dyn Dataset>, indices: Vec<usize>| {
            EvalLoader::new(Arc::clone(dataset), indices, t.eval_batch, evaluation, data.workers)
        };
        let validation = match splits.chosen_on() {
            Some(val) => Some(evaluator(val, (0..val.len()).collect())?),
            None => (!chosen.validation.is_empty()).then(|| evaluator(train, chosen.validation)).transpose()?,
        };
        Ok(Self {
            train: TrainLoader::new(Arc::clone(train), chosen.train, config)?,
            validation,
            test: evaluator(test, (0..test.len()).collect())?,
            train_images,
            sample_classes,
        })
    }
}
