//! The settings of a training loader.
use crate::Augment;

/// Which views of an image training draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Views {
    /// A new one in every epoch, drawn from the loader's seed.
    Fresh,
    /// The same `count` views in turn, drawn from their own seed: epoch e takes view e mod count.
    Fixed {
        /// Views per image.
        count: u32,
        /// Seed of their augmentation.
        seed: u64,
    },
}

/// One of several processes that share every batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub of: usize,
}

impl Share {
    /// A single process.
    pub const WHOLE: Self = Self { rank: 0, of: 1 };

    /// This process's rows of a batch. All processes have equally many; a remainder is left out.
    pub(crate) fn rows<'a>(&self, batch: &'a [usize]) -> &'a [usize] {
        let each = batch.len() / self.of.max(1);
        &batch[self.rank * each..(self.rank + 1) * each]
    }
}

/// Settings of a [`TrainLoader`](crate::TrainLoader).
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Images per batch, of all processes together.
    pub batch: usize,
    /// This process's share of every batch of an epoch.
    pub share: Share,
    /// Side of the square images.
    pub side: u32,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Threads. 0 means one for images of up to 64 pixels, which it prepares far faster than a network consumes them,
    /// and one per core for larger images.
    pub workers: usize,
    /// Augmentation of the images.
    pub augment: Augment,
    /// Whether augmented views repeat.
    pub views: Views,
}

impl LoaderConfig {
    /// View of an image in an epoch, and the seed of its augmentation.
    pub(crate) fn view(&self, epoch: u32) -> (u32, u64) {
        match self.views {
            Views::Fresh => (epoch, self.seed),
            Views::Fixed { count, seed } => (epoch % count.max(1), seed),
        }
    }
}
