use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use heterodyne_data::{
    Augment, Batch, EvalLoader, HostMemory, LoaderConfig, Memory, Share, TrainLoader, Views,
    augment::{Crop, Interpolation},
    transforms::PadMode,
};
use heterodyne_nn::{Result, shim};
use tch::{Kind, Tensor};

use crate::support::{Fault, Pattern, bytes, ints, message, says, spec};

fn config(batch: usize, workers: usize) -> LoaderConfig {
    let augment = Augment {
        crop: Crop::Resized,
        interpolation: Interpolation::Random,
        flip: 0.5,
        brightness: 0.4,
        contrast: 0.4,
        saturation: 0.4,
        erase: 0.3,
        ..Augment::default()
    };
    LoaderConfig { batch, share: Share::WHOLE, side: 8, seed: 5, workers, augment, views: Views::Fresh }
}

fn loader(len: usize, config: LoaderConfig) -> TrainLoader {
    TrainLoader::new(Pattern::shared(len, 10, 3), (0..len).collect(), config).unwrap()
}

/// Position, class and pixels (channels first) of every sample in order.
fn samples(batches: impl Iterator<Item = Result<Batch>>) -> Vec<(usize, i64, Vec<u8>)> {
    batches
        .flat_map(|batch| {
            let batch = batch.unwrap();
            let labels = ints(&batch.labels);
            let pixels: Vec<Vec<u8>> = (0..labels.len() as i64).map(|i| bytes(&batch.images.get(i))).collect();
            batch.indices.into_iter().zip(labels).zip(pixels).map(|((i, l), p)| (i, l, p)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn batches_have_the_promised_form() {
    let loader = loader(20, config(6, 1));
    assert_eq!(loader.batches_per_epoch(), 3);
    let batch = loader.epoch(0, 0).next().unwrap().unwrap();
    assert_eq!((batch.images.size(), batch.images.kind()), (vec![6, 3, 8, 8], Kind::Uint8));
    assert!(shim::is_channels_last(&batch.images));
    assert_eq!((batch.labels.size(), batch.labels.kind()), (vec![6], Kind::Int64));
    assert!(batch.indices.iter().zip(ints(&batch.labels)).all(|(index, label)| (index % 3) as i64 == label));
}

#[test]
fn an_untouched_image_arrives_as_it_is() {
    let data = Pattern::shared(4, 8, 2);
    let config = LoaderConfig { augment: Augment::default(), ..config(4, 1) };
    let train = TrainLoader::new(data.clone(), vec![0, 1, 2, 3], config).unwrap();
    let eval = EvalLoader::new(data.clone(), vec![3, 1], 4, spec(8, 1.0), 1).unwrap();
    for (index, _, pixels) in samples(train.epoch(0, 0)).into_iter().chain(samples(eval.iter())) {
        let image = data.image(index).unwrap();
        let planes: Vec<u8> =
            (0..3).flat_map(|c| image.rgb.iter().skip(c).step_by(3).copied().collect::<Vec<_>>()).collect();
        assert_eq!(pixels, planes);
    }
}

#[test]
fn an_epoch_does_not_depend_on_threads_or_batch_size() {
    let reference = samples(loader(60, config(10, 1)).epoch(2, 0));
    assert_eq!(reference.len(), 60);
    for workers in [0, 2, 3, 7] {
        assert_eq!(samples(loader(60, config(10, workers)).epoch(2, 0)), reference, "{workers} workers");
    }
    for batch in [4, 15, 60] {
        assert_eq!(samples(loader(60, config(batch, 2)).epoch(2, 0)), reference, "batches of {batch}");
    }
    // A sample looks the same whichever other samples are selected.
    let some = TrainLoader::new(Pattern::shared(60, 10, 3), (0..60).step_by(2).collect(), config(5, 2)).unwrap();
    for sample in samples(some.epoch(2, 0)) {
        assert!(reference.contains(&sample));
    }
    let other_epoch = samples(loader(60, config(10, 1)).epoch(3, 0));
    let other_seed = samples(loader(60, LoaderConfig { seed: 6, ..config(10, 1) }).epoch(2, 0));
    for other in [other_epoch, other_seed] {
        assert_ne!(other.iter().map(|s| s.0).collect::<Vec<_>>(), reference.iter().map(|s| s.0).collect::<Vec<_>>());
        assert!(other.iter().filter(|s| reference.contains(s)).count() < 6);
    }
}

#[test]
fn an_epoch_can_be_resumed_at_any_batch() {
    let loader = loader(50, config(7, 2));
    let whole = samples(loader.epoch(1, 0));
    for start in 0..=loader.batches_per_epoch() {
        let epoch = loader.epoch(1, start);
        assert_eq!(epoch.len(), 7 - start);
        assert_eq!(samples(epoch), whole[start * 7..]);
    }
    assert_eq!(loader.epoch(1, 100).count(), 0);
}

#[test]
fn every_sample_comes_once_and_the_tail_is_dropped() {
    let loader = loader(50, config(8, 2));
    let mut dropped = std::collections::HashSet::new();
    for epoch in 0..20 {
        let mut seen: Vec<usize> = samples(loader.epoch(epoch, 0)).into_iter().map(|s| s.0).collect();
        assert_eq!(seen.len(), 48);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 48);
        dropped.extend((0..50).filter(|i| !seen.contains(i)));
    }
    assert!(dropped.len() > 15, "different samples are left out in each epoch: {dropped:?}");
    // A set smaller than a batch is one batch.
    let small = self::loader(5, config(8, 2));
    assert_eq!(small.batches_per_epoch(), 1);
    assert_eq!(samples(small.epoch(0, 0)).len(), 5);
}

#[test]
fn evaluation_goes_through_in_order_and_keeps_the_tail() {
    let indices: Vec<usize> = (0..23).rev().collect();
    for workers in [1, 2, 5] {
        let loader = EvalLoader::new(Pattern::shared(23, 10, 3), indices.clone(), 5, spec(8, 0.9), workers).unwrap();
        let sizes: Vec<i64> = loader.iter().map(|b| b.unwrap().labels.size()[0]).collect();
        assert_eq!(sizes, [5, 5, 5, 5, 3]);
        assert_eq!(samples(loader.iter()).into_iter().map(|s| s.0).collect::<Vec<_>>(), indices);
        assert_eq!(samples(loader.iter()), samples(loader.iter()));
    }
}

#[test]
fn errors_and_panics_arrive_in_place_with_the_name_of_the_sample() {
    for workers in [1, 2, 3] {
        let faults = vec![(4, Fault::Error), (9, Fault::Panic), (13, Fault::Label)];
        let data = Arc::new(Pattern { faults, ..Pattern::new(20, 8, 3) });
        let loader = EvalLoader::new(data, (0..20).collect(), 2, spec(8, 1.0), workers).unwrap();
        let results: Vec<_> = loader.iter().collect();
        let failed: Vec<usize> = results.iter().enumerate().filter(|(_, r)| r.is_err()).map(|(i, _)| i).collect();
        assert_eq!(failed, [2, 4, 6]);
        let mut errors = results.into_iter().filter(Result::is_err).map(message);
        says(&errors.next().unwrap(), &["pictures/broken.png", "is torn"]);
        says(&errors.next().unwrap(), &["sample 9 of pattern", "a bug in a decoder"]);
        says(&errors.next().unwrap(), &["sample 13 of pattern", "class 3 of 3"]);
    }
}

/// Fails if `f` takes too long.
fn within_a_while(f: impl FnOnce() + Send + 'static) {
    let (done, waited) = mpsc::channel();
    let thread = thread::spawn(move || {
        f();
        let _ = done.send(());
    });
    assert!(waited.recv_timeout(Duration::from_secs(20)).is_ok(), "it hangs or failed");
    thread.join().unwrap();
}

#[test]
fn dropping_an_epoch_midway_stops_its_threads() {
    within_a_while(|| {
        let data: Arc<Pattern> = Arc::new(Pattern { delay: Duration::from_millis(1), ..Pattern::new(100_000, 8, 3) });
        for workers in [1, 2, 8] {
            let loader = TrainLoader::new(data.clone(), (0..100_000).collect(), config(10, workers)).unwrap();
            for taken in [0, 1, 5] {
                let mut epoch = loader.epoch(0, 0);
                for _ in 0..taken {
                    epoch.next().unwrap().unwrap();
                }
                drop(epoch);
            }
            drop(loader);
            // The drop joins the threads, so nothing else holds the dataset.
            assert_eq!(Arc::strong_count(&data), 1, "{workers} workers");
        }
        // The consumer may panic too.
        let loader = TrainLoader::new(data.clone(), (0..100_000).collect(), config(10, 2)).unwrap();
        let panicked = thread::spawn(move || {
            let mut epoch = loader.epoch(0, 0);
            epoch.next().unwrap().unwrap();
            std::panic::resume_unwind(Box::new("stop"));
        });
        assert!(panicked.join().is_err());
        assert_eq!(Arc::strong_count(&data), 1);
    });
}

#[test]
fn loaders_refuse_what_cannot_work() {
    let data = Pattern::shared(10, 8, 2);
    let train = |indices: Vec<usize>, config| message(TrainLoader::new(data.clone(), indices, config));
    says(&train(vec![], config(2, 1)), &["no sample", "pattern"]);
    says(&train(vec![3, 10], config(2, 1)), &["no sample 10"]);
    says(&train(vec![1], config(0, 1)), &["batches of 0"]);
    says(&train(vec![1], LoaderConfig { side: 0, ..config(1, 1) }), &["0 pixels"]);
    let padded = Augment { crop: Crop::Pad, pad: 8, ..Augment::default() };
    says(
        &train(vec![1], LoaderConfig { augment: padded, ..config(1, 1) }),
        &["`pad` is 8", "smaller than the image side 8"],
    );
    says(
        &train(vec![1], LoaderConfig { augment: Augment { flip: 2.0, ..Augment::default() }, ..config(1, 1) }),
        &["flip"],
    );
    for crop in [0.0, 1.1, f64::NAN] {
        says(&message(EvalLoader::new(data.clone(), vec![0], 1, spec(8, crop), 1)), &["crop_pct"]);
    }
}

/// Memory that counts, and refuses once `left` allocations are used.
struct Counting {
    left: std::sync::atomic::AtomicUsize,
    threads: std::sync::Mutex<Vec<thread::ThreadId>>,
}

impl Counting {
    fn shared(left: usize) -> Arc<Self> {
        Arc::new(Self { left: left.into(), threads: Default::default() })
    }
}

impl Memory for Counting {
    fn bytes(&self, length: usize) -> Result<Tensor> {
        use std::sync::atomic::Ordering;
        self.threads.lock().unwrap().push(thread::current().id());
        let less = |left: usize| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => HostMemory::default().bytes(length),
            Err(_) => Err(heterodyne_nn::Error::invalid("no more")),
        }
    }
}

#[test]
fn batches_are_put_together_in_the_memory_that_is_given_by_the_loaders_threads() {
    let memory = Counting::shared(usize::MAX);
    let train = loader(20, config(6, 2));
    let expected = samples(train.epoch(1, 0));
    let train = train.in_memory(memory.clone());
    assert_eq!(samples(train.epoch(1, 0)), expected);
    let eval = EvalLoader::new(Pattern::shared(7, 10, 3), (0..7).collect(), 3, spec(8, 1.0), 1).unwrap();
    let expected = samples(eval.iter());
    let eval = eval.in_memory(memory.clone());
    assert_eq!(samples(eval.iter()), expected);
    assert_eq!(samples(eval.spread(7, 3).iter()), expected);
    // Images and labels of three batches, three times.
    let threads = memory.threads.lock().unwrap();
    assert_eq!(threads.len(), 18);
    assert!(!threads.contains(&thread::current().id()), "the thread of the step has worked");
}

#[test]
fn memory_that_is_full_is_an_error_of_the_batch() {
    let train = loader(20, config(6, 1)).in_memory(Counting::shared(2));
    let mut batches = train.epoch(0, 0);
    assert!(batches.next().unwrap().is_ok());
    says(&batches.next().unwrap().unwrap_err().to_string(), &["6 images of 8 x 8 pixels", "use smaller batches"]);
}

#[test]
fn a_resident_set_gives_the_same_bytes() {
    let moves = [
        Augment { crop: Crop::Pad, pad: 3, flip: 0.5, ..Augment::default() },
        Augment { crop: Crop::Pad, pad: 2, pad_mode: PadMode::Zero, flip: 1.0, ..Augment::default() },
        Augment { interpolation: Interpolation::Random, flip: 0.5, ..Augment::default() },
        Augment::default(),
    ];
    for (case, augment) in moves.into_iter().enumerate() {
        let views = if case == 0 { Views::Fixed { count: 2, seed: 9 } } else { Views::Fresh };
        let config = LoaderConfig { augment, views, ..config(6, 2) };
        // Every second image, of the loader's own size.
        let of = |config: &LoaderConfig| {
            TrainLoader::new(Pattern::shared(50, 8, 3), (0..50).step_by(2).collect(), config.clone()).unwrap()
        };
        let (plain, resident) = (of(&config), of(&config).resident(tch::Device::Cpu).unwrap());
        assert!(resident.is_resident() && !plain.is_resident());
        for epoch in 0..3 {
            assert_eq!(samples(resident.epoch(epoch, 1)), samples(plain.epoch(epoch, 1)), "case {case}, epoch {epoch}");
        }
        let some = vec![4, 0, 24, 7];
        assert_eq!(samples(resident.view(1, some.clone())), samples(plain.view(1, some)), "case {case}");
        let batch = resident.epoch(0, 0).next().unwrap().unwrap();
        assert_eq!((batch.images.size(), batch.images.kind()), (vec![6, 3, 8, 8], Kind::Uint8));
        assert!(shim::is_channels_last(&batch.images) && batch.rows.len() == 6);
    }
}

#[test]
fn only_sets_that_are_moved_and_of_one_size_become_resident() {
    let moved = || LoaderConfig { augment: Augment { flip: 0.5, ..Augment::default() }, ..config(6, 1) };
    let resident = |side: usize, config| {
        let loader = TrainLoader::new(Pattern::shared(20, side, 3), (0..20).collect(), config).unwrap();
        loader.resident(tch::Device::Cpu).unwrap().is_resident()
    };
    assert!(resident(8, moved()));
    assert!(!resident(10, moved()), "images that are resized");
    assert!(!resident(8, config(6, 1)), "images that are jittered");
}

/// The processes of a run share every batch: together they have each image of it once, in its order.
#[test]
fn shares_of_a_batch_are_its_parts_in_order() {
    let parts = |of: usize, batch: usize| -> Vec<Vec<Vec<usize>>> {
        let share = |rank| LoaderConfig { share: Share { rank, of }, ..config(batch, 2) };
        (0..of).map(|rank| loader(62, share(rank)).epoch(3, 1).map(|batch| batch.unwrap().indices).collect()).collect()
    };
    for of in [2, 3, 4] {
        let whole = &parts(1, 12)[0];
        let parts = parts(of, 12);
        for (number, batch) in whole.iter().enumerate() {
            let joined: Vec<usize> = parts.iter().flat_map(|part| part[number].clone()).collect();
            assert_eq!(&joined, batch);
            assert!(parts.iter().all(|part| part[number].len() == 12 / of));
        }
        assert_eq!(whole.len(), 4);
    }
    // A set smaller than a batch: a remainder is left out, and no process is left without an image.
    let small = |rank| LoaderConfig { share: Share { rank, of: 2 }, ..config(12, 1) };
    let sizes: Vec<usize> =
        [0, 1].map(|rank| loader(7, small(rank)).epoch(0, 0).next().unwrap().unwrap().indices.len()).into();
    assert_eq!(sizes, [3, 3]);
    let refused = TrainLoader::new(
        Pattern::shared(60, 10, 3),
        (0..60).collect(),
        LoaderConfig { share: Share { rank: 0, of: 5 }, ..config(12, 1) },
    );
    assert!(refused.unwrap_err().to_string().contains("cannot be divided among 5 processes"));
}
