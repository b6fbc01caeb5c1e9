//! Loads samples of a dataset as batches on the CPU.
use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    thread,
};

use heterodyne_nn::{Error, InputSpec, Result, catch, shim::upload};
use tch::{Device, Tensor};

use crate::{
    Dataset, Image, LoaderConfig, Random, Resident, Share,
    memory::{HostMemory, Memory, integers},
    ordered::{Ordered, Stop},
    random::Purpose,
    transforms,
};

/// Images and their classes.
#[derive(Debug)]
pub struct Batch {
    /// uint8 (B,3,H,W), channels-last in memory, on the CPU; on their device if they are resident
    /// ([`TrainLoader::resident`]).
    pub images: Tensor,
    /// Class of each image, int64 (B), on the CPU.
    pub labels: Tensor,
    /// Position of each image in the dataset.
    pub indices: Vec<usize>,
    /// The view of each image; training batches only.
    pub view: u32,
    /// Position of each image among the loader's indices; training batches only.
    pub rows: Vec<usize>,
    /// The [`SampleCache`]'s rows for these views.
    pub cached: Option<CachedRows>,
}

/// The rows of a batch in a [`SampleCache`].
#[derive(Debug)]
pub struct CachedRows {
    /// uint8 (B, bytes) on the CPU; zeros where a row is missing.
    pub rows: Tensor,
    /// Positions in the batch whose rows are missing.
    pub missing: Vec<i64>,
}

/// Stored data for views of training images. The loader's threads read it along with the images.
pub trait SampleCache: Send + Sync {
    /// Reads the rows of `view` for the images `rows` (positions among the loader's indices) into `memory`.
    ///
    /// # Errors
    /// The rows cannot be read.
    fn read(&self, view: u32, rows: &[usize], memory: &dyn Memory) -> Result<CachedRows>;
}

/// One pass over images; dropping it stops its threads.
#[derive(Debug)]
pub struct Epoch {
    batches: Ordered<Batch>,
    /// If the images are resident, the threads' batches have a request for them.
    resident: Option<Arc<Mutex<Resident>>>,
}

impl Epoch {
    fn new(batches: Ordered<Batch>) -> Self {
        Self { batches, resident: None }
    }

    /// Like `next`, but returns [`Error::Stopped`] as soon as `stop` is set, even while waiting for a batch.
    pub fn next_until(&mut self, stop: &AtomicBool) -> Option<Result<Batch>> {
        self.batches.next_until(stop).map(|batch| self.rendered(batch))
    }

    fn rendered(&self, batch: Result<Batch>) -> Result<Batch> {
        match (&self.resident, batch?) {
            (Some(resident), batch) => {
                let resident = resident.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(Batch { images: resident.render(&batch.images)?, ..batch })
            }
            (None, batch) => Ok(batch),
        }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        self.batches.next().map(|batch| self.rendered(batch))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.batches.size_hint()
    }
}

impl ExactSizeIterator for Epoch {}

/// Shuffled, augmented batches of equal size.
pub struct TrainLoader {
    dataset: Arc<dyn Dataset>,
    indices: Arc<[usize]>,
    config: Arc<LoaderConfig>,
    cache: Option<Arc<dyn SampleCache>>,
    memory: Arc<dyn Memory>,
    /// A lock, because a tensor may pass from thread to thread but not be shared.
    resident: Option<Arc<Mutex<Resident>>>,
    workers: usize,
}

impl TrainLoader {
    /// Loads the samples `indices` of `dataset`.
    ///
    /// The last samples of an epoch that do not fill a batch are dropped (different ones in each epoch). A set smaller
    /// than a batch forms one batch of all its samples; networks with batch statistics need at least two.
    ///
    /// # Errors
    /// `indices` is empty or exceeds the dataset, the batch size or the side is 0, or the augmentation does not fit.
    pub fn new(dataset: Arc<dyn Dataset>, indices: Vec<usize>, config: LoaderConfig) -> Result<Self> {
        check(&*dataset, &indices, config.batch, config.side)?;
        let (batch, of) = (config.batch.min(indices.len()), config.share.of);
        if batch < of || (indices.len() >= config.batch && !config.batch.is_multiple_of(of)) {
            return Err(Error::invalid(format!(
                "batches of {batch} images cannot be divided among {of} processes: choose a multiple of {of}"
            )));
        }
        config.augment.check_for(config.side)?;
        let workers = choose_workers(config.workers, config.side);
        let memory = Arc::new(HostMemory::default());
        Ok(Self {
            dataset,
            indices: indices.into(),
            config: Arc::new(config),
            cache: None,
            memory,
            resident: None,
            workers,
        })
    }

    /// Number of batches in an epoch, at least 1.
    #[must_use]
    pub fn batches_per_epoch(&self) -> usize {
        (self.indices.len() / self.config.batch).max(1)
    }

