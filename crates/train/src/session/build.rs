//! Builds a session, cheapest checks first: the pair of networks is checked before any data is opened.
use std::{sync::atomic::AtomicBool, time::Duration};

use heterodyne_data::{Splits, census};
use heterodyne_models::{Model, ModelDef};
use heterodyne_nn::TapSpec;
use heterodyne_run::recipe::schema::{DeviceChoice, NetworkTable, Recipe};
use heterodyne_shim::{NoGrad, Rng, upload::Upload};
use tch::Device;

use super::{Session, data, loaders::Loaders, origin::Origin};
use crate::{
    Error, Plan, Result, World,
    cache::{self, Cache},
    device::{concrete, cuda_problem, device, usual},
    learner::Learner,
    network::{
        BuildOptions, Card, Network, Source, Weights,
        input::{self, DataImages, Resolved},
    },
    run::{checkpoint::seed_of, manifest::Manifest},
    world::{Facts, Launch, choose_gpu},
};

impl Session {
    /// Builds the session of a plan.
    ///
    /// # Errors
    /// Something does not fit or cannot be read. [`heterodyne_nn::Error::Stopped`] if `stop` is set during the audit of
    /// the images.
    pub fn build(plan: Plan, stop: &AtomicBool) -> Result<Self> {
        Self::build_among(plan, None, stop)
    }

    /// Like [`Session::build`], for one of several processes that were launched together.
    ///
    /// # Errors
    /// As [`Session::build`], or the processes cannot meet or do not compute the same run.
    pub fn build_among(mut plan: Plan, launch: Option<&Launch>, stop: &AtomicBool) -> Result<Self> {
        let choice = plan.recipe.device;
        if choice != DeviceChoice::Cpu {
            launch.map_or(Ok(()), choose_gpu)?;
        }
        let device = numerics(&mut plan.recipe, launch)?;
        let timeout = Duration::try_from_secs_f64(plan.recipe.distributed.timeout).unwrap_or(Duration::MAX);
        let world = launch.map_or_else(|| Ok(World::alone()), |launch| World::meet(launch, device, timeout))?;
        let built = Self::build_on(plan, choice, device, world.clone(), stop).and_then(|session| {
            session.compare_ranks()?;
            Ok(session)
        });
        built.map_err(|e| world.explain(e))
    }

    fn build_on(mut plan: Plan, choice: DeviceChoice, device: Device, world: World, stop: &AtomicBool) -> Result<Self> {
        let mut files = Files::read(&plan, device)?;
        let sized = !heterodyne_data::find(&plan.recipe.data.name)?.side_in_files;
        if let Some(teacher) = files.teacher_taps(&plan)?.filter(|_| sized) {
            let student = taps(&plan.recipe.student, plan.student, files.student.as_ref(), &plan, teacher.classes)?;
            check_pair(&plan, &student, &teacher)?;
        }
        let splits = data::open(&plan.recipe.data)?;
        check_holdout(&plan, &splits)?;
        let images = data_images(&plan, &splits);
        let mut notes = splits.notices.clone();
        if choice == DeviceChoice::Auto && device == Device::Cpu {
            notes.extend(cuda_problem().map(|problem| format!("the GPU is not used: {problem}")));
        }
        notes.extend(census::notes(&splits));
        notes.extend(files.order_classes(&plan, &splits)?);
        let (student, teacher) = networks(&mut plan, files, &splits, device, stop)?;
        if let Some(teacher) = teacher.as_ref().filter(|_| !sized) {
            check_pair(&plan, student.taps(), teacher.taps())?;
        }
        Self::assemble(plan, (student, teacher), &splits, images, notes, world)
    }

