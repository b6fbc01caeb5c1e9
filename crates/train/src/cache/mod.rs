//! A frozen teacher's outputs for fixed views of the training images, computed once and then read from disk.
//!
//! With `teacher.cache = { views = N }`, every image has N augmented views, drawn from (seed, view, image) like fresh
//! ones, and epoch e uses view e mod N. The teacher's part of every method is a fixed function of one view
//! ([`heterodyne_methods::Signal`]), so a stored view needs no teacher. If N is at least the number of epochs, a run
//! sees the same views as without a cache.
//!
//! ```text
//! PATH/TEACHER-KEY/
//!   about.json         the dependencies of the entries, for the reader; their hash is the KEY
//!   logits.rows        the logits of each (view, image) in float32
//!   logits.sums        a CRC-32 of each, 0 if it is not written yet
//!   signal-KEY.json    a signal's description, for the reader; its hash is this KEY
//!   signal-KEY.rows    its values in bfloat16
//!   signal-KEY.sums    their CRC-32
//! ```
//! A run opens the columns of its own methods. So methods with different signals share a cache and the logits in it,
//! and one pass of the teacher can fill the columns of several methods ([`together`]).
//!
//! A value is written before its sum and checked against it when read: after any interruption, it is intact or counts
//! as missing. Several runs can use and fill one cache at the same time; at worst a row is computed twice. Rows are
//! read from the page cache with positioned reads, not through a memory mapping: reading a mapped file that has shrunk
//! is a fatal signal.
mod column;
mod fill;
pub(crate) mod key;
mod layout;
mod rows;
mod together;

use std::{cell::RefCell, path::PathBuf, sync::Arc};

use heterodyne_data::{Batch, CachedRows, Memory, SampleCache, TrainLoader};
use heterodyne_run::recipe::schema::CacheTable;
use heterodyne_shim::upload::Upload;
use tch::Tensor;

pub use fill::{Filled, fill, verify};
pub use key::About;
use layout::Layout;
use rows::Rows;
pub use together::together;

use crate::{
    Plan, Result,
    learner::{DistillLoss, Learner, TeacherOutput},
};

/// A teacher's stored outputs.
pub struct Cache {
    layout: Layout,
    rows: Arc<Stored>,
    views: u32,
    folder: PathBuf,
    /// A batch whose rows are still on the device; they are fetched once the next step has been issued.
    waiting: RefCell<Option<Waiting>>,
    /// Why writing has stopped.
    broken: RefCell<Option<String>>,
}

struct Waiting {
    view: u32,
    rows: Vec<usize>,
    encoded: Tensor,
}

/// The rows, ordered by view.
struct Stored {
    rows: Rows,
    images: usize,
}

impl Stored {
    fn numbers(&self, view: u32, rows: &[usize]) -> Vec<usize> {
        rows.iter().map(|row| view as usize * self.images + row).collect()
    }
}

impl SampleCache for Stored {
    fn read(&self, view: u32, rows: &[usize], memory: &dyn Memory) -> heterodyne_nn::Result<CachedRows> {
        self.rows.read(&self.numbers(view, rows), memory)
    }
}

/// A cache's fill level and size.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheStats {
    /// Its folder.
    pub folder: PathBuf,
    /// Views per image.
    pub views: u32,
    /// Number of written entries.
    pub written: usize,
    /// Total number of entries: views times images.
    pub entries: usize,
    /// Size on disk when full, in bytes.
    pub bytes: u64,
}

impl CacheStats {
    /// The first epoch, counted from 1, in which the teacher need not run and the cache saves time.
    #[must_use]
    pub fn pays_from(&self) -> u32 {
        let images = (self.entries / self.views.max(1) as usize).max(1);
        // Views are filled in order, so only the last ones can be missing.
        if self.written == self.entries { 1 } else { self.views - (self.written / images) as u32 + 1 }
    }
}

