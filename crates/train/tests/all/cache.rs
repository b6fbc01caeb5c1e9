//! The teacher's cache: filling, reading, damage and keys.
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use heterodyne_nn::{Tensors, file};
use heterodyne_train::{
    Event, Plan, Session,
    cache::{CacheStats, Filled, fill, together, verify},
    fit,
};
use tch::{Kind, Tensor};

use crate::support::{folder, plan, session, taught_by, teacher};

const METHODS: [&str; 5] = ["kd", "fitnet", "uhkd", "lfcc", "hcd"];
static NEVER: AtomicBool = AtomicBool::new(false);

fn filled(s: &Session, progress: &mut dyn FnMut(usize)) -> heterodyne_train::Result<Filled> {
    fill(s.cache.as_ref().unwrap(), &s.learner, &s.train, &NEVER, progress)
}

fn verified(s: &Session) -> heterodyne_train::Result<usize> {
    verify(s.cache.as_ref().unwrap(), &s.learner, &s.train, s.plan.recipe.seed, &NEVER)
}

fn sets(dir: &Path, methods: &[&str], views: u32) -> Vec<String> {
    let mut sets = taught_by(&teacher(dir, 10), methods);
    sets.push(format!("teacher.cache={{views={views},path='{}'}}", dir.join("cache").display()));
    sets
}

/// The settings of [`sets`] with more of them.
fn with(dir: &Path, methods: &[&str], views: u32, more: &[&str]) -> Vec<String> {
    sets(dir, methods, views).into_iter().chain(more.iter().map(|s| (*s).to_owned())).collect()
}

fn stats(s: &Session) -> CacheStats {
    s.cache.as_ref().unwrap().stats()
}

/// The weights after a run, and the cache's statistics at its start.
fn trained(s: &Session, out: &Path) -> (Tensors, Option<CacheStats>) {
    let run = folder(out, s);
    let mut before = None;
    let mut watch = |event: &Event| {
        if let Event::Cache { stats, .. } = event {
            before = Some((*stats).clone());
        }
    };
    fit(s, &run, false, &NEVER, &mut watch).unwrap();
    (file::read(&run.weights("last")).unwrap().0, before)
}

/// The names of the cache's files that start with `start` and end with `end`, sorted.
fn files(s: &Session, start: &str, end: &str) -> Vec<String> {
    let names = fs::read_dir(stats(s).folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(start) && name.ends_with(end)).collect();
    names.sort();
    names
}

#[test]
fn a_warm_cache_trains_the_very_same_student_as_the_run_that_filled_it() {
    let dir = tempfile::tempdir().unwrap();
    let sets = sets(dir.path(), &METHODS, 2);
    let (cold, before) = trained(&session(&sets).unwrap(), &dir.path().join("cold"));
    assert_eq!((before.as_ref().unwrap().written, before.unwrap().pays_from()), (0, 3));
    let s = session(&sets).unwrap();
    assert_eq!(stats(&s).written, stats(&s).entries);
    assert_eq!(verified(&s).unwrap(), 32);
    let (warm, before) = trained(&s, &dir.path().join("warm"));
    assert_eq!(before.unwrap().pays_from(), 1);
    assert_eq!(cold, warm);
}

#[test]
fn as_many_views_as_epochs_are_the_views_of_a_run_without_a_cache() {
    let dir = tempfile::tempdir().unwrap();
    let (cached, _) = trained(&session(&sets(dir.path(), &["kd"], 3)).unwrap(), &dir.path().join("cached"));
    let (fresh, _) =
        trained(&session(&taught_by(&teacher(dir.path(), 10), &["kd"])).unwrap(), &dir.path().join("fresh"));
    // Logits are stored in float32, so nothing is rounded.
    assert_eq!(cached, fresh);
}

#[test]
fn filling_ahead_is_interrupted_and_continues() {
    let dir = tempfile::tempdir().unwrap();
    let sets = sets(dir.path(), &["uhkd", "lfcc"], 3);
    let s = session(&sets).unwrap();
    let cache = s.cache.as_ref().unwrap();
    let stop = AtomicBool::new(false);
    let mut done = 0;
    let mut first_batches = |n| {
        done += n;
        stop.store(done >= 30, Ordering::Relaxed);
    };
    assert_eq!(fill(cache, &s.learner, &s.train, &stop, &mut first_batches).unwrap(), Filled::Interrupted);
    assert_eq!(stats(&s).written, 30);
    drop(s);
    let s = session(&sets).unwrap();
    let mut rest = 0;
    assert_eq!(filled(&s, &mut |n| rest += n).unwrap(), Filled::Full);
    assert_eq!((rest, stats(&s).written, stats(&s).entries), (90, 120, 120));
    assert_eq!(verified(&s).unwrap(), 32);
}

