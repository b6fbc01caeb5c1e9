//! Everything that goes wrong between a server and a disk. After each fault, the next fetch without it succeeds.
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use heterodyne_hub::{Error, Settings, fetch_with};

use crate::server::{Fault, etag};
use crate::world::{World, large, small, tree, usual, weights};

/// Fetches with the fault, and then without; returns the error of the first.
fn recovers(world: &World, fault: Fault) -> String {
    world.hub.set(fault);
    let error = world.tiny().unwrap_err().to_string();
    assert!(error.contains("timm/tiny"), "{error}");
    let model = etag(&large("model.safetensors"));
    let whole = tree(&world.settings.cache)
        .iter()
        .any(|path| path.ends_with(&format!("blobs/{model}")) && !path.contains(".partial"));
    assert!(!whole, "{fault:?} left a file under its final name");
    assert!(!world.repository().join("refs/main").exists());
    world.hub.set(Fault::None);
    let files = world.tiny().unwrap();
    assert_eq!(fs::read(files.weights).unwrap(), weights());
    assert!(
        !tree(&world.settings.cache).iter().any(|path| path.contains(".part/") || path.ends_with(".part")),
        "a part is left over"
    );
    error
}

fn impatient() -> World {
    let mut world = World::new(&usual());
    world.settings.timeout = Duration::from_millis(400);
    world
}

#[test]
fn a_cut_body_is_gone_on_with() {
    let world = World::new(&usual());
    let error = recovers(&world, Fault::Cut(100_000));
    assert!(error.contains("of 300000 bytes") && error.contains("model.safetensors"), "{error}");
    let ranges: Vec<String> =
        world.hub.requests().iter().filter_map(|r| r.header("range").map(str::to_owned)).collect();
    assert!(ranges.iter().any(|range| range != "bytes=0-" && range != "bytes=0-0"), "it began again: {ranges:?}");
}

#[test]
fn a_server_without_ranges_costs_one_more_attempt() {
    let world = World::new(&usual());
    world.hub.set(Fault::Cut(100_000));
    world.tiny().unwrap_err();
    let error = recovers(&world, Fault::NoRanges);
    assert!(error.contains("more than the 300000 bytes"), "{error}");
}

#[test]
fn other_bytes_of_the_right_length_are_refused() {
    let error = recovers(&World::new(&usual()), Fault::OtherBytes);
    assert!(error.contains("SHA-256") && error.contains(&etag(&large("model.safetensors"))), "{error}");
}

/// The partial file of an earlier attempt was damaged on disk.
#[test]
fn a_damaged_part_is_found_out() {
    let world = World::new(&usual());
    world.hub.set(Fault::Cut(100_000));
    world.tiny().unwrap_err();
    let part = tree(&world.settings.cache).into_iter().find(|path| path.ends_with(".part")).unwrap();
    let part = world.settings.cache.join(part);
    let length = fs::metadata(&part).unwrap().len();
    assert!(length > 0 && length < 300_000);
    fs::write(&part, vec![0; usize::try_from(length).unwrap()]).unwrap();
    assert!(recovers(&world, Fault::None).contains("SHA-256"));
}

/// A partial file as long as the file, or longer: the process was killed between the last byte and the rename.
#[test]
fn an_overlong_part_is_discarded() {
    for length in [300_000, 400_000] {
        let world = World::new(&usual());
        world.hub.set(Fault::Cut(100_000));
        world.tiny().unwrap_err();
        let part = tree(&world.settings.cache).into_iter().find(|path| path.ends_with(".part")).unwrap();
        fs::write(world.settings.cache.join(part), vec![0; length]).unwrap();
        world.hub.set(Fault::None);
        assert_eq!(fs::read(world.tiny().unwrap().weights).unwrap(), weights());
    }
}

#[test]
fn a_body_without_an_end_is_stopped() {
    let error = recovers(&World::new(&usual()), Fault::Endless);
    assert!(error.contains("more than the 300000 bytes"), "{error}");
}

#[test]
fn a_body_shorter_than_the_metadata_says() {
    let error = recovers(&World::new(&usual()), Fault::Larger);
    assert!(error.contains("300001 bytes"), "{error}");
}

#[test]
fn a_server_that_stops_in_the_middle() {
    let world = impatient();
    world.hub.set(Fault::Hang(100_000));
    let begin = Instant::now();
    let error = world.tiny().unwrap_err().to_string();
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(error.contains("sent nothing for 0.4 s") && error.contains("model.safetensors"), "{error}");
    assert!(!world.repository().join("blobs").join(etag(&large("model.safetensors"))).exists());
}