    /// The batches `start_batch..` of epoch `epoch`. They equal those of an epoch that starts at batch 0.
    #[must_use]
    pub fn epoch(&self, epoch: u32, start_batch: usize) -> Epoch {
        let mut order: Vec<usize> = (0..self.indices.len()).collect();
        Random::new(self.config.seed, Purpose::Shuffle, u64::from(epoch), 0).shuffle(&mut order);
        let batches = self.batches_per_epoch();
        let share = self.config.share;
        self.batches(order, self.config.view(epoch), start_batch.min(batches)..batches, self.cache.clone(), share)
    }

    /// One view of the images `rows` (positions among the loader's indices) in the given order; the last batch may be
    /// smaller.
    #[must_use]
    pub fn view(&self, view: u32, rows: Vec<usize>) -> Epoch {
        let batches = rows.len().div_ceil(self.config.batch);
        self.batches(rows, self.config.view(view), 0..batches, None, Share::WHOLE)
    }

    /// Attaches `cache`: the batches of [`TrainLoader::epoch`] then carry its rows.
    pub fn with_cache(&mut self, cache: Arc<dyn SampleCache>) {
        self.cache = Some(cache);
    }

    /// Puts batches together in `memory`.
    #[must_use]
    pub fn in_memory(self, memory: Arc<dyn Memory>) -> Self {
        Self { memory, ..self }
    }

    /// Keeps the images on `device` if they are small and the augmentation only moves them; batches are then made
    /// there, equal to the last bit. Otherwise nothing changes.
    ///
    /// # Errors
    /// An image cannot be read, or the device's memory is full.
    pub fn resident(self, device: Device) -> Result<Self> {
        let (side, augment) = (self.config.side, &self.config.augment);
        let resident = Resident::of(&*self.dataset, &self.indices, side, augment, device)?;
        Ok(Self { resident: resident.map(|resident| Arc::new(Mutex::new(resident))), ..self })
    }

    /// Whether the images are kept on a device.
    #[must_use]
    pub fn is_resident(&self) -> bool {
        self.resident.is_some()
    }

    /// Position of each loaded image in the dataset.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The dataset that images are loaded from.
    #[must_use]
    pub fn dataset(&self) -> &dyn Dataset {
        &*self.dataset
    }

    fn batches(
        &self,
        order: Vec<usize>,
        (view, seed): (u32, u64),
        batches: Range<usize>,
        cache: Option<Arc<dyn SampleCache>>,
        share: Share,
    ) -> Epoch {
        let (dataset, indices, config) =
            (Arc::clone(&self.dataset), Arc::clone(&self.indices), Arc::clone(&self.config));
        let memory = Arc::clone(&self.memory);
        let resident = self.resident.clone();
        let moves_only = resident.is_some();
        let batches = Ordered::start(batches, self.workers, move |batch, stop| {
            let first = batch * config.batch;
            let rows = share.rows(&order[first..(first + config.batch).min(order.len())]);
            let chosen: Vec<usize> = rows.iter().map(|&row| indices[row]).collect();
            let draws = |index: usize| Random::new(seed, Purpose::Sample, u64::from(view), index as u64);
            if moves_only {
                let moved = |row: &usize| (*row, config.augment.draw_move(&mut draws(indices[*row])));
                let request = Resident::request(rows.iter().map(moved));
                let images = integers(&request, &*memory)?;
                let labels: Vec<i64> = chosen.iter().map(|&index| dataset.label(index) as i64).collect();
                let labels = integers(&labels, &*memory)?;
                let cached = cache.as_ref().map(|cache| cache.read(view, rows, &*memory)).transpose()?;
                return Ok(Batch { images, labels, indices: chosen, view, rows: rows.to_vec(), cached });
            }
            let batch = assemble(&*dataset, &chosen, config.side, &*memory, stop, |index, image| {
                config.augment.apply(image, config.side as usize, &mut draws(index))
            })?;
            let cached = cache.as_ref().map(|cache| cache.read(view, rows, &*memory)).transpose()?;
            Ok(Batch { view, rows: rows.to_vec(), cached, ..batch })
        });
        Epoch { batches, resident }
    }
}

impl std::fmt::Debug for TrainLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "TrainLoader({} of {}, {:?}, {} workers)",
            self.indices.len(),
            self.dataset.describe(),
            self.config,
            self.workers
        )
    }
}

/// Batches in the given order, resized and cropped as in evaluation; the last one may be smaller.
pub struct EvalLoader {
    dataset: Arc<dyn Dataset>,
    indices: Arc<[usize]>,
    batch: usize,
    spec: InputSpec,
    side: u32,
    memory: Arc<dyn Memory>,
    workers: usize,
}

impl EvalLoader {
    /// Loads the samples `indices` of `dataset`, resized and cropped by `spec`. A [`View`](crate::View) normalises
    /// them.
    ///
    /// # Errors
    /// `indices` is empty or exceeds the dataset, the batch size is 0, or `spec` is not valid ([`InputSpec::check`]).
    pub fn new(
        dataset: Arc<dyn Dataset>,
        indices: Vec<usize>,
        batch: usize,
        spec: InputSpec,
        workers: usize,
    ) -> Result<Self> {
        spec.check()?;
        let side = u32::try_from(spec.img)
            .map_err(|_| Error::invalid(format!("images of {} pixels are too large", spec.img)))?;
        check(&*dataset, &indices, batch, side)?;
        let workers = choose_workers(workers, side);
        let memory = Arc::new(HostMemory::default());
        Ok(Self { dataset, indices: indices.into(), batch, spec, side, memory, workers })
    }