#[test]
fn more_views_keep_those_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let s = session(&sets(dir.path(), &["kd"], 1)).unwrap();
    filled(&s, &mut |_| {}).unwrap();
    drop(s);
    let s = session(&sets(dir.path(), &["kd"], 4)).unwrap();
    assert_eq!((stats(&s).written, stats(&s).entries, stats(&s).pays_from()), (40, 160, 4));
}

#[test]
fn a_damaged_entry_is_computed_again() {
    let dir = tempfile::tempdir().unwrap();
    let sets = sets(dir.path(), &["uhkd"], 1);
    let (undamaged, _) = trained(&session(&sets).unwrap(), &dir.path().join("first"));
    let s = session(&sets).unwrap();
    let path = stats(&s).folder.join(&files(&s, "signal-", ".rows")[0]);
    let whole = fs::read(&path).unwrap();
    let row = whole.len() / 40;
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for place in [3, 7 * row + 11, 7 * row + 12] {
        file.write_all_at(&[whole[place] ^ 0xff], place as u64).unwrap();
    }
    let (weights, _) = trained(&s, &dir.path().join("second"));
    let again = fs::read(&path).unwrap();
    // A row computed in a smaller batch may differ in the last bit of its bfloat16 values.
    let differing = again.iter().zip(&whole).filter(|(a, b)| a.abs_diff(**b) > 1).count();
    assert!(differing < row / 20, "{differing} of {row} bytes differ");
    for (name, t) in &undamaged {
        let distance = (t - &weights[name]).abs().max().to_kind(Kind::Double).double_value(&[]);
        assert!(distance < 1e-2, "{name}: {distance}");
    }
}

#[test]
fn an_entry_of_something_else_ends_the_run_before_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let sets = sets(dir.path(), &["kd"], 1);
    let s = session(&sets).unwrap();
    filled(&s, &mut |_| {}).unwrap();
    // All rows are shifted by one image, with matching checksums.
    let [path, sums] = ["logits.rows", "logits.sums"].map(|name| stats(&s).folder.join(name));
    for (path, row) in [(&path, 40), (&sums, 4)] {
        let mut bytes = fs::read(path).unwrap();
        bytes.rotate_left(row);
        fs::write(path, bytes).unwrap();
    }
    drop(s);
    let s = session(&sets).unwrap();
    let run = folder(&dir.path().join("run"), &s);
    let error = fit(&s, &run, false, &NEVER, &mut |_: &Event| {}).unwrap_err().to_string();
    for part in ["view 0 of image", "differs", "remove the folder"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_cache_follows_what_its_entries_depend_on_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let base = sets(dir.path(), &["uhkd"], 1);
    let with = |more: &[&str]| stats(&session(&with(dir.path(), &["uhkd"], 1, more)).unwrap()).folder;
    let own = with(&[]);
    for same in [
        &["methods.uhkd.beta=3.0"][..],
        &["methods.uhkd.weight=0.5"],
        &["methods.uhkd.k=3"],
        &["methods.lfcc={}"],
        &["train.batch=5"],
        &["optim.lr=0.5"],
        &["teacher.cache.views=2"],
    ] {
        assert_eq!(with(same), own, "{same:?}");
    }
    let others = [
        &["data.augment.flip=0.5"][..],
        &["seed=1"],
        &["teacher.precision='bf16'"],
        &["teacher.mean=[0.1,0.1,0.1]"],
        &["data.per_class=5"],
    ];
    let mut folders: Vec<_> = others.iter().map(|other| with(other)).chain([own]).collect();
    // The run's seed also selects the images of a subset. With all images, or with a separate seed for the selection,
    // it does not affect the views.
    let whole = |seed: &str| with(&["data.per_class=", "data.holdout=0", "teacher.cache.seed=0", seed]);
    assert_eq!(whole("seed=1"), whole("seed=2"));
    let subset = |choice: &str, seed: &str| with(&["teacher.cache.seed=0", choice, seed]);
    assert_eq!(subset("data.seed=5", "seed=1"), subset("data.seed=5", "seed=2"));
    assert_ne!(subset("data.seed=5", "seed=1"), subset("data.seed=6", "seed=1"));
    assert_eq!(subset("data.seed=1", "seed=1"), subset("data.per_class=4", "seed=1"));
    folders.sort();
    folders.dedup();
    assert_eq!(folders.len(), others.len() + 1);

    // Another teacher with the same name.
    let weights = teacher(dir.path(), 10);
    let (mut tensors, metadata) = file::read(weights.as_ref()).unwrap();
    let changed = &tensors["head.bias"] + Tensor::from(1e-3);
    tensors.insert("head.bias".to_owned(), changed);
    file::write(weights.as_ref(), tensors.iter().map(|(n, t)| (n.as_str(), t)), metadata).unwrap();
    assert!(!folders.contains(&stats(&session(&base).unwrap()).folder));
}