#[test]
fn a_server_that_never_answers() {
    let error = recovers(&impatient(), Fault::Silent);
    assert!(error.contains("sent nothing"), "{error}");
    // A server that accepts the connection and never answers.
    let (mut world, mute) = (impatient(), TcpListener::bind("127.0.0.1:0").unwrap());
    world.settings.endpoint = format!("http://{}", mute.local_addr().unwrap());
    assert!(matches!(world.tiny().unwrap_err(), Error::Stalled { .. }));
}

#[test]
fn nobody_listens() {
    let mut world = World::new(&usual());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.settings.endpoint = format!("http://{free}");
    let error = world.tiny().unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    let error = error.to_string();
    for part in [free.to_string().as_str(), "HF_HUB_OFFLINE=1", "copy the file"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn no_such_repository_and_no_such_revision() {
    let world = World::new(&usual());
    let error = world.fetch("hf-hub:nobody/nothing").unwrap_err().to_string();
    assert!(error.contains("no such repository") && error.contains("set HF_TOKEN") && error.contains("401"), "{error}");
    let error = world.fetch("hf-hub:timm/tiny@nowhere").unwrap_err();
    assert!(matches!(error, Error::NoRevision { .. }) && error.to_string().contains("@nowhere"));
    world.hub.set(Fault::ListStatus(404));
    assert!(matches!(world.tiny().unwrap_err(), Error::NoRepository { status: 404, .. }));
    assert!(!world.settings.cache.exists(), "nothing is written for a missing repository");
}

#[test]
fn statuses() {
    let world = World::new(&usual());
    for (fault, part) in [
        (Fault::ListStatus(500), "status 500"),
        (Fault::ListStatus(429), "status 429"),
        (Fault::ListStatus(403), "HF_TOKEN"),
        (Fault::Status(403), "accept the terms"),
        (Fault::Status(401), "accept the terms"),
        (Fault::Status(404), "answers 404"),
        (Fault::Status(503), "status 503"),
    ] {
        world.hub.set(fault);
        let error = world.tiny().unwrap_err().to_string();
        assert!(error.contains(part), "{fault:?}: {error}");
    }
}

#[test]
fn no_weights() {
    let world = World::new(&[small("config.json"), large("model.onnx")]);
    let error = world.tiny().unwrap_err().to_string();
    assert!(error.contains("model.safetensors, then model.safetensors.index.json, then pytorch_model.bin"), "{error}");
}

#[test]
fn answers_that_no_hub_gives() {
    for (fault, part) in [
        (Fault::ListText("<html>"), "list of files is damaged"),
        (Fault::ListText("{\"sha\":\"../..\",\"siblings\":[]}"), "has no commit"),
        (Fault::EtagPath, "etag"),
        (Fault::EtagNone, "etag"),
        (Fault::OtherCommit, "another commit"),
        (Fault::NoLocation, "is not that of a Hub"),
    ] {
        let world = World::new(&usual());
        let error = recovers(&world, fault);
        assert!(error.contains(part) && error.contains("HF_ENDPOINT"), "{fault:?}: {error}");
        assert!(!tree(world.folder.path()).iter().any(|path| path.contains("escaped")));
    }
}

#[test]
fn a_cache_that_is_a_file() {
    let mut world = World::new(&usual());
    world.settings.cache = world.folder.path().join("file");
    fs::write(&world.settings.cache, b"").unwrap();
    let error = world.tiny().unwrap_err();
    assert!(matches!(error, Error::Cache { .. }));
    assert!(error.to_string().contains("HF_HOME") && error.to_string().contains("/file"), "{error}");
}

/// A truncated blob, as another program leaves it on a full disk, is downloaded again.
#[test]
fn a_short_blob_is_replaced() {
    let world = World::new(&usual());
    let blob = world.repository().join("blobs").join(etag(&large("model.safetensors")));
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(&blob, b"short").unwrap();
    assert_eq!(fs::read(world.tiny().unwrap().weights).unwrap(), weights());
}

/// The lock is Python's: while another process holds it, the fetch waits.
#[test]
fn a_held_lock_is_waited_for() {
    let world = World::new(&usual());
    let locks = world.settings.cache.join(".locks/models--timm--tiny");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join(format!("{}.lock", etag(&large("model.safetensors"))))).unwrap();
    lock.lock().unwrap();
    std::thread::scope(|scope| {
        let fetch =
            scope.spawn(|| fetch_with(&Settings::clone(&world.settings), &"hf-hub:timm/tiny".parse().unwrap(), |_| {}));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!fetch.is_finished());
        lock.unlock().unwrap();
        fetch.join().unwrap().unwrap();
    });
}
