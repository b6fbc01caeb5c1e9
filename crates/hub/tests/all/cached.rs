//! Offline: the cache alone.
use std::fs;

use heterodyne_hub::{Files, Name, cached, fetch_with};

use crate::server::COMMIT;
use crate::world::{World, usual};

fn get(world: &World, name: &str) -> Result<Files, String> {
    fetch_with(&world.offline(), &name.parse::<Name>().unwrap(), |_| {}).map_err(|e| e.to_string())
}

#[test]
fn what_was_fetched_is_found_offline_and_nothing_is_asked() {
    let world = World::new(&usual());
    let online = world.tiny().unwrap();
    world.hub.requests();
    for name in ["hf-hub:timm/tiny", "hf-hub:timm/tiny@main", &format!("hf_hub:timm/tiny@{COMMIT}")] {
        assert_eq!(get(&world, name).unwrap(), online);
    }
    assert!(world.hub.requests().is_empty());
}

#[test]
fn the_cache_is_listed_with_commits_that_need_no_request() {
    let world = World::new(&usual());
    assert!(cached(&world.settings, "timm/").is_empty());
    let online = world.tiny().unwrap();
    // Begun, but without weights.
    fs::create_dir_all(world.settings.cache.join("models--timm--torn.in1k/refs")).unwrap();
    fs::write(world.settings.cache.join("models--timm--torn.in1k/refs/main"), COMMIT).unwrap();
    world.hub.requests();
    let names = cached(&world.settings, "timm/");
    assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), [format!("hf-hub:timm/tiny@{COMMIT}")]);
    assert_eq!(fetch_with(&world.settings, &names[0], |_| {}).unwrap(), online);
    assert!(cached(&world.settings, "timm/tiny.").is_empty() && world.hub.requests().is_empty());
}

#[test]
fn what_is_missing_is_named_with_the_way_to_get_it() {
    let world = World::new(&usual());
    let error = get(&world, "hf-hub:timm/tiny").unwrap_err();
    for part in ["refs/main", "HF_HUB_OFFLINE", "models--timm--tiny", "hf-hub:timm/tiny"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = get(&world, &format!("hf-hub:timm/tiny@{COMMIT}")).unwrap_err();
    assert!(error.contains("model.safetensors or pytorch_model.bin") && error.contains(COMMIT), "{error}");
    assert!(world.hub.requests().is_empty() && !world.settings.cache.exists());

    world.tiny().unwrap();
    assert!(get(&world, "hf-hub:timm/tiny@other").unwrap_err().contains("refs/other"));
}

/// Written by hand in the layout of Python's library, with a line break after the commit, as an editor may leave it.
#[test]
fn a_cache_of_python_is_found() {
    let world = World::new(&[]);
    let repository = world.repository();
    let snapshot = repository.join("snapshots").join(COMMIT);
    for folder in [&snapshot, &repository.join("blobs"), &repository.join("refs/refs/pr")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(repository.join("blobs/aa"), b"weights").unwrap();
    std::os::unix::fs::symlink("../../blobs/aa", snapshot.join("pytorch_model.bin")).unwrap();
    fs::write(repository.join("refs/refs/pr/1"), format!("{COMMIT}\n")).unwrap();
    let files = get(&world, "hf-hub:timm/tiny@refs/pr/1").unwrap();
    assert_eq!(
        files,
        Files { config: None, processor: None, weights: snapshot.join("pytorch_model.bin"), commit: COMMIT.into() }
    );

    // A link whose blob is gone is not a file; a reference that is not a commit is ignored and cannot lead out of the
    // cache.
    fs::remove_file(repository.join("blobs/aa")).unwrap();
    assert!(get(&world, "hf-hub:timm/tiny@refs/pr/1").unwrap_err().contains("is not in the cache"));
    fs::write(repository.join("refs/main"), "../../elsewhere").unwrap();
    assert!(get(&world, "hf-hub:timm/tiny").unwrap_err().contains("refs/main"));
}