#[test]
fn methods_share_what_they_have_in_common_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let with = |methods: &[&str], more: &[&str]| session(&with(dir.path(), methods, 1, more)).unwrap();
    let hcd = with(&["kd", "hcd"], &[]);
    filled(&hcd, &mut |_| {}).unwrap();
    let logits = stats(&hcd).folder.join("logits.rows");
    let before = (fs::read(&logits).unwrap(), fs::metadata(&logits).unwrap().modified().unwrap());

    // The logits and the embedding are there; the spectra are not.
    for (methods, complete) in [(&["kd"][..], 40), (&["dkd", "ofa"], 40), (&["rsd"], 40), (&["uhkd"], 0)] {
        assert_eq!(stats(&with(methods, &[])).written, complete, "{methods:?}");
    }
    let uhkd = with(&["uhkd"], &[]);
    filled(&uhkd, &mut |_| {}).unwrap();
    assert_eq!(before, (fs::read(&logits).unwrap(), fs::metadata(&logits).unwrap().modified().unwrap()));
    assert_eq!(stats(&with(&["uhkd", "hcd"], &[])).written, 40);
    let columns = files(&uhkd, "signal-", ".rows").len();
    let other = with(&["uhkd"], &["methods.uhkd.representation='amplitude'"]);
    assert_eq!((stats(&other).folder, stats(&other).written), (stats(&uhkd).folder, 0));
    assert_eq!(files(&uhkd, "signal-", ".rows").len(), 2 * columns - 1);
    for name in files(&uhkd, "signal-", ".json") {
        let text = fs::read_to_string(stats(&uhkd).folder.join(name)).unwrap();
        assert!(text.contains("\"signal\"") && text.contains("\"shape\""), "{text}");
    }
}

#[test]
fn one_pass_of_the_teacher_serves_the_methods_of_several_recipes() {
    let dir = tempfile::tempdir().unwrap();
    let read = |methods: &[&str], more: &[&str]| {
        let sets = with(dir.path(), methods, 2, more);
        (sets.clone(), plan(&sets).unwrap())
    };
    let all = [
        read(&["kd"], &[]),
        read(&["uhkd"], &[]),
        read(&["uhkd", "kd"], &["methods.uhkd.weight=0.3", "optim.lr=0.1", "train.epochs=7"]),
        read(&["uhkd"], &["methods.uhkd.k=3"]),
        read(&["lfcc"], &[]),
        read(&["hcd"], &["methods.hcd.detach_sub=false"]),
        read(&["hcd"], &["methods.hcd.detach_sub=true"]),
    ];
    let names = |plan: &Plan| plan.methods.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
    let (sets, plans): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let mut joined = together(plans);
    assert_eq!(joined.len(), 1);
    let one = joined.remove(0);
    // The third recipe's methods differ in weights alone.
    assert_eq!(names(&one), ["kd", "uhkd-1", "uhkd-2", "lfcc-3", "hcd-4", "hcd-5"]);

    // Alone, before anything is stored; then from what the joint pass has stored.
    let alone = |cache: &str, s: &[String], out: &str| {
        let mut s = s.to_vec();
        s.push(format!("teacher.cache.path='{}'", dir.path().join(cache).display()));
        trained(&session(&s).unwrap(), &dir.path().join(out))
    };
    let (apart, _) = alone("own", &sets[3], "apart");
    let s = Session::build(one, &NEVER).unwrap();
    filled(&s, &mut |_| {}).unwrap();
    for sets in &sets {
        let stats = stats(&session(sets).unwrap());
        assert_eq!(stats.written, stats.entries, "{sets:?}");
    }
    let (joint, _) = alone("cache", &sets[3], "joint");
    for (name, t) in &joint {
        // The last bits of a value depend on what else its batch's product has.
        let distance = (t - &apart[name]).abs().max().to_kind(Kind::Double).double_value(&[]);
        assert!(distance < 1e-4, "{name}: {distance}");
    }

    for other in [&["student.model='wrn_16_1'"][..], &["seed=1"], &["data.augment.flip=0.5"], &["train.batch=20"]] {
        assert_eq!(together(vec![read(&["kd"], &[]).1, read(&["uhkd"], other).1]).len(), 2, "{other:?}");
    }
}

#[test]
fn what_cannot_be_cached_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let says = |sets: &[String], parts: &[&str]| {
        let Err(error) = session(sets) else { panic!("{sets:?} was taken") };
        let error = error.to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    let mut mixed = sets(dir.path(), &["kd"], 1);
    mixed.push("data.mix={mixup=0.2}".to_owned());
    says(&mixed, &["teacher.cache", "mixed image"]);
    says(&sets(dir.path(), &["kd"], 0), &["teacher.cache.views", "at least 1"]);
    says(&sets(dir.path(), &["kd"], u32::MAX), &["GB", "fewer views"]);
    let mut student = taught_by(&teacher(dir.path(), 10), &["kd"]);
    student.push("student.cache={views=1}".to_owned());
    says(&student, &["student.cache", "applies to the teacher only"]);
}
