//! The loaders of a run.
use std::{sync::Arc, thread};

use heterodyne_data::{Dataset, EvalLoader, HostMemory, LoaderConfig, Memory, Share, Splits, TrainLoader, Views};
use heterodyne_nn::InputSpec;
use heterodyne_run::recipe::schema::TestWhen;
use tch::Device;

use crate::{Error, Plan, Result, World};

/// Largest number of images on which the teacher is checked.
const CHECK_IMAGES: usize = 512;
/// Batch size of that check.
const CHECK_BATCH: usize = 64;

pub(super) struct Loaders {
    pub train: TrainLoader,
    pub validation: Option<EvalLoader>,
    pub test: EvalLoader,
    /// Number of training images.
    pub train_images: usize,
    /// Class of each training image.
    pub sample_classes: Vec<i64>,
}

/// Threads of a loader. Next to a GPU the cores are free for it, so 0 means all of them for small images too. The
/// processes of a machine share them.
fn workers(chosen: usize, device: Device, world: &World) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    match chosen {
        0 if !world.is_alone() => (cores() / world.on_this_machine()).max(1),
        0 if device.is_cuda() => cores(),
        given => given,
    }
}

impl Loaders {
    /// Loads training images of `side` pixels, and the others with the student's transform `evaluation`, for networks
    /// on `device`; each process of `world` gets its share of every batch.
    pub fn new(
        plan: &Plan,
        splits: &Splits,
        side: i64,
        evaluation: InputSpec,
        device: Device,
        world: &World,
    ) -> Result<Self> {
        let (train, test) = (splits.train()?, splits.reported()?);
        let (data, t) = (&plan.recipe.data, &plan.recipe.train);
        let side = u32::try_from(side).ok().filter(|s| *s > 0);
        let side = side.ok_or_else(|| Error::Plan("data.img is not an image size".to_owned()))?;
        let seed = plan.recipe.seed;
        let chosen = heterodyne_data::select(&**train, data.per_class, data.holdout, data.seed.unwrap_or(seed))?;
        let train_images = chosen.train.len();
        let sample_classes = chosen.train.iter().map(|&index| train.label(index) as i64).collect();
        let cached = plan.recipe.teacher.as_ref().and_then(|t| t.cache.as_ref());
        let views = cached.map_or(Views::Fresh, |c| Views::Fixed { count: c.views, seed: c.seed.unwrap_or(seed) });
        let augment = plan.augment.clone();
        let workers = workers(data.workers, device, world);
        let memory: Arc<dyn Memory> = Arc::new(HostMemory { pinned: device.is_cuda() });
        let share = Share { rank: world.rank() as usize, of: world.size() as usize };
        let config = LoaderConfig { batch: t.batch, share, side, seed, workers, augment, views };
        let evaluator = |dataset: &Arc<dyn Dataset>, indices: Vec<usize>| -> Result<EvalLoader> {
            let loader = EvalLoader::new(Arc::clone(dataset), indices, t.eval_batch, evaluation, workers)?;
            Ok(loader.in_memory(Arc::clone(&memory)))
        };
        let validation = match splits.chosen_on() {
            Some(val) => Some(evaluator(val, (0..val.len()).collect())?),
            None => (!chosen.validation.is_empty()).then(|| evaluator(train, chosen.validation)).transpose()?,
        };
        if t.test != TestWhen::Every && validation.is_none() {
            return Err(Error::Plan(
                "train.test leaves the test images alone, but no images are held out to evaluate on: set data.holdout"
                    .to_owned(),
            ));
        }
        let loader = TrainLoader::new(Arc::clone(train), chosen.train, config)?.in_memory(Arc::clone(&memory));
        Ok(Self {
            train: if device.is_cuda() { loader.resident(device)? } else { loader },
            validation,
            test: evaluator(test, (0..test.len()).collect())?,
            train_images,
            sample_classes,
        })
    }

    /// The images on which the teacher is checked, with the transform `input`: test images, or held-out images if the
    /// test images are left alone. They are spread evenly because images in a folder are sorted by class.
    pub fn teacher_check(&self, plan: &Plan, splits: &Splits, input: InputSpec) -> Result<(&'static str, EvalLoader)> {
        let (split, images, indices) = match (plan.recipe.train.test, &self.validation) {
            (TestWhen::Last | TestWhen::Never, Some(held_out)) => {
                let images = splits.chosen_on().map_or_else(|| splits.train(), Ok)?;
                ("validation", images, held_out.indices().to_vec())
            }
            _ => {
                let test = splits.reported()?;
                ("test", test, (0..test.len()).collect())
            }
        };
        let workers = plan.recipe.data.workers;
        let loader = EvalLoader::new(Arc::clone(images), indices, CHECK_BATCH, input, workers)?;
        Ok((split, loader.spread(CHECK_IMAGES, CHECK_BATCH)))
    }
}