impl Cache {
    /// Opens or creates the cache for a teacher and the data, with the columns of the methods; the dependencies of the
    /// entries determine its folder.
    pub fn open(table: &CacheTable, about: &About, loss: &DistillLoss, images: usize) -> Result<Self> {
        let layout = Layout::of(loss, about.classes());
        let folder = table.path.join(about.folder());
        let rows = Rows::open(&folder, &about.text(), table.views as usize * images, &layout)?;
        let rows = Arc::new(Stored { rows, images });
        Ok(Self { layout, rows, views: table.views, folder, waiting: RefCell::default(), broken: RefCell::default() })
    }

    /// The cache that a plan requests, if any, read by the threads of `loader`; `identity` is the teacher's hash.
    ///
    /// # Errors
    /// The cache cannot be opened or created.
    pub fn of_plan(
        plan: &Plan,
        learner: &Learner,
        identity: Option<&str>,
        loader: &mut TrainLoader,
        images: usize,
    ) -> Result<Option<Self>> {
        let table = plan.recipe.teacher.as_ref().and_then(|t| t.cache.as_ref());
        let (Some(teacher), Some(identity), Some(table)) = (&learner.teacher, identity, table) else {
            return Ok(None);
        };
        let about = About::of(plan, (teacher, identity), loader, table)?;
        let cache = Self::open(table, &about, &learner.loss, images)?;
        cache.join(loader);
        Ok(Some(cache))
    }

    /// Lets the loader's threads read the rows.
    pub fn join(&self, loader: &mut TrainLoader) {
        loader.with_cache(Arc::clone(&self.rows) as Arc<dyn SampleCache>);
    }

    /// Its fill level and size.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let rows = &self.rows.rows;
        CacheStats {
            folder: self.folder.clone(),
            views: self.views,
            written: rows.written(),
            entries: rows.len(),
            bytes: rows.bytes(),
        }
    }

    /// The teacher's output for a batch whose images `upload` has brought to the device as `images`: stored rows are
    /// read, missing ones are computed by `teach` and stored. Both are rounded alike, so a run does not depend on which
    /// rows were stored.
    pub fn teacher_output(
        &self,
        batch: &Batch,
        images: &Tensor,
        upload: &Upload,
        teach: impl FnOnce(&Tensor) -> Result<TeacherOutput>,
    ) -> Result<TeacherOutput> {
        let device = images.device();
        let all = batch.rows.len();
        let encoded = match &batch.cached {
            Some(kept) if kept.missing.is_empty() => upload.copy(&kept.rows)?,
            Some(kept) if kept.missing.len() < all => {
                let places = Tensor::f_from_slice(&kept.missing)?.f_to(device)?;
                let new = self.layout.encode(&teach(&images.f_index_select(0, &places)?)?)?;
                self.store(batch.view, kept.missing.iter().map(|&place| batch.rows[place as usize]).collect(), &new);
                upload.copy(&kept.rows)?.f_index_copy(0, &places, &new)?
            }
            _ => {
                let new = self.layout.encode(&teach(images)?)?;
                self.store(batch.view, batch.rows.clone(), &new);
                new
            }
        };
        self.layout.decode(&encoded)
    }

    fn store(&self, view: u32, rows: Vec<usize>, encoded: &Tensor) {
        self.flush();
        self.waiting.replace(Some(Waiting { view, rows, encoded: encoded.shallow_clone() }));
    }

    /// Number of entries found damaged since the last call; they are recomputed.
    #[must_use]
    pub fn damaged(&self) -> usize {
        self.rows.rows.damaged()
    }

    /// Writes pending rows. A disk failure stops the writing, not the run: see [`Cache::broken`].
    pub fn flush(&self) {
        let Some(Waiting { view, rows, encoded }) = self.waiting.take() else { return };
        if self.broken.borrow().is_some() {
            return;
        }
        if let Err(e) = self.rows.rows.write(&self.rows.numbers(view, &rows), &encoded) {
            self.broken.replace(Some(e.to_string()));
        }
    }

    /// Why writing has stopped, if a write has failed.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.broken.borrow().clone()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.flush();
    }
}