    /// Joins the networks with the data.
    fn assemble(
        mut plan: Plan,
        (student, teacher): (Network, Option<Network>),
        splits: &Splits,
        images: DataImages,
        notes: Vec<String>,
        world: World,
    ) -> Result<Self> {
        let largest = student.view.img.max(teacher.as_ref().map_or(0, |t| t.view.img));
        let side = *plan.recipe.data.img.get_or_insert(splits.side.map_or(largest, i64::from));
        let loaders = Loaders::new(&plan, splits, side, images.loaded(student.input), student.device(), &world)?;
        let check = |teacher: &Network| loaders.teacher_check(&plan, splits, images.loaded(teacher.input));
        let teacher_check = teacher.as_ref().map(check).transpose()?;
        let names = splits.train()?.classes();
        let card = Card {
            model: plan.student.name.to_owned(),
            options: plan.recipe.student.options.clone(),
            classes: names.len() as i64,
            input: student.input.into(),
            class_names: names.to_vec(),
        };
        let learner = Learner::new(student, teacher, &plan.methods, &plan.recipe, &loaders.sample_classes, &world)?;
        let Loaders { mut train, validation, test, train_images, .. } = loaders;
        let identity = learner.teacher.as_ref().map(|t| cache::key::identity(&plan, t)).transpose()?;
        let cache = Cache::of_plan(&plan, &learner, identity.as_deref(), &mut train, train_images)?;
        let origin = Origin::of(&plan.recipe, identity, splits)?;
        let upload = Upload::to(learner.device())?;
        let data = splits.train()?.describe();
        let accept_changes = false;
        Ok(Self {
            plan,
            learner,
            cache,
            upload,
            train,
            validation,
            test,
            teacher_check,
            card,
            data,
            notes,
            train_images,
            origin,
            world,
            accept_changes,
        })
    }

    /// Checks that all processes compute the same run, and starts them from the same weights.
    fn compare_ranks(&self) -> Result<()> {
        if self.world.is_alone() {
            return Ok(());
        }
        let Manifest { origin, start, mut processes, .. } = Manifest::of(self)?;
        let process = processes.remove(0);
        self.world.shake_hands(&Facts { origin: origin.timeless(), start, process })?;
        let _constant = NoGrad::new();
        let stores = [&self.learner.student.store, &self.learner.loss.heads];
        let parts: Vec<String> = self.learner.loss.heads.parts().into_iter().map(|(name, _)| name).collect();
        let all = stores.iter().flat_map(|store| store.tensors());
        let all = all.filter(|(name, _)| !parts.contains(name)).map(|(_, tensor)| tensor);
        self.world.broadcast(&all.collect::<Vec<_>>())
    }
}

/// Builds teacher and student; the plan's tables then hold their inputs and options. The images are audited between the
/// two: a teacher that does not fit is found before.
fn networks(
    plan: &mut Plan,
    mut files: Files,
    splits: &Splits,
    device: Device,
    stop: &AtomicBool,
) -> Result<(Network, Option<Network>)> {
    let classes = splits.train()?.classes().len() as i64;
    let images = data_images(plan, splits);
    let precision = plan.recipe.train.precision.unwrap_or_else(|| usual(device));
    let options = BuildOptions { classes, precision, device, seed: plan.recipe.seed };
    let student = files.student.take();
    let (teacher, table) = files.teacher(plan, images, options)?.unzip();
    teacher.iter().try_for_each(|teacher| check_classes(teacher, classes, splits))?;
    plan.recipe.teacher = table;
    if plan.recipe.data.audit {
        audit(plan, splits, stop)?;
    }
    let weights = student.as_ref();
    let Resolved { input, table } = input::resolve(&plan.recipe.student, plan.student, weights, images)?;
    let student = Network::build(plan.student, &table, input, weights, options)?;
    plan.recipe.student = table;
    Ok((student, teacher))
}

