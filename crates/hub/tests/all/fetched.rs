//! Downloads that go well.
use std::fs;
use std::path::Path;

use heterodyne_hub::{Name, Settings, Token, fetch_with};

use crate::server::{COMMIT, Fault, OLDER, Served, etag};
use crate::world::{World, large, small, tree, usual, weights};

#[test]
fn the_first_fetch_leaves_the_layout_of_python() {
    let world = World::new(&usual());
    let files = world.tiny().unwrap();
    assert_eq!(fs::read(&files.weights).unwrap(), weights());
    assert_eq!(fs::read(files.config.unwrap()).unwrap(), small("config.json").bytes);
    assert_eq!(files.commit, COMMIT);
    let (config, model) = (etag(&small("config.json")), etag(&large("model.safetensors")));
    let mut expected = vec![
        format!("models--timm--tiny/blobs/{config}"),
        format!("models--timm--tiny/blobs/{model}"),
        "models--timm--tiny/refs/main".to_owned(),
        format!("models--timm--tiny/snapshots/{COMMIT}/config.json -> ../../blobs/{config}"),
        format!("models--timm--tiny/snapshots/{COMMIT}/model.safetensors -> ../../blobs/{model}"),
        format!(".locks/models--timm--tiny/{config}.lock"),
        format!(".locks/models--timm--tiny/{model}.lock"),
    ];
    expected.sort();
    assert_eq!(tree(&world.settings.cache), expected);
    assert!(!world.repository().join(".partial").exists());
    assert_eq!(fs::read_to_string(world.repository().join("refs/main")).unwrap(), COMMIT);
    assert_eq!(files.weights, world.repository().join("snapshots").join(COMMIT).join("model.safetensors"));
}

#[test]
fn the_second_fetch_asks_for_the_commit_and_for_no_file() {
    let world = World::new(&usual());
    let first = world.tiny().unwrap();
    assert!(world.hub.requests().len() > 1);
    assert_eq!(world.tiny().unwrap(), first);
    let paths: Vec<String> = world.hub.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/api/models/timm/tiny/revision/main"]);
}

#[test]
fn a_full_commit_in_the_cache_needs_no_server() {
    let world = World::new(&usual());
    let name = format!("hf-hub:timm/tiny@{COMMIT}");
    let first = world.fetch(&name).unwrap();
    assert!(!world.repository().join("refs").exists(), "a commit needs no reference");
    world.hub.requests();
    assert_eq!(world.fetch(&name).unwrap(), first);
    assert!(world.hub.requests().is_empty());
}

#[test]
fn a_branch_with_a_slash_and_a_tag() {
    let world = World::new(&usual());
    for (revision, reference) in [("a/b", "refs/a/b"), ("v1", "refs/v1")] {
        assert_eq!(world.fetch(&format!("hf-hub:timm/tiny@{revision}")).unwrap().commit, COMMIT);
        assert_eq!(fs::read_to_string(world.repository().join(reference)).unwrap(), COMMIT);
    }
}

/// Another commit with the same weights: the blob is here already.
#[test]
fn the_same_bytes_of_another_commit_are_not_downloaded_again() {
    let world = World::new(&usual());
    world.tiny().unwrap();
    let mut calls = 0;
    let name: Name = format!("hf-hub:timm/tiny@{OLDER}").parse().unwrap();
    let files = fetch_with(&world.settings, &name, |_| calls += 1).unwrap();
    assert_eq!((calls, files.commit.as_str()), (0, OLDER));
    assert_eq!(fs::read(files.weights).unwrap(), weights());
}

#[test]
fn the_older_format_where_the_newer_is_absent() {
    let world = World::new(&[small("config.json"), large("pytorch_model.bin")]);
    let files = world.tiny().unwrap();
    assert_eq!(files.weights.file_name(), Some("pytorch_model.bin".as_ref()));
    assert_eq!(fs::read(files.weights).unwrap(), weights());
}

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

fn index(shards: [&str; 2]) -> Served {
    let text = format!(
        "{{\"metadata\": {{}}, \"weight_map\": {{\"a\": \"{}\", \"b\": \"{}\", \"c\": \"{0}\"}}}}",
        shards[0], shards[1]
    );
    Served { bytes: text.into_bytes(), ..small(INDEX) }
}

#[test]
fn the_shards_of_an_index_come_with_it() {
    let world = World::new(&[
        small("config.json"),
        small("preprocessor_config.json"),
        index(SHARDS),
        large(SHARDS[0]),
        large(SHARDS[1]),
    ]);
    let files = world.tiny().unwrap();
    assert_eq!(files.weights.file_name(), Some(INDEX.as_ref()));
    assert!(files.processor.as_ref().unwrap().is_file());
    for shard in SHARDS {
        assert_eq!(fs::read(files.weights.with_file_name(shard)).unwrap(), weights());
    }
    let offline = || fetch_with(&world.offline(), &"hf-hub:timm/tiny".parse().unwrap(), |_| {});
    assert_eq!(offline().unwrap(), files);
    fs::remove_file(files.weights.with_file_name(SHARDS[1])).unwrap();
    assert!(offline().unwrap_err().to_string().contains(SHARDS[1]));
    // Missing files are requested again.
    assert_eq!(world.tiny().unwrap(), files);
    offline().unwrap();
}

