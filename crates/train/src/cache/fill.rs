//! Fills a cache before training and verifies an existing one.
use std::sync::atomic::AtomicBool;

use heterodyne_data::{
    HostMemory, TrainLoader,
    random::{Purpose, Random},
};
use heterodyne_shim::upload::Upload;
use tch::{Kind, Tensor};

use super::Cache;
use crate::{Error, Result, error::guarded, learner::Learner};

/// Largest number of entries that [`verify`] recomputes.
const CHECKED: usize = 32;
/// Largest relative distance between an entry and the teacher's current output. Rounding to bfloat16 gives about 0.002,
/// a bfloat16 teacher in another batch about 0.01; another teacher or another view gives about 1.
const TOLERANCE: f64 = 0.05;

/// How [`fill`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Every entry is written.
    Full,
    /// A stop was requested; written entries are kept.
    Interrupted,
}

/// Writes all missing entries, view by view, of several processes each its own images; `progress` receives the number
/// of entries written.
pub fn fill(
    cache: &Cache,
    learner: &Learner,
    loader: &TrainLoader,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Filled> {
    guarded("filling the teacher's cache", || {
        let (stored, upload) = (&cache.rows, Upload::to(learner.device())?);
        for view in 0..cache.views {
            let missing: Vec<usize> = learner
                .world
                .part(stored.images)
                .filter(|&row| !stored.rows.holds(view as usize * stored.images + row))
                .collect();
            let mut batches = loader.view(view, missing);
            while let Some(batch) = batches.next_until(stop) {
                let batch = match batch {
                    Err(heterodyne_nn::Error::Stopped) => {
                        cache.flush();
                        return Ok(Filled::Interrupted);
                    }
                    batch => batch?,
                };
                let images = upload.copy(&batch.images)?;
                cache.teacher_output(&batch, &images, &upload, |images| learner.teach(images))?;
                if let Some(problem) = cache.broken() {
                    return Err(Error::Plan(problem));
                }
                progress(batch.rows.len());
            }
        }
        cache.flush();
        cache.broken().map_or(Ok(Filled::Full), |problem| Err(Error::Plan(problem)))
    })
}

/// Recomputes some entries of one view, compares them and returns their number. An entry that differs is an error: the
/// key does not cover what has changed.
///
/// # Errors
/// [`heterodyne_nn::Error::Stopped`] if `stop` is set before the end.
pub fn verify(cache: &Cache, learner: &Learner, loader: &TrainLoader, seed: u64, stop: &AtomicBool) -> Result<usize> {
    guarded("checking the teacher's cache", || compare(cache, learner, loader, seed, stop))
}

fn compare(cache: &Cache, learner: &Learner, loader: &TrainLoader, seed: u64, stop: &AtomicBool) -> Result<usize> {
    let stored = &cache.rows;
    let mut rng = Random::new(seed, Purpose::Select, 0, stored.rows.written() as u64);
    let mut views: Vec<u32> = (0..cache.views).collect();
    rng.shuffle(&mut views);
    for view in views {
        let mut rows: Vec<usize> =
            (0..stored.images).filter(|&row| stored.rows.holds(view as usize * stored.images + row)).collect();
        if rows.is_empty() {
            continue;
        }
        rng.shuffle(&mut rows);
        rows.truncate(CHECKED);
        let mut checked = 0;
        let mut batches = loader.view(view, rows);
        while let Some(batch) = batches.next_until(stop) {
            let batch = batch?;
            let kept = stored.rows.read(&stored.numbers(view, &batch.rows), &HostMemory::default())?;
            if !kept.missing.is_empty() {
                continue;
            }
            let images = batch.images.to_device(learner.device());
            let now = cache.layout.decode(&cache.layout.encode(&learner.teach(&images)?)?)?;
            let then = cache.layout.decode(&kept.rows.f_to(images.device())?)?;
            for (now, then) in std::iter::once((&now.logits, &then.logits))
                .chain(now.signals.iter().flatten().zip(then.signals.iter().flatten()))
            {
                differs(now, then).map_or(Ok(()), |(row, by)| {
                    Err(Error::State(format!(
                        "{}: the entry for view {view} of image {} differs from the teacher's current output \
                         (relative distance {by:.2}): the cache does not belong to this run; remove the folder and \
                         start again",
                        cache.folder.display(),
                        batch.indices[row],
                    )))
                })?;
            }
            checked += batch.rows.len();
        }
        return Ok(checked);
    }
    Ok(0)
}

/// The row in which two tensors (B, ..) have the largest distance relative to its 2-norm, if it is too large.
fn differs(now: &Tensor, then: &Tensor) -> Option<(usize, f64)> {
    let flat = |x: &Tensor| x.to_kind(Kind::Float).flatten(1, -1);
    let norm = |x: &Tensor| x.square().sum_dim_intlist([1i64].as_slice(), false, None::<Kind>).sqrt();
    let distance = norm(&(flat(now) - flat(then))) / (norm(&flat(now)) + 1e-6);
    let row = distance.argmax(0, false).int64_value(&[]);
    let by = distance.double_value(&[row]);
    // A NaN distance is as bad as one that is too large.
    (by.is_nan() || by > TOLERANCE).then_some((row as usize, by))
}