/// Sets device, threads, number formats and seed; replaces `auto` in the recipe by the chosen values.
fn numerics(recipe: &mut Recipe, launch: Option<&Launch>) -> Result<Device> {
    heterodyne_shim::set_deterministic(recipe.deterministic)?;
    let device = device(recipe.device)?;
    recipe.device = if device == Device::Cpu { DeviceChoice::Cpu } else { DeviceChoice::Cuda };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match (recipe.threads, launch) {
        // A machine's processes share its cores; torchrun sets this variable to 1 instead.
        (0, Some(launch)) if std::env::var_os("OMP_NUM_THREADS").is_none() => cores() / launch.local_size as usize,
        (given, _) => given,
    };
    if let Ok(threads @ 1..) = i32::try_from(threads) {
        tch::set_num_threads(threads);
    }
    let precision = recipe.train.precision.map_or_else(|| usual(device), |given| concrete(given, device));
    recipe.train.precision = Some(precision);
    for table in [Some(&mut recipe.student), recipe.teacher.as_mut()].into_iter().flatten() {
        table.precision = table.precision.map(|precision| concrete(precision, device));
    }
    Rng::global(device)?.seed(seed_of(recipe.seed, launch.map_or(0, |launch| launch.rank)))?;
    Ok(device)
}

/// The weights and packages of the recipe's networks.
struct Files {
    student: Option<Weights>,
    teacher: TeacherFile,
}

enum TeacherFile {
    None,
    /// A packaged network, and its table completed with the input that the package states.
    Package(Box<Network>, Box<NetworkTable>),
    Weights(&'static ModelDef, Box<Weights>),
}

impl Files {
    fn read(plan: &Plan, device: Device) -> Result<Self> {
        let read = |table: &NetworkTable| Source::of(table).map(Weights::read).transpose();
        let teacher = match &plan.recipe.teacher {
            None => TeacherFile::None,
            Some(table) if table.package.is_some() => {
                let (network, table) = Network::package(table, device)?;
                TeacherFile::Package(Box::new(network), Box::new(table))
            }
            Some(table) => {
                let no_weights = || Error::Plan("a teacher needs weights".to_owned());
                let weights = read(table)?.ok_or_else(no_weights)?;
                let def = plan.teacher.map_or_else(|| named_by(&weights, table), Ok)?;
                TeacherFile::Weights(def, Box::new(weights))
            }
        };
        Ok(Self { student: read(&plan.recipe.student)?, teacher })
    }