#[test]
fn an_index_that_lists_what_is_not_there_or_lies_elsewhere_is_refused() {
    let refused = |files: &[Served]| World::new(files).tiny().unwrap_err().to_string();
    let text = refused(&[index(SHARDS), large(SHARDS[0])]);
    assert!(text.contains(SHARDS[1]) && text.contains(INDEX), "{text}");
    let text = refused(&[index([SHARDS[0], "../../refs/main"]), large(SHARDS[0])]);
    assert!(text.contains("`../../refs/main`"), "{text}");
    let text = refused(&[small(INDEX)]);
    assert!(text.contains("is not an index of shards"), "{text}");
}

/// transformers' description of a model: a full commit is complete only with the description of its images.
#[test]
fn what_is_said_of_images_is_asked_for_where_it_may_be_missing() {
    let config = Served { bytes: br#"{"model_type": "vit"}"#.to_vec(), ..small("config.json") };
    let world = World::new(&[config, small("preprocessor_config.json"), large("model.safetensors")]);
    let name = format!("hf-hub:timm/tiny@{COMMIT}");
    let files = world.fetch(&name).unwrap();
    fs::remove_file(files.processor.as_ref().unwrap()).unwrap();
    assert_eq!(world.fetch(&name).unwrap(), files);
    assert!(files.processor.unwrap().is_file());
}

#[test]
fn no_configuration_is_no_error() {
    let world = World::new(&[large("model.safetensors")]);
    assert_eq!(world.tiny().unwrap().config, None);
}

#[test]
fn progress_rises_to_the_size() {
    let world = World::new(&usual());
    let mut seen = Vec::new();
    fetch_with(&world.settings, &"hf-hub:timm/tiny".parse().unwrap(), |p| {
        seen.push((p.file.to_owned(), p.done, p.total))
    })
    .unwrap();
    let model: Vec<_> = seen.iter().filter(|(file, ..)| file == "model.safetensors").collect();
    assert!(model.iter().all(|(.., total)| *total == 300_000) && model.is_sorted_by_key(|(_, done, _)| *done));
    assert_eq!(model.last().unwrap().1, 300_000);
}

#[test]
fn a_weak_etag_names_the_same_blob() {
    let world = World::new(&usual());
    world.hub.set(Fault::EtagWeak);
    world.tiny().unwrap();
    assert!(world.repository().join("blobs").join(etag(&large("model.safetensors"))).is_file());
}

#[test]
fn the_token_is_sent_as_a_header_and_kept_nowhere() {
    let world = World::new(&usual());
    world.hub.demand("hf_secret");
    let error = world.tiny().unwrap_err().to_string();
    assert!(error.contains("HF_TOKEN") && error.contains("private"), "{error}");

    let settings = Settings { token: Token::new(" hf_secret\n").unwrap(), ..world.settings.clone() };
    assert!(!format!("{settings:?}").contains("secret"));
    world.hub.requests();
    fetch_with(&settings, &"hf-hub:timm/tiny".parse().unwrap(), |_| {}).unwrap();
    let requests = world.hub.requests();
    for request in &requests {
        let elsewhere = request
            .headers
            .iter()
            .filter(|(name, _)| name != "authorization")
            .any(|(_, value)| value.contains("secret"));
        assert!(!request.path.contains("secret") && !elsewhere, "{request:?}");
        if request.header("host").unwrap().starts_with("127.0.0.1") {
            assert_eq!(request.header("authorization"), Some("Bearer hf_secret"));
        } else if request.header("range") != Some("bytes=0-0") {
            assert_eq!(
                request.header("authorization"),
                None,
                "the body comes from another host, which is not the token's"
            );
        }
    }
    for path in files_below(world.folder.path()) {
        assert!(!String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("hf_secret"), "{}", path.display());
    }
    assert!(Token::new("a\nb").unwrap_err().to_string().find("a\nb").is_none());
    assert_eq!(Token::new(" \n").unwrap(), None);
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    tree(folder).iter().filter(|path| !path.contains(" -> ")).map(|path| folder.join(path)).collect()
}

/// Two threads, one file: the lock lets the second thread find the first one's download.
#[test]
fn two_at_once_download_once() {
    let world = World::new(&[Served { name: "model.safetensors", bytes: weights(), large: true }]);
    std::thread::scope(|scope| {
        let both = [scope.spawn(|| world.tiny().unwrap()), scope.spawn(|| world.tiny().unwrap())];
        for one in both {
            assert_eq!(fs::read(one.join().unwrap().weights).unwrap(), weights());
        }
    });
    let bodies = world
        .hub
        .requests()
        .into_iter()
        .filter(|r| r.path.starts_with("/large/") && r.header("range") == Some("bytes=0-"));
    assert_eq!(bodies.count(), 1);
}
