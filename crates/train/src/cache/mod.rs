//! What a frozen teacher says of fixed views of the training images, stored once and read back ever after.
//!
//! With `teacher.cache = { views = N }` an image has N augmented views, drawn from (seed, view, image) like fresh ones,
//! and epoch e shows view e mod N. The teacher's part of every method is a fixed function of one view
//! ([`heterodyne_methods::Signal`]), so that a stored view needs no teacher. With N of at least the number of epochs a
//! run sees the views that it would see without a cache.
//!
//! ```text
//! PATH/TEACHER-KEY/
//!   about.json    what the entries depend on, for the reader; its hash is the KEY
//!   rows.bin      one row per (view, image): the logits in float32, the signals in bfloat16
//!   sums.bin      a CRC-32 per row, 0 where the row is not written yet
//! ```
//! A row is written before its sum and checked against it when it is read: whatever interrupts the writing, a row is
//! whole or counts as missing. Several runs may use and fill one cache at a time; at worst a row is computed twice.
//! Rows are read with positioned reads from the page cache instead of through a mapping, where a file that shrinks
//! would be a fatal signal.
mod fill;
pub(crate) mod key;
mod layout;
mod rows;

use std::{cell::RefCell, path::PathBuf, sync::Arc};

use heterodyne_data::{Batch, CachedRows, SampleCache, TrainLoader};
use heterodyne_run::recipe::schema::CacheTable;
use tch::Tensor;

pub use fill::{Filled, fill, verify};
pub use key::About;
use layout::Layout;
use rows::Rows;

use crate::{
    Plan, Result,
    learner::{DistillLoss, Learner, TeacherOutput},
};

/// The stored part of a teacher.
pub struct Cache {
    layout: Layout,
    rows: Arc<Stored>,
    views: u32,
    folder: PathBuf,
    /// A batch whose rows are still on the device: they are fetched when the next step has been issued.
    waiting: RefCell<Option<Waiting>>,
    /// Why nothing is written any more.
    broken: RefCell<Option<String>>,
}

struct Waiting {
    view: u32,
    rows: Vec<usize>,
    encoded: Tensor,
}

/// The rows, view by view.
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
    fn read(&self, view: u32, rows: &[usize]) -> heterodyne_nn::Result<CachedRows> {
        self.rows.read(&self.numbers(view, rows))
    }
}

/// How full a cache is, and what it costs.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheStats {
    /// Its folder.
    pub folder: PathBuf,
    /// Views per image.
    pub views: u32,
    /// Entries that are written.
    pub written: usize,
    /// Entries in all: views times images.
    pub entries: usize,
    /// Size on disk when full, in bytes.
    pub bytes: u64,
}

impl CacheStats {
    /// The first epoch, from 1, in which the teacher need not run: from there on the cache pays.
    #[must_use]
    pub fn pays_from(&self) -> u32 {
        let images = (self.entries / self.views.max(1) as usize).max(1);
        // Views are filled in turn, so what is missing are the last ones.
        if self.written == self.entries { 1 } else { self.views - (self.written / images) as u32 + 1 }
    }
}

impl Cache {
    /// Opens the cache for a teacher, the data and the methods, or makes it; its folder is found by what the entries
    /// depend on.
    pub fn open(table: &CacheTable, about: &About, loss: &DistillLoss, images: usize) -> Result<Self> {
        let layout = Layout::of(loss, about.classes());
        let folder = table.path.join(about.folder());
        let rows = Rows::open(&folder, &about.text(), table.views as usize * images, layout.row_bytes())?;
        let rows = Arc::new(Stored { rows, images });
        Ok(Self { layout, rows, views: table.views, folder, waiting: RefCell::default(), broken: RefCell::default() })
    }

    /// The cache that a plan asks for, read by the threads of `loader`; `identity` is the hash of the teacher.
    ///
    /// # Errors
    /// It cannot be opened or made.
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
        let about = About::of(plan, (teacher, identity), &learner.loss, loader, table)?;
        let cache = Self::open(table, &about, &learner.loss, images)?;
        cache.join(loader);
        Ok(Some(cache))
    }

    /// Lets the loader's threads read the rows.
    pub fn join(&self, loader: &mut TrainLoader) {
        loader.with_cache(Arc::clone(&self.rows) as Arc<dyn SampleCache>);
    }

    /// How full it is.
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

    /// The teacher's part of a batch whose images are on the device as `images`: as it was stored, and where it was
    /// not, as `teach` says now and is then stored. Both are rounded alike, so that a run does not depend on which it
    /// was.
    pub fn teacher_output(
        &self,
        batch: &Batch,
        images: &Tensor,
        teach: impl FnOnce(&Tensor) -> Result<TeacherOutput>,
    ) -> Result<TeacherOutput> {
        let device = images.device();
        let all = batch.rows.len();
        let encoded = match &batch.cached {
            Some(kept) if kept.missing.is_empty() => kept.rows.f_to(device)?,
            Some(kept) if kept.missing.len() < all => {
                let places = Tensor::f_from_slice(&kept.missing)?.f_to(device)?;
                let new = self.layout.encode(&teach(&images.f_index_select(0, &places)?)?)?;
                self.store(batch.view, kept.missing.iter().map(|&place| batch.rows[place as usize]).collect(), &new);
                kept.rows.f_to(device)?.f_index_copy(0, &places, &new)?
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

    /// Entries that were found damaged since this was asked last; they are computed again.
    #[must_use]
    pub fn damaged(&self) -> usize {
        self.rows.rows.damaged()
    }

    /// Writes what is still waiting. A disk that fails ends the writing, not the run: [`Cache::broken`] says why.
    pub fn flush(&self) {
        let Some(Waiting { view, rows, encoded }) = self.waiting.take() else { return };
        if self.broken.borrow().is_some() {
            return;
        }
        if let Err(e) = self.rows.rows.write(&self.rows.numbers(view, &rows), &encoded) {
            self.broken.replace(Some(e.to_string()));
        }
    }

    /// Why nothing is written any more, where a write has failed.
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