    /// The taps that the teacher will have.
    fn teacher_taps(&self, plan: &Plan) -> Result<Option<TapSpec>> {
        match (&self.teacher, &plan.recipe.teacher) {
            (TeacherFile::Package(network, _), _) => Ok(Some(network.taps().clone())),
            (TeacherFile::Weights(def, weights), Some(table)) => {
                taps(table, def, Some(weights), plan, teacher_classes(weights, def, table)?).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Reorders the classifiers' rows to the data's classes by name; returns a note for each changed classifier.
    fn order_classes(&mut self, plan: &Plan, splits: &Splits) -> Result<Vec<String>> {
        let train = splits.train()?;
        let (names, about) = (train.classes(), train.describe());
        let mut notes = Vec::new();
        if let (TeacherFile::Weights(def, weights), Some(table)) = (&mut self.teacher, &plan.recipe.teacher) {
            notes.extend(weights.order_classes(def, &table.options, names, &about)?);
        }
        let student = &plan.recipe.student;
        if let Some(weights) = self.student.as_mut().filter(|_| !student.adapt_head) {
            notes.extend(weights.order_classes(plan.student, &student.options, names, &about)?);
        }
        Ok(notes)
    }

    /// The frozen teacher and its completed table.
    fn teacher(
        self,
        plan: &Plan,
        images: DataImages,
        options: BuildOptions,
    ) -> Result<Option<(Network, NetworkTable)>> {
        match (self.teacher, &plan.recipe.teacher) {
            (TeacherFile::Package(network, table), _) => Ok(Some((*network, *table))),
            (TeacherFile::Weights(def, weights), Some(table)) => {
                let Resolved { input, table } = input::resolve(table, def, Some(&weights), images)?;
                let classes = teacher_classes(&weights, def, &table)?;
                let options = BuildOptions { classes, ..options };
                let network = Network::build(def, &table, input, Some(&weights), options)?;
                network.store.freeze();
                let model = if table.model.is_empty() { def.name.to_owned() } else { table.model };
                Ok(Some((network, NetworkTable { model, ..table })))
            }
            _ => Ok(None),
        }
    }
}

/// The model that the teacher's weights name.
fn named_by(weights: &Weights, table: &NetworkTable) -> Result<&'static ModelDef> {
    let name = weights.model().ok_or_else(|| {
        Error::Plan(format!(
            "{}: the weights do not name their model\n  hint: add `model = ..` to [teacher]; `heterodyne models` lists \
             the models",
            weights.name
        ))
    })?;
    let wrong = |e: String| Error::Plan(format!("{}: {e}", weights.name));
    let def = heterodyne_models::find(name).map_err(|e| wrong(e.to_string()))?;
    (def.check_options)(&table.options).map_err(|e| wrong(format!("teacher.options: {e}")))?;
    Ok(def)
}

/// The number of classes of a teacher.
fn teacher_classes(weights: &Weights, def: &'static ModelDef, table: &NetworkTable) -> Result<i64> {
    let unknown = || {
        Error::Plan(format!("{}: the weights have no classifier, so the teacher's classes are unknown", weights.name))
    };
    weights.classes(def, &table.options)?.ok_or_else(unknown)
}

/// The taps that a network will have, with the input size of the recipe, else the weights file, else the dataset.
fn taps(
    table: &NetworkTable,
    def: &'static ModelDef,
    weights: Option<&Weights>,
    plan: &Plan,
    classes: i64,
) -> Result<TapSpec> {
    let side = heterodyne_data::find(&plan.recipe.data.name)?.side;
    let Resolved { input, table } = input::resolve(table, def, weights, DataImages { side, ..DataImages::default() })?;
    Ok(Model::shapes(def, classes, Some(input.img), &table.options)?)
}

fn check_pair(plan: &Plan, student: &TapSpec, teacher: &TapSpec) -> Result<()> {
    plan.methods.iter().try_for_each(|m| Ok(m.settings.check(student, teacher, plan.recipe.train.batch)?))
}

fn check_holdout(plan: &Plan, splits: &Splits) -> Result<()> {
    match (splits.chosen_on(), plan.recipe.data.holdout) {
        (Some(val), holdout @ 1..) => Err(Error::Plan(format!(
            "data.holdout = {holdout} holds out training images, but the data has validation images ({}): remove \
             data.holdout, or set data.val = \"\"",
            val.describe()
        ))),
        _ => Ok(()),
    }
}

fn check_classes(teacher: &Network, classes: i64, splits: &Splits) -> Result<()> {
    let known = teacher.taps().classes;
    if known == classes {
        return Ok(());
    }
    Err(Error::Plan(format!(
        "the teacher ({}) has {known} classes, but the data ({}) has {classes}\n  hint: fine-tune it on this data \
         first: `heterodyne train` a recipe with its model and weights and `adapt_head = true` in [student], then name \
         that run's weights in teacher.weights",
        teacher.name,
        splits.train()?.describe()
    )))
}

fn data_images(plan: &Plan, splits: &Splits) -> DataImages {
    let resized = |side: u32| plan.recipe.data.img.is_some_and(|img| img != i64::from(side));
    DataImages {
        side: splits.side,
        resized: splits.side.is_some_and(resized),
        statistics: Some((splits.mean, splits.std)),
    }
}

/// Decodes every image once.
fn audit(plan: &Plan, splits: &Splits, stop: &AtomicBool) -> Result<()> {
    let used = [Some(splits.train()?), splits.chosen_on(), Some(splits.reported()?)].into_iter().flatten();
    Ok(heterodyne_data::audit(used.map(|split| &**split), plan.recipe.data.workers, stop)?)
}