    /// Puts batches together in `memory`.
    #[must_use]
    pub fn in_memory(self, memory: Arc<dyn Memory>) -> Self {
        Self { memory, ..self }
    }

    /// The same for the samples at `places` among the loader's.
    #[must_use]
    pub fn among(&self, places: Range<usize>) -> Self {
        Self {
            dataset: Arc::clone(&self.dataset),
            indices: self.indices[places].into(),
            memory: Arc::clone(&self.memory),
            ..*self
        }
    }

    /// The same for `n` evenly spaced samples (all, if there are fewer), in batches of `batch`.
    #[must_use]
    pub fn spread(&self, n: usize, batch: usize) -> Self {
        let all = self.indices.len();
        let n = n.clamp(1, all);
        Self {
            dataset: Arc::clone(&self.dataset),
            indices: (0..n).map(|i| self.indices[i * all / n]).collect(),
            batch: batch.max(1),
            memory: Arc::clone(&self.memory),
            ..*self
        }
    }

    /// Position of each loaded image in the dataset.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Always `false`: a loader has at least one sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Number of batches.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.indices.len().div_ceil(self.batch)
    }

    /// All batches; dropping the iterator stops its threads.
    pub fn iter(&self) -> Epoch {
        let (dataset, indices) = (Arc::clone(&self.dataset), Arc::clone(&self.indices));
        let (size, side, spec, memory) = (self.batch, self.side, self.spec, Arc::clone(&self.memory));
        Epoch::new(Ordered::start(0..self.batches(), self.workers, move |batch, stop| {
            let first = batch * size;
            let indices = &indices[first..(first + size).min(indices.len())];
            assemble(&*dataset, indices, side, &*memory, stop, |_, image| transforms::evaluation(image, &spec))
        }))
    }
}

impl std::fmt::Debug for EvalLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "EvalLoader({} of {}, batch {}, side {})",
            self.indices.len(),
            self.dataset.describe(),
            self.batch,
            self.side
        )
    }
}

fn check(dataset: &dyn Dataset, indices: &[usize], batch: usize, side: u32) -> Result<()> {
    if batch == 0 || side == 0 {
        return Err(Error::invalid(format!(
            "cannot load batches of {batch} images of {side} pixels: both must be at least 1"
        )));
    }
    if indices.is_empty() {
        return Err(Error::invalid(format!("no samples of {} are selected", dataset.describe())));
    }
    match indices.iter().find(|&&index| index >= dataset.len()) {
        Some(index) => Err(Error::invalid(format!("there is no sample {index} in {}", dataset.describe()))),
        None => Ok(()),
    }
}

fn choose_workers(workers: usize, side: u32) -> usize {
    match workers {
        0 if side <= 64 => 1,
        0 => thread::available_parallelism().map_or(1, usize::from),
        given => given,
    }
}

/// Reads, renders and stacks samples. Bytes are written as (B,H,W,3) and viewed as (B,3,H,W): channels-last without a
/// copy.
fn assemble(
    dataset: &dyn Dataset,
    indices: &[usize],
    side: u32,
    memory: &dyn Memory,
    stop: &Stop,
    render: impl Fn(usize, Image) -> Result<Image>,
) -> Result<Batch> {
    let bytes = side as usize * side as usize * 3;
    let mut pixels = memory.bytes(indices.len().saturating_mul(bytes)).map_err(|_| {
        let size = indices.len() as f64 * bytes as f64 / 1e9;
        Error::invalid(format!(
            "{} images of {side} x {side} pixels take {size:.1} GB, which cannot be allocated: use smaller batches or \
             images",
            indices.len()
        ))
    })?;
    let mut labels = Vec::with_capacity(indices.len());
    for (&index, place) in indices.iter().zip(upload::bytes_mut(&mut pixels)?.chunks_exact_mut(bytes)) {
        if stop.is_set() {
            return Err(Error::invalid("loading was stopped"));
        }
        let name = || format!("sample {index} of {}", dataset.describe());
        let (image, label) = catch(name, || Ok((render(index, dataset.image(index)?)?, dataset.label(index))))?;
        if image.rgb.len() != bytes || label >= dataset.classes().len() {
            let (height, width) = image.size();
            return Err(Error::invalid(format!(
                "{}: {height} x {width} pixels, class {label} of {}",
                name(),
                dataset.classes().len()
            )));
        }
        place.copy_from_slice(&image.rgb);
        labels.push(label as i64);
    }
    let side = i64::from(side);
    let images = pixels.f_view([indices.len() as i64, side, side, 3])?.f_permute([0, 3, 1, 2])?;
    let labels = integers(&labels, memory)?;
    Ok(Batch { images, labels, indices: indices.to_vec(), view: 0, rows: Vec::new(), cached: None })
}
